"""Callers: threads that use the API of a stack as one tenant, and a producer of messages."""

import json
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly_lab.chaos.api import Answer, Api
from mayfly_lab.chaos.ledger import CHAINED, EFFECTS, KEYED, LIMIT, PLAIN, Ledger, Session
from mayfly_lab.chaos.site import Site

__all__ = ["LIMIT_POLICY", "Callers", "repeat_open_requests"]

#: The limit of each tenant. Its window is longer than a run, and no boundary of windows is near.
LIMIT_POLICY: Final[dict[str, Any]] = {
    "algorithm": "fixed",
    "limit": 300,
    "period_seconds": 366 * 24 * 3600,
}
_SESSIONS: Final = 40
#: Jobs of a caller that have not ended, at most.
_MOST_OPEN: Final = 30
#: Tasks by how often they come up.
_TASKS: Final = (
    *("counter.add", "chaos.exclusive", "chaos.chain") * 2, "http.deliver", "fail", "sleep",
)  # fmt: skip
#: Share of the jobs with one effect, and of the increments with a key, that go to the counter of
#: the increments without one. Both commit by a transaction, which those meet there.
_SHARED: Final = 0.5
_ENDED: Final = ("succeeded", "dead", "cancelled")
#: Seconds until a caller tries again after a request without an answer.
_PAUSE: Final = 0.05
#: Problems with these codes say that the store did not answer, or that an outcome is unknown.
_OUTAGE: Final = ("store-unavailable", "outcome-unknown", "")


class Callers:
    """Threads that put load on a stack until they are stopped; one tenant's each."""

    def __init__(
        self,
        site: Site,
        ledgers: dict[str, Ledger],
        keys: dict[str, str],
        *,
        webhooks_to: str,
        seed: int,
    ) -> None:
        self._site = site
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []
        for tenant, ledger in ledgers.items():
            for number in range(2):
                dice = random.Random(f"{seed}/{tenant}/{number}")  # noqa: S311 - a seed
                api = Api(site.port, keys[tenant])
                caller = _Caller(api, ledger, dice, self._ends, webhooks_to)
                self._start(caller.run)
        (self._first, *_) = ledgers.values()
        self._start(self._produce)

    def stop(self) -> None:
        """Ends the callers. Each finishes the request that it has sent."""
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _produce(self) -> None:
        """Sends messages to the queue, each until it is taken."""
        ledger = self._first
        while not self._ends.wait(2 * _PAUSE):
            key = uuid.uuid4().hex
            ledger.open_request(key, "", {"name": EFFECTS, "by": 1})
            while not send_message(self._site, ledger, key) and not self._ends.wait(_PAUSE):
                pass


