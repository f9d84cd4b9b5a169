"""Lost answers and crashes at each call that changes which tokens open a session.

After an acknowledged rotation exactly one token opens the session. After a failed one, either the
old or the new token does; the test knows both, since it draws the secrets. After an acknowledged
end, no token opens it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mayfly import sessions
from mayfly.core.errors import StoreUnavailable
from mayfly.sessions.errors import SessionNotFound

from tests.support.faults import Faults, Killed
from tests.support.sessions import Sessions

KINDS = ["before", "after", "late", "throttle", "error", "kill", "kill after"]
#: Faults that let the call take effect, whatever answer its caller gets.
HAS_EFFECT = {"after", "late", "kill after"}
SUBJECTS = [(None, None), (None, "ada"), ("ada", None), ("ada", "ada"), ("ada", "grace")]


@pytest.fixture
def store(dynamodb: Any) -> Sessions:
    return Sessions(dynamodb)


@contextmanager
def failing() -> Iterator[list[bool]]:
    """Yields whether the block's work was acknowledged, in a list of one."""
    acknowledged = [False]
    try:
        yield acknowledged
        acknowledged[0] = True
    except (StoreUnavailable, Killed):
        pass


def opens(store: Sessions, token: str) -> bool:
    try:
        sessions.read(store, token, tenant="acme")
    except SessionNotFound:
        return False
    return True


def calls_of(faults: Faults, act: Callable[[], Any]) -> int:
    faults.requests.clear()
    act()
    return len(faults.requests)


def plan_at(number: int, kind: str, times: int) -> Callable[[str, int], str | None]:
    return lambda operation, n: kind if number <= n < number + times else None


@pytest.mark.parametrize("times", [1, 3])  # once, which the SDK retries, and until the SDK gives up
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after"), SUBJECTS)
@pytest.mark.parametrize("at", [1, 2])
def test_rotation_with_a_fault_leaves_exactly_one_token_that_opens(
    store: Sessions,
    faults: Faults,
    before: str | None,
    after: str | None,
    kind: str,
    times: int,
    at: int,
) -> None:
    old, _ = sessions.create(store, tenant="acme", subject=before)
    faults.requests.clear()
    faults.plan = plan_at(at, kind, times)
    with failing() as acknowledged:
        new, _ = sessions.rotate(store, old, tenant="acme", subject=after)
    faults.plan = lambda operation, number: None
    faults.arrive()
    if acknowledged[0]:
        assert (opens(store, old), opens(store, new)) == (False, True)
    else:
        subject = after or before
        place = old[4:37] if subject is None else store.partition("acme", subject) + old[-76:-44]
        would_be = f"mfs_{place}_{store.secrets.at(2)}"
        assert opens(store, old) != opens(store, would_be)
    if times == 1 and "kill" not in kind:
        assert acknowledged[0]  # one lost answer has no effect


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_acknowledged_end_all_has_ended_all_sessions(
    store: Sessions, faults: Faults, kind: str, times: int
) -> None:
    tokens = [sessions.create(store, tenant="acme", subject="ada")[0] for _ in range(2)]
    faults.requests.clear()
    faults.plan = plan_at(1, kind, times)
    with failing() as acknowledged:
        sessions.end_all(store, tenant="acme", subject="ada")
    faults.plan = lambda operation, number: None
    faults.arrive()
    has_effect = kind in HAS_EFFECT or acknowledged[0]
    assert [opens(store, token) for token in tokens] == [not has_effect] * 2
    assert opens(store, sessions.create(store, tenant="acme", subject="ada")[0])


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subject", [None, "ada"])
def test_end_whose_answer_is_lost_is_not_a_not_found(
    store: Sessions, faults: Faults, kind: str, times: int, subject: str | None
) -> None:
    token, _ = sessions.create(store, tenant="acme", subject=subject)
    faults.requests.clear()
    faults.plan = plan_at(1, kind, times)
    with failing() as acknowledged:
        sessions.end(store, token, tenant="acme")
    faults.plan = lambda operation, number: None
    faults.arrive()
    assert opens(store, token) != (kind in HAS_EFFECT or acknowledged[0])


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subject", [None, "ada"])
@pytest.mark.parametrize("at", [1, 2])
def test_patch_with_a_fault_is_applied_whole_or_not_at_all_and_once(
    store: Sessions, faults: Faults, kind: str, times: int, subject: str | None, at: int
) -> None:
    token, _ = sessions.create(store, tenant="acme", subject=subject, data={"n": 0})
    faults.requests.clear()
    faults.plan = plan_at(at, kind, times)
    with failing() as acknowledged:
        sessions.change(
            store, token, lambda data: {"n": data["n"] + 1, "m": data["n"] + 1}, tenant="acme"
        )
    faults.plan = lambda operation, number: None
    faults.arrive()
    session = sessions.read(store, token, tenant="acme")
    assert session.data in ([{"n": 1, "m": 1}] if acknowledged[0] else [{"n": 0}, {"n": 1, "m": 1}])
    assert session.version == 1 + session.data["n"]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subject", [None, "ada"])
def test_acknowledged_session_exists(
    store: Sessions, faults: Faults, kind: str, times: int, subject: str | None
) -> None:
    for at in (1, 2):
        faults.requests.clear()
        faults.plan = plan_at(at, kind, times)
        with failing() as acknowledged:
            token, _ = sessions.create(store, tenant="acme", subject=subject)
        faults.plan = lambda operation, number: None
        faults.arrive()
        if acknowledged[0]:
            assert opens(store, token)
        assert acknowledged[0] or times == 3 or "kill" in kind  # one lost answer has no effect


def test_keys_that_the_store_leaves_unprocessed_are_never_treated_as_absent(
    dynamodb: Any, store: Sessions
) -> None:
    """BatchGetItem may leave keys out.

    A generation treated as absent would restore the sessions that end-all has ended.
    """
    token, _ = sessions.create(store, tenant="acme", subject="ada")
    sessions.end_all(store, tenant="acme", subject="ada")
    left = [3]

    def leave_out(parsed: dict[str, Any], **_: Any) -> None:
        items = parsed["Responses"].get("SessionsTable", [])
        generations = [item for item in items if item["sk"] == {"S": "generation"}]
        if generations and left[0]:
            left[0] -= 1
            items.remove(generations[0])
            keys = [{"pk": generations[0]["pk"], "sk": generations[0]["sk"]}]
            parsed["UnprocessedKeys"] = {"SessionsTable": {"Keys": keys, "ConsistentRead": True}}

    dynamodb.meta.events.register("after-call.dynamodb.BatchGetItem", leave_out)
    assert not opens(store, token)
    assert left == [0]
    left[0] = 100
    with pytest.raises(StoreUnavailable):
        sessions.read(store, token, tenant="acme")
