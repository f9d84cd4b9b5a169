"""The TLS context of all connections of this process."""

import ssl
from functools import cache

__all__ = ["context"]


@cache
def context(bundle: str | None) -> ssl.SSLContext:
    """Returns a context that trusts the certificates in a file, or those of the system.

    `bundle` is AWS_CA_BUNDLE. Reading certificates takes longer than anything else in a first
    request, so it happens once.
    """
    return ssl.create_default_context(cafile=bundle)
