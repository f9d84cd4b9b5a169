"""API keys: their format, the stored fields, and the callers that they identify."""

from types import SimpleNamespace
from typing import Any

import pytest
from mayfly import tenants
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import new_secret
from mayfly.tenants import ApiKey, TenantStore, mint
from mayfly.tenants.errors import KeyNotFound, KeyUnreadable
from mayfly.tenants.items import key_item
from mayfly.tenants.rules import NOTED_EVERY_MS
from mayfly.web.errors import Unauthenticated

from mayfly_cli.keys import keys
from tests.support.fakes import FixedClock
from tests.support.faults import Faults

NOW = 1_800_000_000_000


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def store(dynamodb: Any, clock: FixedClock) -> TenantStore:
    return TenantStore(DynamoDB(dynamodb, pause=lambda attempt: None), "TenantsTable", clock=clock)


@pytest.fixture
def new_key(store: TenantStore) -> tuple[str, ApiKey]:
    text, key = mint("dev", "acme", frozenset({"jobs:read"}), now_ms=1, new_secret=new_secret)
    store.add_key(key)
    return text, key


def test_key_identifies_its_tenant_and_scopes(
    store: TenantStore, new_key: tuple[str, ApiKey]
) -> None:
    assert tenants.authenticate(store, f"Bearer {new_key[0]}") == new_key[1]
    # The scheme's case does not matter: RFC 9110, 11.1.
    assert tenants.authenticate(store, f"bearer {new_key[0]}") == new_key[1]


def test_stored_item_is_not_a_usable_key(dynamodb: Any, new_key: tuple[str, ApiKey]) -> None:
    secret = new_key[0].rsplit("_", 1)[1]
    stored = str(dynamodb.scan(TableName="TenantsTable")["Items"])
    assert new_key[1].key_id in stored
    assert secret not in stored
    assert secret[:-6] not in stored


def flipped(text: str, position: int) -> str:
    letters = list(text)
    letters[position] = "A" if letters[position] != "A" else "B"
    return "".join(letters)


@pytest.mark.parametrize("position", [-1, -10, 10])
def test_mistyped_key_is_rejected_without_a_read(
    new_key: tuple[str, ApiKey], position: int
) -> None:
    class Unread:
        def find_key(self, key_id: str) -> None:
            raise AssertionError("read")

    with pytest.raises(Unauthenticated, match="checksum"):
        tenants.authenticate(
            Unread(),  # type: ignore[arg-type]  # must not be used
            f"Bearer {flipped(new_key[0], position)}",
        )


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Basic abc", "Bearer mf_dev_short_short", "bearer\n"]
)
def test_header_without_a_key_is_rejected(store: TenantStore, header: str) -> None:
    with pytest.raises(Unauthenticated, match="holds no Mayfly key"):
        tenants.authenticate(store, header)


def test_unknown_key_and_wrong_secret_get_the_same_answer(
    store: TenantStore, new_key: tuple[str, ApiKey]
) -> None:
    unknown, _ = mint("dev", "acme", frozenset(), now_ms=1, new_secret=new_secret)
    forged, forged_key = mint(
        "dev",
        "acme",
        frozenset(),
        now_ms=1,
        new_secret=lambda _, length: (new_key[1].key_id * 9)[:length],
    )
    assert forged_key.key_id == new_key[1].key_id
    answers = []
    for text in (unknown, forged):
        with pytest.raises(Unauthenticated) as caught:
            tenants.authenticate(store, f"Bearer {text}")
        answers.append(str(caught.value))
    assert answers[0] == answers[1]


def made_with(store: TenantStore, tenant: str = "acme", **facts: Any) -> tuple[str, ApiKey]:
    text, key = mint(
        "dev", tenant, frozenset({"jobs:read"}), **{"now_ms": 1, "new_secret": new_secret, **facts}
    )
    store.add_key(key)
    return text, key