class _Caller:
    def __init__(
        self,
        api: Api,
        ledger: Ledger,
        dice: random.Random,
        ends: threading.Event,
        webhooks_to: str,
    ) -> None:
        self._webhooks_to = webhooks_to
        self._api, self._ledger, self._dice, self._ends = api, ledger, dice, ends
        self._sessions: list[Session] = []
        #: Accepted jobs whose end this caller has not seen, the oldest first.
        self._jobs: deque[str] = deque()

    def run(self) -> None:
        """Sends one request after another."""
        acts: list[Callable[[], Answer]] = [
            self._submit, self._submit, self._submit, self._increment, self._increment_by_key,
            self._take, self._use_session, self._use_session,
        ]  # fmt: skip
        while not self._ends.is_set():
            answer = self._dice.choice(acts)()
            if answer.status == 0:
                self._ends.wait(_PAUSE)
        self._api.close()

    def _submit(self) -> Answer:
        if len(self._jobs) > _MOST_OPEN:
            # Otherwise it would take long after the storm until all jobs have ended.
            return self._await_job()
        by = self._dice.randrange(1, 9)
        task = self._dice.choice(_TASKS)
        payload: dict[str, Any] = {"name": EFFECTS, "by": by}
        match task:
            case "counter.add" | "chaos.exclusive" if self._dice.random() < _SHARED:
                payload["name"] = PLAIN
            case "chaos.chain":
                payload["then"] = CHAINED
            case "fail":
                payload = {"times": 1}
            case "sleep":
                payload = {"seconds": self._dice.choice([0, 0, 0.5, 3])}
            case "http.deliver":
                payload = {"url": self._webhooks_to}
        body: dict[str, Any] = {"task": task, "payload": payload, "max_attempts": 20}
        if self._dice.random() < 0.1:
            body["delay_seconds"] = self._dice.randrange(1, 4)
        answer = self._repeat("/jobs", body)
        if answer.status in (200, 202):
            self._jobs.append(answer.body["id"])
        return answer

    def _await_job(self) -> Answer:
        """Waits a while for a job; an accepted job can always be read."""
        job_id = self._jobs.popleft()
        answer = self._api.send("GET", f"/jobs/{job_id}?wait=1")
        check(self._ledger, answer, "GET of an accepted job")
        if answer.status != 200 or answer.body["status"] not in _ENDED:
            self._jobs.append(job_id)
        return answer

    def _increment_by_key(self) -> Answer:
        if self._dice.random() < _SHARED:
            return self._repeat(f"/counters/{PLAIN}/increment", {"by": 1})
        body = {"by": self._dice.randrange(1, 9)}
        return self._repeat(f"/counters/{KEYED}/increment", body)

    def _repeat(self, path: str, body: Any) -> Answer:
        key = uuid.uuid4().hex
        self._ledger.open_request(key, path, body)
        while True:
            answer = send_keyed(self._api, self._ledger, key, path, body)
            if not answer.is_unknown or self._ends.wait(_PAUSE):
                return answer

    def _increment(self) -> Answer:
        answer = self._api.send("POST", f"/counters/{PLAIN}/increment", {"by": 1})
        if answer.status == 200:
            self._ledger.add(plain=1)
        else:
            self._ledger.add(plain_unknown=1)
            check(self._ledger, answer, f"an increment of {PLAIN}")
        return answer

    def _take(self) -> Answer:
        body = {"key": self._ledger.tenant, **LIMIT_POLICY}
        answer = self._api.send("POST", f"/limits/{LIMIT}/take", body)
        match answer.status:
            case 200:
                self._ledger.add(admitted=1)
            case 429:
                self._ledger.add(refused=1)
            case _:
                self._ledger.add(takes_unknown=1)
                check(self._ledger, answer, "a take from the limit")
        return answer

    def _use_session(self) -> Answer:
        live = [session for session in self._sessions if not session.may_have_ended]
        if len(self._sessions) < _SESSIONS and (not live or self._dice.random() < 0.1):
            return self._begin()
        if not live:
            return self._increment_by_key()
        session = self._dice.choice(live)
        if len(live) > 3 and self._dice.random() < 0.1:
            session.may_have_ended = True
            answer = self._api.send("DELETE", "/sessions/current", token=session.token)
            session.is_ended = answer.status == 204
        else:
            session.sent += 1
            answer = self._api.send(
                "PATCH", "/sessions/current", {"n": session.sent}, token=session.token
            )
            if answer.status == 200:
                session.acknowledged = session.sent
        check(self._ledger, answer, "a request with a session")
        return answer

    def _begin(self) -> Answer:
        answer = self._api.send("POST", "/sessions", {"subject": "chaos", "data": {"n": 0}})
        if answer.status == 201:
            session = Session(answer.body["token"])
            self._sessions.append(session)
            self._ledger.sessions.append(session)
        check(self._ledger, answer, "a new session")
        return answer


def send_keyed(api: Api, ledger: Ledger, key: str, path: str, body: Any) -> Answer:
    """Sends a request with a key, and notes its outcome if the answer says it."""
    answer = api.send("POST", path, body, repeat_key=key)
    check(ledger, answer, f"POST {path}")
    if answer.status in (200, 202):
        ledger.settle_request(key)
        if path == "/jobs":
            ledger.accept_job(str(answer.body["id"]))
        elif path == f"/counters/{PLAIN}/increment":
            ledger.add(plain=1)
        else:
            ledger.add(keyed=int(body["by"]))
    elif not answer.is_unknown:
        ledger.settle_request(key)
    return answer


def send_message(site: Site, ledger: Ledger, key: str) -> bool:
    """Sends a message to the jobs queue; returns False if the queue may not have it."""
    client, url = site.queue
    body = {
        "task": "counter.add",
        "payload": {"name": EFFECTS, "by": 1},
        "idempotency_key": key,
    }
    try:
        client.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    except (BotoCoreError, ClientError):
        return False
    ledger.settle_request(key)
    ledger.accept_message(key)
    return True


def check(ledger: Ledger, answer: Answer, what: str) -> None:
    """Notes an answer that no fault explains."""
    is_known = answer.status in (200, 201, 202, 204, 0)
    if not is_known and not (answer.is_unknown and answer.code in _OUTAGE):
        detail = answer.body.get("detail") if isinstance(answer.body, dict) else answer.body
        ledger.note_wrong(f"{what} was answered {answer.status} {answer.code}: {detail}")


def repeat_open_requests(site: Site, ledgers: dict[str, Ledger], keys: dict[str, str]) -> int:
    """Repeats requests whose outcome is unknown; returns how many still are."""
    for tenant, ledger in ledgers.items():
        api = Api(site.port, keys[tenant])
        for key, (path, body) in list(ledger.open_requests.items()):
            if path:
                send_keyed(api, ledger, key, path, body)
            else:
                send_message(site, ledger, key)
        api.close()
    return sum(len(ledger.open_requests) for ledger in ledgers.values())
