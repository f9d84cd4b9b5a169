"""Authentication of callers by their API keys."""

from mayfly.core import deadline
from mayfly.core.errors import StoreUnavailable
from mayfly.tenants.model import ApiKey
from mayfly.tenants.rules import must_note_use, read_credential, verify
from mayfly.tenants.store import TenantStore

__all__ = ["authenticate", "note_use"]


def authenticate(store: TenantStore, authorization: str) -> ApiKey:
    """Returns the API key in an Authorization header, if its secret is right.

    Raises Unauthenticated, or StoreUnavailable if the key could not be read.
    """
    credential = read_credential(authorization)
    return verify(credential, store.find_key(credential.key_id), now_ms=store.clock())


def note_use(store: TenantStore, api_key: ApiKey) -> bool:
    """Stores the time at which a key was used, with one write an hour at most.

    Returns False if the write failed, which is not a reason to refuse the caller.
    """
    now_ms = store.clock()
    before_ms = must_note_use(api_key, now_ms)
    if before_ms is None:
        return True
    try:
        with deadline.optional():
            store.note_use(api_key.key_id, now_ms, unless_after_ms=before_ms)
    except StoreUnavailable:
        return False
    return True