def test_key_is_refused_from_the_millisecond_of_its_expiry_before_ttl_deletes_it(
    store: TenantStore, clock: FixedClock
) -> None:
    text, key = made_with(store, expires_at_ms=NOW)
    clock.now_ms = NOW - 1
    assert tenants.authenticate(store, f"Bearer {text}") == key
    clock.now_ms = NOW
    with pytest.raises(Unauthenticated, match="has expired"):
        tenants.authenticate(store, f"Bearer {text}")


def test_only_the_holder_of_an_expired_key_learns_that_it_has_expired(store: TenantStore) -> None:
    _, key = made_with(store, expires_at_ms=1)
    forged, _ = mint(
        "dev", "acme", frozenset(), now_ms=1, new_secret=lambda _, length: (key.key_id * 9)[:length]
    )
    with pytest.raises(Unauthenticated, match="is not known"):
        tenants.authenticate(store, f"Bearer {forged}")


def test_expired_key_is_deleted_a_month_later(store: TenantStore, dynamodb: Any) -> None:
    made_with(store, expires_at_ms=NOW)
    (item,) = dynamodb.scan(TableName="TenantsTable")["Items"]
    assert int(item["expires_at"]["N"]) == NOW // 1000 + 30 * 24 * 3600


def test_revoked_key_is_unknown_immediately(
    store: TenantStore, new_key: tuple[str, ApiKey]
) -> None:
    store.revoke_key(new_key[1].key_id, "acme")
    with pytest.raises(Unauthenticated, match="is not known"):
        tenants.authenticate(store, f"Bearer {new_key[0]}")
    with pytest.raises(KeyNotFound):
        store.revoke_key(new_key[1].key_id, "acme")


def test_revocation_whose_answer_is_lost_is_done(
    store: TenantStore, new_key: tuple[str, ApiKey], faults: Faults
) -> None:
    faults.on("DeleteItem", "after")
    store.revoke_key(new_key[1].key_id, "acme")
    assert store.find_key(new_key[1].key_id) is None


def test_retried_revocation_of_another_tenants_key_is_not_found(
    store: TenantStore, new_key: tuple[str, ApiKey], faults: Faults
) -> None:
    faults.on("DeleteItem", "before")
    with pytest.raises(KeyNotFound):
        store.revoke_key(new_key[1].key_id, "other")


def test_tenant_can_neither_list_nor_end_nor_revoke_keys_of_another(
    store: TenantStore, new_key: tuple[str, ApiKey]
) -> None:
    assert store.list_keys("other") == []
    with pytest.raises(KeyNotFound):
        store.revoke_key(new_key[1].key_id, "other")
    with pytest.raises(KeyNotFound):
        store.end_key(new_key[1].key_id, "other", NOW)
    assert tenants.authenticate(store, f"Bearer {new_key[0]}") == new_key[1]


def test_keys_of_a_tenant_are_listed_oldest_first(store: TenantStore) -> None:
    keys = [made_with(store, now_ms=at)[1] for at in (3, 1, 2)]
    made_with(store, "other")
    assert store.list_keys("acme") == sorted(keys, key=lambda each: each.created_at_ms)


def test_end_of_a_key_never_prolongs_it(store: TenantStore) -> None:
    _, key = made_with(store, expires_at_ms=NOW)
    store.end_key(key.key_id, "acme", NOW + 1)
    assert store.find_key(key.key_id) == key
    store.end_key(key.key_id, "acme", NOW - 1)
    ended = store.find_key(key.key_id)
    assert ended is not None
    assert ended.expires_at_ms == NOW - 1


def test_use_of_a_key_is_noted_once_an_hour(
    store: TenantStore, clock: FixedClock, new_key: tuple[str, ApiKey], faults: Faults
) -> None:
    def use(at_ms: int) -> int | None:
        clock.now_ms = at_ms
        caller = tenants.authenticate(store, f"Bearer {new_key[0]}")
        assert tenants.note_use(store, caller)
        noted = store.find_key(caller.key_id)
        assert noted is not None
        return noted.last_used_at_ms

    assert [use(NOW), use(NOW + NOTED_EVERY_MS - 1), use(NOW + NOTED_EVERY_MS)] == [
        NOW,
        NOW,
        NOW + NOTED_EVERY_MS,
    ]
    assert faults.requests.count("UpdateItem") == 2


