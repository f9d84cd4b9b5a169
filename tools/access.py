"""`make access` prints a table of every route with every kind of credential.

It runs against a running local stack. Each cell uses resources that were created for it alone, all
of one tenant. No other caller may read or change them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import requests
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.clock import rfc3339, system_clock
from mayfly.core.ids import new_id, new_secret
from mayfly.tenants import ALL_SCOPES, TenantStore, mint

from mayfly_local.emulator.clients import Clients
from mayfly_local.errors import LocalError
from mayfly_local.stack_file import StackFile

__all__ = ["CREDENTIALS", "MARK", "VALUE", "Cell", "Matrix", "expected", "is_shown"]

CREDENTIALS: Final = ("none", "bad", "expired", "revoked", "wrong scope", "other tenant", "right")
_OWNER: Final = "access-owner"
_OTHER: Final = "access-other"
#: Written into everything that the owner has; no other caller may see it.
MARK: Final = "of-the-owner-alone"
VALUE: Final = 8675309
_LIMIT: Final = "?key=k&algorithm=gcra&limit=9&period_seconds=60"
QUERIES: Final = {
    "GET /jobs": "?status=scheduled",
    "GET /limits/{name}": _LIMIT,
    "DELETE /limits/{name}": _LIMIT,
}
BODIES: Final[dict[str, Any]] = {
    "POST /sessions": {},
    "PATCH /sessions/current": {"a": 1},
    "POST /sessions/current/rotate": {},
    "PUT /counters/{name}": {"shards": 2},
    "PUT /schedules/{name}": {
        "every_seconds": 3600,
        "task": "counter.add",
        "payload": {"name": "access"},
    },
    "POST /jobs": {"task": "counter.add", "payload": {"name": "access"}},
    "POST /limits/{name}/take": {"key": "k", "algorithm": "gcra", "limit": 9, "period_seconds": 60},
}


@dataclass(frozen=True)
class Cell:
    """The response of one cell."""

    route: str
    credential: str
    status: int
    text: str
    #: True if the owner's resources under these names were the same before and after.
    is_untouched: bool


@dataclass
class Matrix:
    """The keys and resources of the table, on one stack."""

    url: str
    add_key: Callable[[Any], None]
    document: dict[str, Any]
    keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: StackFile) -> "Matrix":
        """Returns the matrix for the stack of a file."""
        client = Clients(stack.endpoint, stack.people).get("dynamodb")
        store = TenantStore(
            DynamoDB(client, pause=lambda attempt: None), stack.resources["TenantsTable"]
        )
        matrix = cls(
            stack.api_url,
            store.add_key,
            requests.get(f"{stack.api_url}/openapi.json", timeout=60).json(),
        )
        matrix._make_keys(store)
        return matrix

    @property
    def routes(self) -> dict[str, str | None]:
        """The scope of each route, or None if the route is public."""
        paths = self.document["paths"]
        return {
            f"{method.upper()} {path}": operation.get("x-scope")
            for path, methods in paths.items()
            for method, operation in methods.items()
        }

    def ask(self, route: str, credential: str) -> Cell:
        """Requests one cell."""
        method, template = route.split(" ")
        things = self._things(route, is_owner=credential == "right")
        path = template
        for name in ("subject", "name", "id"):
            path = path.replace("{" + name + "}", quote(things.get(name, ""), safe=""))
        path += QUERIES.get(route, "")
        headers = {"Session-Token": things["token"]} if "token" in things else {}
        before = self._as_the_owner_sees_it(things)
        reply = self._send(
            method, path, things.get("body"), self._key(credential, self.routes[route]), headers
        )
        return Cell(
            route,
            credential,
            reply.status_code,
            reply.text,
            self._as_the_owner_sees_it(things) == before,
        )

    def _key(self, credential: str, scope: str | None) -> str | None:
        if credential == "wrong scope":
            return self.keys["jobs:read" if scope != "jobs:read" else "counters:read"]
        return self.keys.get(credential)

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        key: str | None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        named = (
            dict(headers or {})
            if key is None
            else {**(headers or {}), "Authorization": f"Bearer {key}"}
        )
        data = None if body is None else json.dumps(body)
        return requests.request(method, self.url + path, data=data, headers=named, timeout=60)

    def _make_keys(self, store: TenantStore) -> None:
        now_ms = system_clock()
        make = partial(mint, "test", now_ms=now_ms, new_secret=new_secret)
        for name, tenant, scopes, expires in (
            ("right", _OWNER, ALL_SCOPES, now_ms + 3_600_000),
            ("other tenant", _OTHER, ALL_SCOPES, None),
            ("expired", _OWNER, ALL_SCOPES, now_ms - 1),
            ("revoked", _OWNER, ALL_SCOPES, None),
            ("jobs:read", _OWNER, frozenset({"jobs:read"}), None),
            ("counters:read", _OWNER, frozenset({"counters:read"}), None),
        ):
            text, key = make(tenant, scopes, expires_at_ms=expires)
            self.add_key(key)
            self.keys[name] = text
            if name == "revoked":
                store.revoke_key(key.key_id, tenant)
        # Its id is the owner's and its checksum is valid, but its secret is wrong.
        known = self.keys["right"].split("_")[2]
        self.keys["bad"], _ = make(
            _OWNER,
            ALL_SCOPES,
            new_secret=lambda letters, length: (
                known if length == len(known) else new_secret(letters, length)
            ),
        )

    def _as_the_owner_sees_it(self, things: dict[str, Any]) -> Any:
        """Returns the owner's resources under these names: counter, schedule, job, session."""
        read, name = (
            partial(self._send, "GET", body=None, key=self.keys["right"]),
            things.get("name", "nothing"),
        )
        replies = [
            read(f"/counters/{name}"),
            read(f"/schedules/{name}"),
            read(f"/jobs/{things.get('id', 'nothing')}"),
        ]
        replies.append(
            read("/sessions/current", headers={"Session-Token": things.get("token", "nothing")})
        )
        shown = [reply.json() for reply in replies]
        for body in shown:
            for moving in ("request_id", "next_at", "idle_expires_at"):
                body.pop(moving, None)
        return shown

    def _things(self, route: str, *, is_owner: bool) -> dict[str, Any]:
        """Creates the resources that a route needs to succeed for its owner.

        Returns names, ids, a token and a body. If other callers create something under a name, the
        owner has it there already.
        """
        owner = partial(self._made, key=self.keys["right"])
        name, path = new_id(), route.partition(" ")[2]
        if path.startswith(("/sessions/current", "/subjects")):
            session = owner("POST", "/sessions", {"subject": name, "data": {"mark": MARK}})
            return {
                "subject": name,
                "token": session["token"],
                "id": session["id"],
                "body": BODIES.get(route),
            }
        if path.startswith("/counters"):
            if route != "PUT /counters/{name}" or not is_owner:
                owner("POST", f"/counters/{name}/increment", {"by": VALUE})
            return {"name": name, "body": BODIES.get(route)}
        if path.startswith("/schedules"):
            if route != "PUT /schedules/{name}" or not is_owner:
                owner(
                    "PUT",
                    f"/schedules/{name}",
                    {"every_seconds": 3600, "task": "counter.add", "payload": {"name": MARK}},
                )
            return {"name": name, "body": BODIES.get(route)}
        if path.startswith("/jobs/"):
            return {"id": self._dead_job() if path.endswith("redrive") else self._waiting_job()}
        if route == "GET /jobs":
            self._waiting_job()
        return {"name": name, "body": BODIES.get(route)}

    def _waiting_job(self) -> str:
        later = {"task": "counter.add", "payload": {"name": MARK}, "delay_seconds": 3000}
        return str(self._made("POST", "/jobs", later, key=self.keys["right"])["id"])

    def _dead_job(self) -> str:
        job = self._made(
            "POST",
            "/jobs",
            {"task": "fail", "payload": {"times": 9, "permanent": True}},
            key=self.keys["right"],
        )
        while (
            self._send("GET", f"/jobs/{job['id']}?wait=20", None, self.keys["right"]).json()[
                "status"
            ]
            != "dead"
        ):
            continue
        return str(job["id"])

    def _made(self, method: str, path: str, body: Any, *, key: str) -> Any:
        reply = self._send(method, path, body, key)
        assert reply.ok, (method, path, reply.status_code, reply.text)
        return reply.json()


