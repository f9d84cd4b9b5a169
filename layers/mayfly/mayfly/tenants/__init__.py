"""Who may call, and as which tenant."""

from mayfly.tenants.model import ApiKey
from mayfly.tenants.rules import ALL_SCOPES, mint, read_credential, verify
from mayfly.tenants.store import TenantStore

__all__ = ["ALL_SCOPES", "ApiKey", "TenantStore", "authenticate", "mint"]


def authenticate(authorization: str, store: TenantStore) -> ApiKey:
    """The key that an Authorization header proves. Raises Unauthenticated, or StoreUnavailable when nothing is known."""
    credential = read_credential(authorization)
    return verify(credential, store.find_key(credential.key_id))