def test_use_is_noted_by_one_of_several_concurrent_processes(
    store: TenantStore, clock: FixedClock, new_key: tuple[str, ApiKey]
) -> None:
    assert tenants.note_use(store, new_key[1])
    # This process has read the key before the other one wrote.
    clock.now_ms = NOW + 5
    assert tenants.note_use(store, new_key[1])
    noted = store.find_key(new_key[1].key_id)
    assert noted is not None
    assert noted.last_used_at_ms == NOW


def test_note_of_a_use_does_not_restore_a_key_that_is_revoked_meanwhile(
    store: TenantStore, new_key: tuple[str, ApiKey]
) -> None:
    store.revoke_key(new_key[1].key_id, "acme")
    assert tenants.note_use(store, new_key[1])
    assert store.find_key(new_key[1].key_id) is None


def test_caller_is_admitted_if_the_use_of_its_key_cannot_be_noted(
    store: TenantStore, new_key: tuple[str, ApiKey], faults: Faults
) -> None:
    faults.refuse("UpdateItem", "ThrottlingException")
    assert tenants.note_use(store, new_key[1]) is False
    with pytest.raises(StoreUnavailable):
        store.note_use(new_key[1].key_id, NOW, unless_after_ms=0)


# ---------------------------------------------------------------- damaged records

DAMAGED: dict[str, dict[str, Any]] = {
    "created_at text": {"created_at": {"S": "x"}},
    "scopes number": {"scopes": {"N": "1"}},
    "valid_until text": {"valid_until": {"S": "x"}},
    "later release": {"v": {"N": "2"}},
}


@pytest.fixture(params=list(DAMAGED.values()), ids=list(DAMAGED))
def damaged(
    request: pytest.FixtureRequest, dynamodb: Any, store: TenantStore, new_key: tuple[str, ApiKey]
) -> str:
    """Returns the id of a key whose record cannot be read; the tenant has another one."""
    _, key = mint("dev", "acme", frozenset({"jobs:read"}), now_ms=5, new_secret=new_secret)
    item = {**key_item(key), **request.param}
    dynamodb.put_item(TableName="TenantsTable", Item=item)
    return key.key_id


def test_key_that_cannot_be_read_is_listed_with_its_reason_beside_the_others(
    store: TenantStore, new_key: tuple[str, ApiKey], damaged: str
) -> None:
    bad, good = store.list_keys("acme")
    assert (good, good.error) == (new_key[1], None)
    assert (bad.key_id, bad.tenant, bad.scopes, bad.secret_hash) == (
        damaged,
        "acme",
        frozenset(),
        "",
    )
    assert (bad.error or "").startswith("the record of this key cannot be read: ")


@pytest.mark.parametrize("as_json", [True, False])
def test_command_shows_a_key_that_cannot_be_read_and_revokes_it(
    store: TenantStore,
    new_key: tuple[str, ApiKey],
    damaged: str,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
) -> None:
    def call(name: str, **options: Any) -> list[str]:
        command: Any = keys.commands[name].callback
        target = SimpleNamespace(tenants=lambda: store)
        command.__wrapped__(target=target, tenant="acme", as_json=as_json, **options)
        return capsys.readouterr().out.splitlines()

    bad, good = call("list")[-2:]
    assert (damaged in bad, "cannot be read" in bad) == (True, True)
    assert (new_key[1].key_id in good, "cannot be read" in good) == (True, False)
    call("revoke", key_id=damaged)
    assert store.list_keys("acme") == [new_key[1]]


def test_key_that_cannot_be_read_is_found_with_its_reason(
    dynamodb: Any, store: TenantStore, new_key: tuple[str, ApiKey]
) -> None:
    item = {**key_item(new_key[1]), "created_at": {"S": "x"}}
    dynamodb.put_item(TableName="TenantsTable", Item=item)
    with pytest.raises(KeyUnreadable, match="cannot be read: KeyError: 'N'; revoke it"):
        store.find_key(new_key[1].key_id)
