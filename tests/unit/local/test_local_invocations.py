"""Requested invocations in the emulator: none is lost, and each is handed over once at a time."""

import asyncio
from typing import Any

from mayfly_local.emulator.arrivals import Arrivals
from mayfly_local.emulator.invocations import AT_ONCE, Invocations, run_of


class Rows(dict[tuple[Any, ...], bytes]):
    """The rows of a journal."""

    def note(self, key: tuple[Any, ...], value: bytes | None) -> None:
        """Keeps a row, or forgets it."""
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


def due(invocations: Invocations, *holding: str) -> list[dict[str, Any]]:
    return asyncio.run(invocations.due(holding, seconds=0))


def test_invocation_is_due_until_it_is_done() -> None:
    rows = Rows()
    invocations = Invocations(rows.note, Arrivals())
    name = invocations.add("F", '{"a": 1}')
    assert [(found["id"], found["event"]) for found in due(invocations)] == [(name, '{"a": 1}')]
    assert due(invocations, run_of(name, 0)) == []
    assert [found["id"] for found in due(invocations)] == [name]
    invocations.done(name)
    assert due(invocations) == []
    assert rows == {}


def test_invocation_is_a_row_before_the_response() -> None:
    rows = Rows()
    name = Invocations(rows.note, Arrivals()).add("F", "{}")
    assert list(rows) == [("invocation", name)]


def test_invocations_of_a_journal_run_after_a_restart_with_their_tries() -> None:
    rows = Rows()
    before = Invocations(rows.note, Arrivals())
    name = before.add("F", '"x"')
    before.again(name, tries=1, due=0.0)
    after = Invocations(Rows().note, Arrivals())
    after.restore({key[1]: value for key, value in rows.items()})
    assert [(found["id"], found["tries"]) for found in due(after)] == [(name, 1)]
    assert dict(after.rows()) == dict(rows)


def test_retry_is_not_due_before_its_time_and_is_another_run_then() -> None:
    async def scene() -> list[dict[str, Any]]:
        invocations = Invocations(Rows().note, Arrivals())
        name = invocations.add("F", "{}")
        (requested_at,) = (found["due"] for found in await invocations.due([], seconds=0))
        held = run_of(name, 0)
        waiting = asyncio.ensure_future(invocations.due([held], seconds=10))
        await asyncio.sleep(0)
        invocations.again(name, tries=1, due=requested_at + 0.2)
        assert await invocations.due([held], seconds=0) == []
        return await waiting

    assert [found["tries"] for found in asyncio.run(scene())] == [1]


def test_backlog_of_a_function_does_not_delay_another() -> None:
    invocations = Invocations(Rows().note, Arrivals())
    for _ in range(AT_ONCE + 5):
        invocations.add("Busy", "{}")
    invocations.add("Other", "{}")
    found = due(invocations)
    assert [one["function"] for one in found] == ["Busy"] * AT_ONCE + ["Other"]
    holding = [run_of(one["id"], 0) for one in found]
    assert due(invocations, *holding) == []
    invocations.done(found[0]["id"])
    assert [one["function"] for one in due(invocations, *holding)] == ["Busy"]


def test_caller_gets_the_reply_of_its_own_invocation() -> None:
    async def scene() -> tuple[Any, Any, Rows]:
        rows = Rows()
        invocations = Invocations(rows.note, Arrivals())
        calls = [
            asyncio.ensure_future(invocations.call("F", event, tail=True)) for event in ("1", "2")
        ]
        await asyncio.sleep(0)
        for found in await invocations.due([], seconds=1):
            assert found["reports"]
            assert found["tail"]
            invocations.answer(found["id"], {"payload": found["event"] * 2})
        replies = await asyncio.gather(*calls)
        assert await invocations.due([], seconds=0) == []
        return replies[0], replies[1], rows

    assert asyncio.run(scene()) == ({"payload": "11"}, {"payload": "22"}, {})


def test_call_is_forgotten_when_its_caller_leaves() -> None:
    async def scene() -> None:
        invocations = Invocations(Rows().note, Arrivals())
        call = asyncio.ensure_future(invocations.call("F", "1"))
        await asyncio.sleep(0)
        (found,) = await invocations.due([], seconds=0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        invocations.answer(found["id"], {"payload": "late"})
        assert await invocations.due([], seconds=0) == []

    asyncio.run(scene())


def test_stop_ends_the_wait_of_the_runtime() -> None:
    async def scene() -> list[dict[str, Any]]:
        arrivals = Arrivals()
        invocations = Invocations(Rows().note, arrivals)
        waiting = asyncio.ensure_future(invocations.due([], seconds=60))
        await asyncio.sleep(0)
        arrivals.close()
        return await asyncio.wait_for(waiting, 10)

    assert asyncio.run(scene()) == []
