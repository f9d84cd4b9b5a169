"""Who may call, and as which tenant."""

from mayfly.core.errors import StoreUnavailable
from mayfly.tenants.model import ApiKey
from mayfly.tenants.rules import must_note_use, read_credential, verify
from mayfly.tenants.store import TenantStore

__all__ = ["authenticate", "note_use"]


def authenticate(authorization: str, store: TenantStore, *, now_ms: int) -> ApiKey:
    """The key that an Authorization header proves.

    Raises Unauthenticated, or StoreUnavailable when nothing is known.
    """
    credential = read_credential(authorization)
    return verify(credential, store.find_key(credential.key_id), now_ms=now_ms)


def note_use(found: ApiKey, store: TenantStore, *, now_ms: int) -> bool:
    """Notes when a key was used, with one write an hour at most.

    Returns False where that failed: no reason to refuse its holder.
    """
    before_ms = must_note_use(found, now_ms)
    if before_ms is None:
        return True
    try:
        store.note_use(found.key_id, now_ms, unless_after_ms=before_ms)
    except StoreUnavailable:
        return False
    return True
