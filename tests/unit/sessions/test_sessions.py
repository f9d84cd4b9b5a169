"""Sessions on moto: operations, deadlines, overlaps. `time` is the store's own clock."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mayfly import sessions
from mayfly.aws.dynamodb import RequestRefused
from mayfly.core.deadline import ANSWER_SECONDS, limited
from mayfly.core.errors import InvalidRequest, PayloadTooLarge, StoreUnavailable
from mayfly.sessions.errors import SessionNotFound, VersionConflict
from mayfly.sessions.model import Session
from mayfly.sessions.store import SessionRotated
from mayfly.sessions.wire import public

from tests.support.faults import Faults
from tests.support.sessions import UNSTORABLE, Sessions

IDLE, ABSOLUTE = 600, 3600


@pytest.fixture
def store(dynamodb: Any) -> Sessions:
    return Sessions(dynamodb)


def make(store: Sessions, subject: str | None = None, tenant: str = "acme", **more: Any) -> str:
    return sessions.create(
        store,
        tenant=tenant,
        subject=subject,
        **{"idle_seconds": IDLE, "absolute_seconds": ABSOLUTE, **more},
    )[0]


def read(store: Sessions, token: str, tenant: str = "acme") -> Session:
    return sessions.read(store, token, tenant=tenant)


def is_open(store: Sessions, token: str) -> bool:
    try:
        read(store, token)
    except SessionNotFound:
        return False
    return True


def put(store: Sessions, token: str, **data: Any) -> Session:
    return sessions.patch(store, token, data, tenant="acme")


def items(dynamodb: Any) -> list[dict[str, Any]]:
    return list(dynamodb.scan(TableName="SessionsTable")["Items"])


def alive(store: Sessions, dynamodb: Any) -> int:
    return len(
        [
            item
            for item in items(dynamodb)
            if "data" in item and int(item["idle_expires_at"]["N"]) > store.time.now_ms
        ]
    )


both = pytest.mark.parametrize("subject", [None, "ada@example.org"])


# ---------------------------------------------------------------- one session


@both
def test_session_is_read_by_its_token(store: Sessions, subject: str | None) -> None:
    token, session = sessions.create(
        store, tenant="acme", subject=subject, data={"a": [1, {"b": "ü"}]}
    )
    assert read(store, token) == session
    assert (session.version, session.subject, session.data) == (1, subject, {"a": [1, {"b": "ü"}]})
    assert (
        session.idle_expires_at_ms - session.created_at_ms,
        session.absolute_expires_at_ms - session.created_at_ms,
    ) == (1_800_000, 43_200_000)


@both
def test_stored_items_hold_no_token(store: Sessions, dynamodb: Any, subject: str | None) -> None:
    token = make(store, subject)
    assert token.rpartition("_")[2] not in str(items(dynamodb))
    assert "ada" not in token


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1] + ("x" if token[-1] != "x" else "y"),
        lambda token: token[:10] + ("0" if token[10] != "0" else "1") + token[11:],
        lambda token: token + "x",
        lambda token: "",
        lambda token: "mfs_a" + token,
        lambda token: token.replace("mfs_", "mfs-"),
        lambda token: "\N{GREEK SMALL LETTER ALPHA}" + token[1:],
    ],
)
@both
def test_another_token_opens_nothing(
    store: Sessions, subject: str | None, spoil: Callable[[str], str]
) -> None:
    token = make(store, subject)
    for verb in (sessions.read, sessions.end, sessions.rotate):
        with pytest.raises(SessionNotFound):
            verb(store, spoil(token), tenant="acme")
    assert is_open(store, token)


@both
def test_right_token_of_another_tenant_opens_nothing(store: Sessions, subject: str | None) -> None:
    token = make(store, subject)
    for verb in (sessions.read, sessions.end, sessions.rotate):
        with pytest.raises(SessionNotFound):
            verb(store, token, tenant="other")
    assert is_open(store, token)


def test_equal_subjects_of_two_tenants_have_nothing_in_common(store: Sessions) -> None:
    mine, theirs = make(store, "ada"), make(store, "ada", tenant="other")
    sessions.end_all(store, tenant="other", subject="ada")
    assert is_open(store, mine)
    with pytest.raises(SessionNotFound):
        read(store, theirs, tenant="other")
    assert len(sessions.list_by_subject(store, tenant="acme", subject="ada").sessions) == 1


# ---------------------------------------------------------------- deadlines


@both
def test_unused_session_ends_at_its_idle_deadline_to_the_millisecond(
    store: Sessions, dynamodb: Any, subject: str | None
) -> None:
    token = make(store, subject)
    store.time.now_ms += IDLE * 1000 - 1
    assert is_open(store, token)  # and this use moves the deadline
    store.time.now_ms += IDLE * 1000
    assert not is_open(store, token)
    assert any("data" in item for item in items(dynamodb))  # TTL has not deleted anything yet


@both
def test_session_in_use_ends_at_its_absolute_deadline(store: Sessions, subject: str | None) -> None:
    token = make(store, subject)
    for _ in range(11):
        store.time.advance(300)
        assert is_open(store, token)
    store.time.now_ms += 300_000 - 1
    assert is_open(store, token)
    store.time.now_ms += 1
    assert not is_open(store, token)


@pytest.mark.parametrize(
    "use",
    [
        sessions.read,
        sessions.end,
        sessions.rotate,
        lambda store, token, tenant: put(store, token, a=1),
    ],
)
@both
def test_expired_session_is_absent_for_every_operation(
    store: Sessions, subject: str | None, use: Any
) -> None:
    token = make(store, subject)
    store.time.advance(IDLE)
    with pytest.raises(SessionNotFound):
        use(store, token, tenant="acme")


def test_expired_session_is_neither_listed_nor_ended_by_its_id(store: Sessions) -> None:
    make(store, "ada")
    (session,) = sessions.list_by_subject(store, tenant="acme", subject="ada").sessions
    store.time.advance(IDLE)
    assert sessions.list_by_subject(store, tenant="acme", subject="ada").sessions == []
    with pytest.raises(SessionNotFound):
        sessions.end_one(store, tenant="acme", subject="ada", session_id=session.id)


@both
def test_ttl_attribute_is_the_idle_deadline_rounded_up_to_seconds(
    store: Sessions, dynamodb: Any, subject: str | None
) -> None:
    store.time.now_ms += 1
    token = make(store, subject)

    def stored() -> tuple[int, int]:
        (item,) = [item for item in items(dynamodb) if "data" in item]
        return int(item["expires_at"]["N"]), int(item["idle_expires_at"]["N"])

    acts: list[Callable[[], Any]] = [
        lambda: None,
        lambda: read(store, token),
        lambda: put(store, token, a=1),
    ]
    for act in acts:
        store.time.advance(100)
        act()
        seconds, deadline_ms = stored()
        assert 0 < seconds * 1000 - deadline_ms < 1000
    assert stored()[1] == store.time.now_ms + IDLE * 1000


# ---------------------------------------------------------------- calls


@both
def test_read_is_one_call_without_a_write_until_a_tenth_of_the_idle_time_has_passed(
    store: Sessions, faults: Faults, subject: str | None
) -> None:
    token = make(store, subject)
    reading = "BatchGetItem" if subject else "GetItem"
    faults.requests.clear()
    store.time.now_ms += IDLE * 100 - 1
    read(store, token)
    assert faults.requests == [reading]
    store.time.now_ms += 1
    read(store, token)
    assert faults.requests == [reading, reading, "UpdateItem"]
    read(store, token)
    assert faults.requests == [reading, reading, "UpdateItem", reading]


@pytest.mark.parametrize(
    ("verb", "alone", "owned"),
    [
        ("patch", ["GetItem", "TransactWriteItems"], ["BatchGetItem", "TransactWriteItems"]),
        ("rotate", ["GetItem", "TransactWriteItems"], ["BatchGetItem", "TransactWriteItems"]),
        ("login", ["BatchGetItem", "TransactWriteItems"], ["BatchGetItem", "TransactWriteItems"]),
        ("end", ["DeleteItem"], ["DeleteItem"]),
        ("end_all", ["UpdateItem"], ["UpdateItem"]),
        ("list", ["Query"], ["Query"]),
    ],
)
@both
def test_each_operation_makes_these_calls(
    store: Sessions,
    faults: Faults,
    subject: str | None,
    verb: str,
    alone: list[str],
    owned: list[str],
) -> None:
    token = make(store, subject)
    faults.requests.clear()
    calls: dict[str, Callable[[], Any]] = {
        "patch": lambda: put(store, token, a=1),
        "rotate": lambda: sessions.rotate(store, token, tenant="acme"),
        "login": lambda: sessions.rotate(store, token, tenant="acme", subject="grace"),
        "end": lambda: sessions.end(store, token, tenant="acme"),
        "end_all": lambda: sessions.end_all(store, tenant="acme", subject="ada@example.org"),
        "list": lambda: sessions.list_by_subject(store, tenant="acme", subject="ada@example.org"),
    }
    calls[verb]()
    assert faults.requests == (owned if subject else alone)


def test_failed_touch_does_not_fail_the_read(store: Sessions, faults: Faults) -> None:
    token = make(store)
    store.time.advance(IDLE / 2)
    faults.refuse("UpdateItem", "ProvisionedThroughputExceededException")
    before = read(store, token)
    faults.plan = lambda operation, number: None
    # The next use moves it.
    assert read(store, token).idle_expires_at_ms == before.idle_expires_at_ms + IDLE * 500


def test_touch_without_permission_is_an_error(store: Sessions, faults: Faults) -> None:
    token = make(store)
    store.time.advance(IDLE / 2)
    faults.refuse("UpdateItem", "AccessDeniedException")
    with pytest.raises(RequestRefused):
        read(store, token)


# ---------------------------------------------------------------- patches


@both
def test_patch_merges_and_raises_the_version(store: Sessions, subject: str | None) -> None:
    token = make(store, subject, data={"a": {"b": 1, "c": 2}, "d": [1]})
    assert put(store, token, a={"b": None, "e": 3}, d=[2]).data == {"a": {"c": 2, "e": 3}, "d": [2]}
    assert (read(store, token).version, read(store, token).data) == (
        2,
        {"a": {"c": 2, "e": 3}, "d": [2]},
    )


@pytest.mark.parametrize(
    ("before", "after"), [(True, 1), (1, True), (1, 1.0), ([0], [False]), ({"a": False}, {"a": 0})]
)
@both
def test_patch_that_changes_only_the_type_is_a_change(
    store: Sessions, subject: str | None, before: Any, after: Any
) -> None:
    token = make(store, subject, data={"x": before})
    put(store, token, x=after)
    assert repr(read(store, token).data) == repr({"x": after})


@both
def test_patch_that_changes_nothing_is_a_use(store: Sessions, subject: str | None) -> None:
    token = make(store, subject, data={"a": 1})
    for _ in range(3):
        store.time.advance(IDLE - 1)
        put(store, token, a=1)
    assert read(store, token).version == 1


@pytest.mark.parametrize("value", [value for value, _ in UNSTORABLE.values()], ids=list(UNSTORABLE))
@both
def test_value_that_is_not_json_is_rejected_by_its_key(
    store: Sessions, subject: str | None, value: Any
) -> None:
    data = {"fine": 1, "bad": value}
    with pytest.raises(InvalidRequest, match="data: 'bad' is not JSON"):
        make(store, subject, data=data)
    token = make(store, subject)
    for act in (
        lambda: sessions.change(store, token, lambda _: data, tenant="acme"),
        lambda: sessions.patch(store, token, data, tenant="acme"),
        lambda: sessions.rotate(store, token, tenant="acme", edit=lambda _: data),
    ):
        with pytest.raises(InvalidRequest, match="data: 'bad' is not JSON"):
            act()
    assert read(store, token).version == 1


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_page_of_no_sessions_is_rejected(store: Sessions, limit: int) -> None:
    with pytest.raises(InvalidRequest, match="limit: must be a whole number"):
        sessions.list_by_subject(store, "ada", tenant="acme", limit=limit)


def test_session_whose_end_has_no_date_does_not_break_the_list(store: Sessions) -> None:
    """Release 0.2.0 stored any lifetime."""
    session = read(store, make(store, "ada"))
    endless = replace(session, absolute_expires_at_ms=10**16)
    assert public(endless)["absolute_expires_at"] == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize("subject", ["", "a b", "a/b", "é", "x" * 129])
def test_subject_that_cannot_be_listed_is_rejected(store: Sessions, subject: str) -> None:
    token = make(store)
    for act in (
        lambda: make(store, subject),
        lambda: sessions.rotate(store, token, tenant="acme", subject=subject),
    ):
        with pytest.raises(InvalidRequest, match="subject"):
            act()


def test_patch_that_changes_nothing_writes_nothing(store: Sessions, faults: Faults) -> None:
    token = make(store, data={"a": 1})
    faults.requests.clear()
    assert put(store, token, a=1, b=None).version == 1
    assert faults.requests == ["GetItem"]


@both
def test_patch_is_a_use(store: Sessions, subject: str | None) -> None:
    token = make(store, subject)
    store.time.advance(IDLE - 1)
    put(store, token, a=1)
    store.time.advance(IDLE - 1)
    assert is_open(store, token)


@both
def test_patch_of_another_version_is_refused(store: Sessions, subject: str | None) -> None:
    token = make(store, subject)
    put(store, token, a=1)
    with pytest.raises(VersionConflict):
        sessions.patch(store, token, {"a": 2}, tenant="acme", if_match=frozenset({"1", "3"}))
    assert (
        sessions.patch(store, token, {"a": 2}, tenant="acme", if_match=frozenset({"2"})).version
        == 3
    )


@pytest.mark.parametrize("size", [0, 1])
def test_data_may_be_as_large_as_its_limit(store: Sessions, size: int) -> None:
    token = make(store)
    text = "x" * (256 * 1024 - len('{"t":""}') + size)
    if size:
        with pytest.raises(PayloadTooLarge):
            put(store, token, t=text)
    else:
        assert put(store, token, t=text).version == 2


class Overlap:
    """Runs a function between the read of one operation and its write."""

    def __init__(self, store: Sessions, other: Callable[[], Any], times: int = 1) -> None:
        self._real = store.replace
        self._other, self._times = other, times
        store.replace = self  # type: ignore[method-assign]  # an interleaving, not a fake

    def __call__(self, before: Session, after: Session, *, now_ms: int) -> None:
        if self._times:
            self._times -= 1
            self._other()
        self._real(before, after, now_ms=now_ms)


@both
def test_two_overlapping_patches_of_different_keys_are_both_applied(
    store: Sessions, dynamodb: Any, subject: str | None
) -> None:
    token = make(store, subject)
    Overlap(store, lambda: put(Sessions(dynamodb, prefix="other"), token, b=2))
    assert put(store, token, a=1).data == {"a": 1, "b": 2}
    assert (read(store, token).data, read(store, token).version) == ({"a": 1, "b": 2}, 3)


@both
def test_patch_with_a_version_is_refused_after_an_overlapping_one(
    store: Sessions, dynamodb: Any, subject: str | None
) -> None:
    token = make(store, subject)
    Overlap(store, lambda: put(Sessions(dynamodb, prefix="other"), token, b=2))
    with pytest.raises(VersionConflict):
        sessions.patch(store, token, {"a": 1}, tenant="acme", if_match=frozenset({"1"}))
    assert read(store, token).data == {"b": 2}


@both
def test_slow_patch_after_logout_is_refused_and_leaves_nothing(
    store: Sessions, dynamodb: Any, subject: str | None
) -> None:
    token = make(store, subject)
    Overlap(store, lambda: sessions.end(store, token, tenant="acme"))
    with pytest.raises(SessionNotFound):
        put(store, token, a=1)
    assert items(dynamodb) == []


@pytest.mark.parametrize("generation", [0, 1])
def test_slow_patch_after_end_all_is_refused_and_changes_nothing(
    store: Sessions, dynamodb: Any, generation: int
) -> None:
    for _ in range(generation):
        sessions.end_all(store, tenant="acme", subject="ada")
    token = make(store, "ada")
    before = [item for item in items(dynamodb) if "data" in item]
    Overlap(store, lambda: sessions.end_all(store, tenant="acme", subject="ada"))
    with pytest.raises(SessionNotFound):
        put(store, token, a=1)
    assert [item for item in items(dynamodb) if "data" in item] == before


@both
def test_slow_patch_of_a_rotated_token_is_refused(store: Sessions, subject: str | None) -> None:
    token = make(store, subject)
    fresh: list[str] = []
    Overlap(store, lambda: fresh.append(sessions.rotate(store, token, tenant="acme")[0]))
    with pytest.raises(SessionNotFound):
        put(store, token, a=1)
    assert read(store, fresh[0]).data == {}


@both
def test_late_patch_does_not_restore_an_expired_session(
    store: Sessions, dynamodb: Any, subject: str | None
) -> None:
    token = make(store, subject)
    store.time.advance(IDLE - 1)
    other = Sessions(dynamodb, clock=store.time, prefix="other")

    def wait() -> None:
        store.time.advance(2)
        assert not is_open(other, token)

    Overlap(store, wait)
    with pytest.raises(SessionNotFound):
        put(store, token, a=1)
    assert not is_open(store, token)


def test_late_touch_does_not_restore_an_expired_session(store: Sessions) -> None:
    token = make(store)
    session = read(store, token)
    now_ms = store.time.now_ms + IDLE * 1000 - 1
    store.time.advance(IDLE)
    assert store.touch(session, now_ms=now_ms) == session
    assert not is_open(store, token)


def test_late_touch_moves_no_deadline_back_and_restores_no_session(
    store: Sessions, dynamodb: Any
) -> None:
    token = make(store)
    session = read(store, token)
    put(store, token, a=1)
    sessions.end(store, token, tenant="acme")
    store.touch(session, now_ms=store.time.now_ms + 100_000)
    assert items(dynamodb) == []


def test_touch_after_a_later_one_moves_no_deadline_back(store: Sessions) -> None:
    token = make(store)
    session = read(store, token)
    store.time.advance(200)
    store.touch(session, now_ms=store.time.now_ms)
    store.touch(session, now_ms=store.time.now_ms - 100_000)
    assert read(store, token).idle_expires_at_ms == store.time.now_ms + IDLE * 1000


def test_creation_does_not_replace_another_session(store: Sessions, dynamodb: Any) -> None:
    token = make(store, "ada", data={"a": 1})
    other = Sessions(dynamodb)  # draws the same ids
    other.new_nonce = lambda: "another"
    with pytest.raises(StoreUnavailable):
        make(other, "ada")
    assert read(store, token).data == {"a": 1}


def test_writer_that_always_gets_a_conflict_is_asked_to_retry(
    store: Sessions, dynamodb: Any
) -> None:
    token = make(store)
    other = Sessions(dynamodb, prefix="other")
    count = iter(range(1000))
    Overlap(store, lambda: put(other, token, b=next(count)), times=1000)
    with pytest.raises(StoreUnavailable, match="other writers"):
        put(store, token, a=1)
    assert len(store.pauses) == 29


def test_writer_does_not_wait_for_others_beyond_its_deadline(
    store: Sessions, dynamodb: Any
) -> None:
    token = make(store)
    other = Sessions(dynamodb, prefix="other")
    count = iter(range(1000))
    Overlap(store, lambda: put(other, token, b=next(count)), times=1000)
    left_ms = 1000 * (ANSWER_SECONDS + 0.1)  # pauses of 40 and 80 ms fit, one of 160 ms does not
    with (
        limited(round(left_ms), monotonic=lambda: 0.0),
        pytest.raises(StoreUnavailable, match="other writers"),
    ):
        put(store, token, a=1)
    assert store.pauses == [1, 2]


def test_transaction_that_conflicts_with_another_one_is_retried(
    store: Sessions, faults: Faults
) -> None:
    token = make(store, "ada")
    faults.on("TransactWriteItems", "conflict", times=3)
    assert put(store, token, a=1).version == 2
    assert len(store.pauses) == 3


# ---------------------------------------------------------------- rotation


@both
def test_rotated_session_is_open_under_its_new_token_only(
    store: Sessions, subject: str | None
) -> None:
    token = make(store, subject, data={"cart": [1]})
    before = read(store, token)
    fresh, after = sessions.rotate(store, token, tenant="acme")
    assert not is_open(store, token)
    assert read(store, fresh) == after
    assert (after.id, after.data, after.subject, after.version) == (
        before.id,
        {"cart": [1]},
        subject,
        2,
    )
    assert after.absolute_expires_at_ms == before.absolute_expires_at_ms


@pytest.mark.parametrize("before", [None, "grace"])
def test_login_keeps_the_session_and_restarts_its_absolute_deadline(
    store: Sessions, dynamodb: Any, before: str | None
) -> None:
    token = make(store, before, data={"cart": [1]})
    store.time.advance(500)
    fresh, after = sessions.rotate(store, token, tenant="acme", subject="ada")
    assert not is_open(store, token)
    assert (after.subject, after.data, after.absolute_expires_at_ms) == (
        "ada",
        {"cart": [1]},
        store.time.now_ms + ABSOLUTE * 1000,
    )
    assert [
        session.id
        for session in sessions.list_by_subject(store, tenant="acme", subject="ada").sessions
    ] == [after.id]
    assert alive(store, dynamodb) == 1
    sessions.end_all(store, tenant="acme", subject="ada")
    assert not is_open(store, fresh)


def test_session_may_return_to_a_subject_that_it_left(store: Sessions, dynamodb: Any) -> None:
    token = make(store, "ada")
    for subject in ("grace", "ada", "grace"):
        token, _ = sessions.rotate(store, token, tenant="acme", subject=subject)
    assert read(store, token).subject == "grace"
    assert alive(store, dynamodb) == 1


def test_rotation_to_the_same_subject_does_not_prolong_the_session(store: Sessions) -> None:
    token = make(store, "ada")
    before = read(store, token)
    store.time.advance(500)
    _, after = sessions.rotate(store, token, tenant="acme", subject="ada")
    assert after.absolute_expires_at_ms == before.absolute_expires_at_ms


@pytest.mark.parametrize("subject_after", [None, "grace"])
@both
def test_rotated_token_is_distinguished_from_an_unknown_one_for_a_minute(
    store: Sessions, subject: str | None, subject_after: str | None
) -> None:
    token = make(store, subject)
    sessions.rotate(store, token, tenant="acme", subject=subject_after)
    for _ in range(2):
        with pytest.raises(SessionRotated):
            read(store, token)
        store.time.advance(59.999)
    with pytest.raises(SessionNotFound) as refusal:
        read(store, token)
    assert not isinstance(refusal.value, SessionRotated)


def test_login_after_an_end_all_starts_in_the_new_generation(store: Sessions) -> None:
    sessions.end_all(store, tenant="acme", subject="ada")
    assert is_open(store, make(store, "ada"))
    fresh, _ = sessions.rotate(store, make(store), tenant="acme", subject="ada")
    assert is_open(store, fresh)


def test_login_that_overlaps_an_end_all_starts_in_the_new_generation(store: Sessions) -> None:
    token = make(store)
    Overlap(store, lambda: sessions.end_all(store, tenant="acme", subject="ada"))
    fresh, _ = sessions.rotate(store, token, tenant="acme", subject="ada")
    assert is_open(store, fresh)


def test_login_from_a_session_that_an_end_all_ends_meanwhile_is_refused(
    store: Sessions, dynamodb: Any
) -> None:
    token = make(store, "ada")
    Overlap(store, lambda: sessions.end_all(store, tenant="acme", subject="ada"))
    with pytest.raises(SessionNotFound):
        sessions.rotate(store, token, tenant="acme", subject="grace")
    assert sessions.list_by_subject(store, tenant="acme", subject="grace").sessions == []


@pytest.mark.parametrize("subject_after", [None, "grace"])
@both
def test_one_of_two_overlapping_rotations_succeeds(
    store: Sessions, dynamodb: Any, subject: str | None, subject_after: str | None
) -> None:
    token = make(store, subject)
    won: list[str] = []
    other = Sessions(dynamodb, prefix="other")
    Overlap(
        store,
        lambda: won.append(sessions.rotate(other, token, tenant="acme", subject=subject_after)[0]),
    )
    with pytest.raises(SessionNotFound):
        sessions.rotate(store, token, tenant="acme", subject=subject_after)
    assert is_open(store, won[0])
    assert alive(store, dynamodb) == 1


# ---------------------------------------------------------------- ends


@both
def test_ended_session_is_gone(store: Sessions, dynamodb: Any, subject: str | None) -> None:
    token = make(store, subject)
    sessions.end(store, token, tenant="acme")
    assert not is_open(store, token)
    assert items(dynamodb) == []
    with pytest.raises(SessionNotFound):
        sessions.end(store, token, tenant="acme")


def test_end_all_ends_existing_sessions_and_no_later_ones(store: Sessions) -> None:
    olds = [make(store, "ada") for _ in range(3)]
    other, alone = make(store, "grace"), make(store)
    sessions.end_all(store, tenant="acme", subject="ada")
    new = make(store, "ada")
    assert [is_open(store, token) for token in [*olds, other, alone, new]] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    assert len(sessions.list_by_subject(store, tenant="acme", subject="ada").sessions) == 1


@pytest.mark.parametrize("back_s", [0, 3600, 400 * 24 * 3600])
def test_session_ended_by_end_all_stays_ended_under_any_clock(
    store: Sessions, dynamodb: Any, back_s: int
) -> None:
    token = make(store, "ada")
    sessions.end_all(store, tenant="acme", subject="ada")
    (generation,) = [
        item for item in items(dynamodb) if "generation" in item and "data" not in item
    ]
    assert "expires_at" not in generation  # TTL would restore generation 0
    store.time.advance(-back_s)
    assert not is_open(store, token)


def test_one_of_a_subjects_sessions_is_ended_by_its_id(store: Sessions) -> None:
    first, second = make(store, "ada"), make(store, "ada")
    session_id = read(store, first).id
    sessions.end_one(store, tenant="acme", subject="ada", session_id=session_id)
    assert [is_open(store, token) for token in (first, second)] == [False, True]
    for tenant, subject, wrong in (
        ("acme", "ada", session_id),
        ("other", "ada", read(store, second).id),
        ("acme", "grace", read(store, second).id),
        ("acme", "ada", "../x"),
        ("acme", "ada", "generation"),
    ):
        with pytest.raises(SessionNotFound):
            sessions.end_one(store, tenant=tenant, subject=subject, session_id=wrong)
    assert is_open(store, second)


def test_rotation_keeps_the_id_so_that_the_session_can_be_ended_from_the_list(
    store: Sessions,
) -> None:
    token = make(store, "ada")
    (listed,) = sessions.list_by_subject(store, tenant="acme", subject="ada").sessions
    fresh, _ = sessions.rotate(store, token, tenant="acme")
    sessions.end_one(store, tenant="acme", subject="ada", session_id=listed.id)
    assert not is_open(store, fresh)


def test_page_after_an_end_all_shows_no_session_from_before(store: Sessions) -> None:
    for _ in range(7):
        make(store, "ada")
    first = sessions.list_by_subject(store, tenant="acme", subject="ada", limit=3)
    sessions.end_all(store, tenant="acme", subject="ada")
    assert (
        sessions.list_by_subject(
            store, tenant="acme", subject="ada", limit=3, after=first.next
        ).sessions
        == []
    )


def test_end_of_a_rotated_token_that_the_sdk_retries_is_still_not_found(
    store: Sessions, faults: Faults
) -> None:
    token = make(store, "ada")
    fresh, _ = sessions.rotate(store, token, tenant="acme")
    faults.on("DeleteItem", "throttle")
    with pytest.raises(SessionNotFound):
        sessions.end(store, token, tenant="acme")
    assert is_open(store, fresh)


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("generation", [0, 1])
def test_pages_contain_every_session_once(
    store: Sessions, faults: Faults, generation: int, limit: int
) -> None:
    for _ in range(generation):
        make(store, "ada")
        sessions.end_all(store, tenant="acme", subject="ada")
    expected = sorted(read(store, make(store, "ada")).id for _ in range(7))
    listed, after, pages = [], None, 0
    faults.requests.clear()
    while True:
        page = sessions.list_by_subject(
            store, tenant="acme", subject="ada", limit=limit, after=after
        )
        listed += [session.id for session in page.sessions]
        pages, after = pages + 1, page.next
        if after is None:
            break
    assert listed == expected
    assert faults.requests == ["Query"] + ["Query", "GetItem"] * (pages - 1)
