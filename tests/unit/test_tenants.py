"""API keys: their shape, what is stored of them, who they prove."""

from typing import Any

import pytest
from mayfly import tenants
from mayfly.errors import Unauthenticated
from mayfly.ids import new_secret
from mayfly.tenants import ApiKey, TenantStore, mint


@pytest.fixture
def store(dynamodb: Any) -> TenantStore:
    return TenantStore(dynamodb, "TenantsTable")


@pytest.fixture
def made(store: TenantStore) -> tuple[str, ApiKey]:
    text, key = mint("dev", "acme", frozenset({"jobs:read"}), now_ms=1, new_secret=new_secret)
    store.add_key(key)
    return text, key


def test_a_key_proves_its_tenant_and_scopes(store: TenantStore, made: tuple[str, ApiKey]) -> None:
    assert tenants.authenticate(f"Bearer {made[0]}", store) == made[1]
    assert tenants.authenticate(f"bearer {made[0]}", store) == made[1]  # the scheme's case does not matter: RFC 9110, 11.1


def test_nothing_stored_is_a_usable_key(dynamodb: Any, made: tuple[str, ApiKey]) -> None:
    secret = made[0].rsplit("_", 1)[1]
    stored = str(dynamodb.scan(TableName="TenantsTable")["Items"])
    assert made[1].key_id in stored
    assert secret not in stored
    assert secret[:-6] not in stored


def flipped(text: str, position: int) -> str:
    letters = list(text)
    letters[position] = "A" if letters[position] != "A" else "B"
    return "".join(letters)


@pytest.mark.parametrize("position", [-1, -10, 10])
def test_a_mistyped_key_is_refused_without_a_read(made: tuple[str, ApiKey], position: int) -> None:
    class Unread:
        def find_key(self, key_id: str) -> None:
            raise AssertionError("read")

    with pytest.raises(Unauthenticated, match="checksum"):
        tenants.authenticate(f"Bearer {flipped(made[0], position)}", Unread())  # type: ignore[arg-type]  # must not be used


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic abc", "Bearer mf_dev_short_short", "bearer\n"])
def test_a_header_without_a_key_is_refused(store: TenantStore, header: str) -> None:
    with pytest.raises(Unauthenticated, match="holds no Mayfly key"):
        tenants.authenticate(header, store)


def test_a_key_that_was_never_stored_and_a_wrong_secret_get_the_same_answer(store: TenantStore, made: tuple[str, ApiKey]) -> None:
    unknown, _ = mint("dev", "acme", frozenset(), now_ms=1, new_secret=new_secret)
    forged, forged_key = mint("dev", "acme", frozenset(), now_ms=1, new_secret=lambda _, length: (made[1].key_id * 9)[:length])
    assert forged_key.key_id == made[1].key_id
    said = []
    for text in (unknown, forged):
        with pytest.raises(Unauthenticated) as caught:
            tenants.authenticate(f"Bearer {text}", store)
        said.append(str(caught.value))
    assert said[0] == said[1]
