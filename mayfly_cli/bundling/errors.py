"""The error of a build."""

__all__ = ["BundleError"]


class BundleError(Exception):
    """A folder cannot be built. The text says why, and what to do."""
