"""Fails before it can be called."""

import no_such_module  # noqa: F401


def handler(event, context):
    """Is never reached."""
