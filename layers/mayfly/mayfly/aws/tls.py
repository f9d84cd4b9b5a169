"""The TLS contexts of all connections of this process."""

import ssl
from functools import cache
from pathlib import Path
from typing import Final

from mayfly.core.errors import ConfigError

__all__ = ["AMAZON_ROOTS", "context"]

#: The file with Amazon's roots. Certificates of AWS's services have one of them, and five take less
#: time to read than the hundred and more of a system.
AMAZON_ROOTS: Final = str(Path(__file__).with_name("amazon_roots.pem"))


@cache
def context(bundle: str | None) -> ssl.SSLContext:
    """Returns a context that trusts the certificates in a file, or those of the system.

    `bundle` is the file, for example AWS_CA_BUNDLE. Reading certificates takes longer than anything
    else in a first request, so it happens once. Raises ConfigError.
    """
    try:
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError) as problem:
        raise ConfigError([f"AWS_CA_BUNDLE {bundle!r} cannot be read: {problem}"]) from problem
