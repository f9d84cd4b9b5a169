"""API keys: each authenticates a caller, with one tenant and some scopes."""

from mayfly.tenants.model import ApiKey
from mayfly.tenants.rules import ALL_SCOPES, mint
from mayfly.tenants.service import authenticate, identify, note_use
from mayfly.tenants.store import TenantStore

__all__ = ["ALL_SCOPES", "ApiKey", "TenantStore", "authenticate", "identify", "mint", "note_use"]