def expected(route: str, scope: str | None, credential: str) -> set[int]:
    """Returns the statuses that a cell may have."""
    if scope is None:
        return {200}
    refusals = {
        "none": {401},
        "bad": {401},
        "expired": {401},
        "revoked": {401},
        "wrong scope": {403},
    }
    if credential in refusals:
        return refusals[credential]
    # Another tenant finds nothing under the owner's names and ids. Resources that it creates under
    # them are its own.
    is_about_one_thing = (
        "{id}" in route or "current" in route or route.split(" ")[1].startswith("/schedules/")
    )
    if credential == "other tenant" and is_about_one_thing and not route.startswith("PUT"):
        return {404}
    return {200, 201, 202, 204}


def is_shown(cell: Cell) -> bool:
    """Returns whether a response shows anything of the owner's."""
    return MARK in cell.text or str(VALUE) in cell.text


def main() -> int:
    """Prints the table of the running stack; returns 1 if a cell is wrong."""
    parser = argparse.ArgumentParser(prog="make access", description=__doc__)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(".mayfly"),
        metavar="DIR",
        help="folder with the running stack's files",
    )
    options = parser.parse_args()
    try:
        stack = StackFile.read(options.work)
    except LocalError as problem:
        print(problem, file=sys.stderr)
        return 1
    started, matrix, wrong, cells = time.monotonic(), Matrix.of(stack), 0, 0
    print(f"{stack.api_url}, {rfc3339(system_clock())}\n")
    print(
        f"{'route':<42}{'scope':<16}" + "".join(f"{credential:<14}" for credential in CREDENTIALS)
    )
    for route, scope in matrix.routes.items():
        line = f"{route:<42}{scope or 'public':<16}"
        for credential in CREDENTIALS:
            cell = matrix.ask(route, credential)
            is_right = cell.status in expected(route, scope, credential) and (
                credential == "right" or (cell.is_untouched and not is_shown(cell))
            )
            cells, wrong = cells + 1, wrong + (not is_right)
            line += f"{cell.status if is_right else f'{cell.status} WRONG':<14}"
        print(line.rstrip(), flush=True)
    print(f"\n{cells} cells, {wrong} wrong, in {time.monotonic() - started:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
