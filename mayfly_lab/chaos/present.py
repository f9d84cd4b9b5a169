"""The contents of the stores after a run, by tenant; read around the API if possible."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from mayfly_lab.chaos.api import Answer, Api
from mayfly_lab.chaos.callers import LIMIT_POLICY
from mayfly_lab.chaos.ledger import CHAINED, EFFECTS, KEYED, LIMIT, PLAIN, Ledger
from mayfly_local.errors import LocalError
from mayfly_testing.stack import Stack

__all__ = ["Present", "StoredJob", "jobs_by_tenant", "messages_left", "present", "read"]

#: Tries of a read that the comparison needs, and seconds between two of them.
_TRIES: Final = 10
_PAUSE: Final = 0.5
_ENDED: Final = ("COMPLETED", "DEAD", "CANCELLED")


@dataclass(frozen=True)
class StoredJob:
    """A job in the table."""

    id: str
    task: str
    status: str
    payload: Any
    #: The error of its last attempt, or "".
    error: str = ""

    @property
    def is_ended(self) -> bool:
        """True if it has succeeded, died or been cancelled."""
        return self.status in _ENDED

    @property
    def is_sent_webhook(self) -> bool:
        """True if it is a webhook, and has succeeded."""
        return self.task == "http.deliver" and self.status == "COMPLETED"

    def effect_on(self, counter: str) -> int:
        """Returns its part of a counter: nothing unless it has succeeded."""
        is_counted = self.status == "COMPLETED" and self.payload.get("name") == counter
        return int(self.payload["by"]) if is_counted else 0


@dataclass
class Present:
    """The contents of the stores that belong to one tenant."""

    jobs: dict[str, StoredJob] = field(default_factory=dict)
    #: Values of counters by their names.
    counters: Counter[str] = field(default_factory=Counter)
    #: The answers to a read of each session, in the order of the ledger.
    sessions: list[Answer] = field(default_factory=list)
    #: The number of takes that the limit counts.
    taken: int = 0
    #: Ids of jobs whose webhooks have arrived, of all tenants.
    arrived: set[str] = field(default_factory=set)

    def effects_on(self, counter: str) -> int:
        """Returns the sum of what succeeded jobs add to a counter."""
        return sum(job.effect_on(counter) for job in self.jobs.values())


def present(
    stack: Stack, ledgers: dict[str, Ledger], keys: dict[str, str], arrived: set[str]
) -> dict[str, Present]:
    """Reads everything that a run has to compare. `arrived` has the webhooks of all tenants.

    Raises LocalError if something cannot be read.
    """
    found = {tenant: Present(jobs=jobs) for tenant, jobs in jobs_by_tenant(stack).items()}
    for item in stack.items("CountersTable"):
        tenant, _, name = item["pk"]["S"].partition("/")
        if name in (EFFECTS, CHAINED, KEYED, PLAIN) and "value" in item and tenant in ledgers:
            found.setdefault(tenant, Present()).counters[name] += int(item["value"]["N"])
    for tenant, ledger in ledgers.items():
        has, api = found.setdefault(tenant, Present()), Api(stack.port, keys[tenant])
        has.sessions = [
            read(api, "/sessions/current", token=session.token) for session in ledger.sessions
        ]
        query = urlencode({"key": tenant, **LIMIT_POLICY})
        limit = read(api, f"/limits/{LIMIT}?{query}")
        if limit.status != 200:
            raise LocalError(
                f"the limit of {tenant} cannot be compared: its read was answered {limit.status}"
            )
        has.arrived = arrived
        has.taken = LIMIT_POLICY["limit"] - int(limit.body["remaining"])
        api.close()
    return found


def read(
    api: Api, path: str, *, token: str | None = None, tries: int = _TRIES, pause: float = _PAUSE
) -> Answer:
    """Returns the answer to a GET, again if it is a failure of the store or of the connection.

    `pause` is in seconds. Raises LocalError if each try fails.
    """
    for number in range(tries):
        if number:
            time.sleep(pause)
        answer = api.send("GET", path, token=token)
        if not answer.is_unknown:
            return answer
    said = f"{answer.status} {answer.code}".rstrip() if answer.status else "not at all"
    raise LocalError(
        f"the comparison cannot read {path.partition('?')[0]}: {tries} requests in a row failed, "
        f"and the last one was answered {said}"
    )


def jobs_by_tenant(stack: Stack) -> dict[str, dict[str, StoredJob]]:
    """Reads all jobs from their table, by tenant and id."""
    found: dict[str, dict[str, StoredJob]] = {}
    for item in stack.items("JobsTable"):
        tenant, _, job_id = item["pk"]["S"].partition("/")
        if item["sk"]["S"] == "job":
            found.setdefault(tenant, {})[job_id] = StoredJob(
                job_id,
                item["task"]["S"],
                item["status"]["S"],
                json.loads(item.get("payload", {}).get("S", "null")) or {},
                item.get("error", {}).get("S", ""),
            )
    return found


def messages_left(stack: Stack) -> dict[str, int]:
    """Returns the number of messages on each queue of the template that has some."""
    client, left = stack.client("sqs"), {}
    for name, url in stack.facts["resources"].items():
        if not str(url).startswith("http") or "/" not in str(url):
            continue
        attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        count = sum(
            int(attributes[f"ApproximateNumberOfMessages{state}"])
            for state in ("", "NotVisible", "Delayed")
        )
        if count:
            left[name] = count
    return left
