"""Authentication of callers by their API keys."""

from mayfly.core import deadline
from mayfly.core.errors import StoreUnavailable
from mayfly.core.observability import Observer
from mayfly.tenants.model import ApiKey
from mayfly.tenants.rules import must_note_use, read_credential, verify
from mayfly.tenants.store import TenantStore
from mayfly.web.access import Caller

__all__ = ["authenticate", "identify", "note_use"]


def identify(store: TenantStore, authorization: str, observe: Observer) -> Caller:
    """Returns the caller of an Authorization header, and stores the time of the key's use.

    Raises Unauthenticated, or StoreUnavailable if the key could not be read.
    """
    key = authenticate(store, authorization)
    if not note_use(store, key):
        observe.log.warning(
            "the time of a key's use could not be stored; its next use retries", key_id=key.key_id
        )
    return Caller(key.tenant, key.scopes)


def authenticate(store: TenantStore, authorization: str) -> ApiKey:
    """Returns the API key in an Authorization header, if its secret is right.

    A key that is mistyped or made up costs no read, since its checksum is wrong.
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
