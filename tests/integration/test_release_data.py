"""Data of each release, as `tests/releases` has it, is served by this checkout after an update.

The release's own template and code make the tables, and its items are put into them. Their times
are moved to now.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mayfly.core.clock import system_clock

from mayfly_testing.stack import ROOT, Stack, wait_until
from tests.integration.test_updates import RELEASES, THIS, Application, kill, pass_time
from tests.releases.make import load

#: Tasks of the release's jobs. Each run counts.
TASKS = '''"""Tasks of the jobs in tests/releases."""

from mayfly import Effects, Job, task


@task("note", max_attempts=3)
def note(job: Job, effects: Effects) -> str:
    effects.increment("ran")
    return "done"


@task("call", max_attempts=3, exclusive=True)
def call(job: Job, effects: Effects) -> str:
    effects.increment("ran")
    return "done"
'''
RUN_HERE = ("note", "call")
ENDED = {"COMPLETED": "succeeded", "DEAD": "dead", "CANCELLED": "cancelled"}
DAY = 24 * 3600


class Data:
    """The items of a release, with its times moved to now."""

    def __init__(self, version: str) -> None:
        folder = ROOT / "tests" / "releases" / version
        expected = json.loads((folder / "expected.json").read_text())
        self.ahead_ms = system_clock() - expected["read_at_ms"]
        self.cases = expected["cases"]
        self.tables = {
            table: [self._moved(item) for item in items]
            for table, items in load(folder)["tables"].items()
        }
        jobs = [item for item in self.tables["JobsTable"] if item.get("sk") == {"S": "job"}]
        self.ended = [item for item in jobs if item["status"]["S"] in ENDED]
        self.live = [
            item
            for item in jobs
            if item["status"]["S"] not in ENDED and item["task"]["S"] in RUN_HERE
        ]
        self.payloads = [
            item
            for item in self.tables["JobsTable"]
            if item.get("sk", {}).get("S", "").startswith("payload/")
        ]

    def of(self, kind: str) -> dict[str, tuple[Any, Any]]:
        """Returns the cases of a kind by name: how to read a thing, and what the release read."""
        return {
            case["name"]: (case["of"], case["gives"]) for case in self.cases if case["kind"] == kind
        }

    def _moved(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._later(value) for name, value in item.items()}

    def _later(self, value: Any) -> Any:
        number = int(value["N"]) if set(value) == {"N"} else 0
        if 1_700_000_000_000 < number < 2_000_000_000_000:
            return {"N": str(number + self.ahead_ms)}
        if 1_700_000_000 < number < 2_000_000_000:
            return {"N": str(number + self.ahead_ms // 1000)}
        return value


def put(stack: Stack, table: str, items: list[dict[str, Any]]) -> None:
    client, name = stack.client("dynamodb"), stack.facts["resources"][table]
    for item in items:
        client.put_item(TableName=name, Item=item)


def call(stack: Stack, credential: str, path: str, **headers: str) -> tuple[int, Any]:
    reply = stack.http("GET", path, headers={"Authorization": f"Bearer {credential}", **headers})
    return reply.status_code, reply.json()


def check_sessions(stack: Stack, data: Data, keys: Mapping[str, str]) -> None:
    for name, (of, gives) in data.of("session").items():
        token = {"Session-Token": of["token"]}
        status, body = call(stack, keys[of["tenant"]], "/sessions/current", **token)
        if "error" in gives:
            assert (name, status, body["code"]) == (name, 404, gives["error"])
        else:
            assert (name, status, body["data"]) == (name, 200, gives["data"])


def run(stack: Stack, data: Data) -> None:
    """Puts jobs that have not ended, with the messages that they wait for, and lets time pass."""
    now = {"N": str(system_clock())}
    url = stack.facts["resources"]["JobsQueue"]
    for item in data.live:
        if "due" not in item and "not_before" in item:
            item["not_before"] = now
        if "lease_until" in item:
            item["lease_until"] = now
        put(stack, "JobsTable", [item])
        if item["status"]["S"] in ("RETRY", "INPROGRESS"):
            body = json.dumps({"tenant": item["tenant"]["S"], "id": item["id"]["S"]})
            stack.client("sqs").send_message(QueueUrl=url, MessageBody=body)
    pass_time(stack, 400 * DAY)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", RELEASES)
def test_data_of_a_release_is_served_after_its_stack_was_updated(
    tmp_path: Path, version: str
) -> None:
    application, data = Application(tmp_path), Data(version)
    application.install(version)
    with application.running() as stack:
        for table in ("SessionsTable", "CountersTable", "TenantsTable", "EndpointsTable"):
            put(stack, table, data.tables[table])
        put(stack, "JobsTable", [*data.ended, *data.payloads])
        kill(stack)
    application.install(THIS)
    (application.code / "functions" / "tasks" / "of_releases.py").write_text(TASKS)
    with application.running() as stack:
        credentials = data.of("key")
        for name, (of, gives) in credentials.items():
            status, _ = call(stack, of["credential"], "/counters/any")
            assert (name, status == 401) == (name, "error" in gives)
        keys = {
            "default": stack.key,
            "acme": credentials["unused"][0]["credential"],
            "team:a@b+c": credentials["of another tenant"][0]["credential"],
        }
        check_sessions(stack, data, keys)
        for name, (of, gives) in data.of("counter").items():
            status, body = call(stack, keys[of["tenant"]], f"/counters/{quote(of['name'])}")
            value = int(body.get("value_text", body["value"]))
            assert (name, status, value) == (name, 200, gives)
        for item in data.ended:
            status, body = call(stack, keys[item["tenant"]["S"]], f"/jobs/{item['id']['S']}")
            has_expired = int(item["expires_at"]["N"]) * 1000 < system_clock()
            shown = 404 if has_expired else ENDED[item["status"]["S"]]
            assert (status if has_expired else body["status"]) == shown, item
        run(stack, data)
        ran = dict.fromkeys(keys, 0)
        for item in data.live:
            tenant, path = item["tenant"]["S"], f"/jobs/{item['id']['S']}?wait=5"

            def ended(tenant: str = tenant, path: str = path) -> Any:
                body = call(stack, keys[tenant], path)[1]
                return body if body["status"] in ENDED.values() else None

            body = wait_until(ended, 90, what=f"the end of {item}")
            assert body["status"] == "succeeded" or "interrupted" in str(body["attempts"])
            ran[tenant] += body["status"] == "succeeded"
        assert sum(ran.values()) > 10
        for tenant, count in ran.items():
            assert call(stack, keys[tenant], "/counters/ran")[1]["value"] == count
