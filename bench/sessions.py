"""The cost of each verb of sessions in calls and units: counts, equal on every machine."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from mayfly import resources, sessions

from bench.batch import make_stores
from bench.meter import metered
from mayfly_local.account import REGION
from mayfly_local.iam.credentials import FOREIGN
from mayfly_testing.stack import emulator

QUESTION = "how many store calls and units does each verb of sessions cost, everything within 1 KB?"


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns calls and units by verb, for a session with a subject and for one without."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as endpoint:
        os.environ.update(
            {
                **FOREIGN.variables,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
            }
        )
        make_stores(endpoint, Path(folder))
        with metered() as cost:
            store = resources.session_store(
                {"SESSIONS_TABLE": "SessionsTable", "SUBJECT_KEY": "bench"}
            )
            for subject in ("ada", None):
                whose = "with a subject" if subject else "without"

                def make(subject: str | None = subject, **more: Any) -> str:
                    return sessions.create(
                        store, tenant="t", subject=subject, data={"theme": "dark"}, **more
                    )[0]

                def touched(token: str) -> None:
                    ahead = store.clock
                    store.clock = lambda: ahead() + 200_000
                    try:
                        sessions.read(store, token, tenant="t")
                    finally:
                        store.clock = ahead

                verbs: list[tuple[str, Callable[[str], Any]]] = [
                    ("read", lambda token: sessions.read(store, token, tenant="t")),
                    ("read with a touch", touched),
                    ("patch", lambda token: sessions.patch(store, token, {"n": 1}, tenant="t")),
                    (
                        "patch that changes nothing",
                        lambda token: sessions.patch(store, token, {"theme": "dark"}, tenant="t"),
                    ),
                    ("rotate", lambda token: sessions.rotate(store, token, tenant="t")),
                    (
                        "rotate to another subject",
                        lambda token: sessions.rotate(store, token, tenant="t", subject="grace"),
                    ),
                    ("end", lambda token: sessions.end(store, token, tenant="t")),
                ]
                if subject:
                    verbs += [
                        (
                            "list, a page",
                            lambda _: sessions.list_by_subject(store, tenant="t", subject="ada"),
                        ),
                        ("end all", lambda _: sessions.end_all(store, tenant="t", subject="ada")),
                    ]
                cost.reset()
                make()
                _note(figures, say, f"{whose}: create", cost)
                for verb, act in verbs:
                    token = make()
                    cost.reset()
                    act(token)
                    _note(figures, say, f"{whose}: {verb}", cost)
        boto3.DEFAULT_SESSION = None
    return figures


def _note(figures: dict[str, Any], say: Callable[[str], None], what: str, cost: Any) -> None:
    figures |= {
        f"{what}: calls": sum(cost.calls.values()),
        f"{what}: read units": cost.read_units,
        f"{what}: write units": cost.write_units,
    }
    say(
        f"{what}: {', '.join(f'{count} {call}' for call, count in cost.calls.items())}; "
        f"{cost.read_units:g} read, {cost.write_units:g} write"
    )
