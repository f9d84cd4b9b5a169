"""Delivers a webhook to each of many forbidden addresses, and records every connection.

Prints JSON: the outcome of each entry, every address that was connected to, and how often the trap
was reached. With the argument `open`, the policy admits this machine, which shows that the trap
works.
"""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from mayfly.core.errors import MayflyError
from mayfly.jobs.model import Job, Status
from mayfly.webhooks import Deps as WebhookDeps
from mayfly.webhooks import Receivers, deliver
from mayfly.webhooks.model import LOCAL, PUBLIC
from mayfly.webhooks.wire import resolve

CONNECTED: list[Any] = []

#: Hosts as they are written in a URL.
HOSTS = [
    # IPv4 in every form that resolvers accept
    "127.0.0.1", "127.1", "127.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0", "0x7f000001",
    "0x7f.0x0.0x0.0x1", "0x7f.1", "0177.0.0.1",
    "0177.1", "017700000001", "2130706433", "127.0.0.01", "127.000.000.001", "127.0.0.1.",
    "10.0.0.1", "172.16.0.1", "192.168.0.1",
    "169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.170.2",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    # IPv6, also with a hidden IPv4 address
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]", "[2001:0:7f00:1::]", "[fe80::1]",
    "[fe80::1%25lo]", "[::1%25lo]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]",
    "[2001:db8::1]", "[100::1]",
    # names
    "localhost", "LOCALHOST", "localhost.", "ip6-localhost", "private.test", "loopback.test",
    "metadata.test", "mapped.test", "translated.test",
    "both.test", "both-reversed.test", "rebinding.test", "scoped.test", "nothing.test",
    "multicast.test",
    # encodings
    "%6c%6f%63%61%6c%68%6f%73%74", "%31%32%37.0.0.1", "\uff11\uff12\uff17.0.0.1",
    "\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021", "loc\u00adalhost",
    "local\thost", "localhost\x00.example.org", "xn--localhost-.test", "example.org@127.0.0.1",
    "example.org:x@127.0.0.1", "127.0.0.1\\@example.org",
    "example.org#@127.0.0.1", "127.0.0.1?@example.org", "[::1", "::1", "127.0.0.1%0d%0aHost:x",
]  # fmt: skip
#: Addresses of the corpus's names; a list of lists is used one after another.
NAMES: dict[str, list[list[str]]] = {
    "private.test": [["10.1.2.3"]],
    "loopback.test": [["127.0.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "translated.test": [["64:ff9b::7f00:1"]],
    "both.test": [["1.1.1.1", "127.0.0.1"]],
    "both-reversed.test": [["127.0.0.1", "1.1.1.1"]],
    # The first look-up gives a public address, the next one this machine. With a single look-up,
    # the delivery connects to the public one.
    "rebinding.test": [["127.0.0.1"], ["1.1.1.1"], ["127.0.0.1"]],
    "scoped.test": [["2606:4700::1111%lo"]],
    "nothing.test": [[]],
    "multicast.test": [["ff02::1"]],
}
URLS = ["http://127.0.0.1:{port}/", "https://127.0.0.1:22/", "https://127.0.0.1/",
    "file:///etc/passwd", "gopher://127.0.0.1:{port}/", "//127.0.0.1:{port}/",
    "HTTPS://127.0.0.1:{port}/"]  # fmt: skip


class Nothing:
    """Plays secrets, endpoints and effects.

    Every webhook is signed with one key, and no endpoint is gone.
    """

    def read(self, tenant: str, name: str) -> list[bytes]:
        return [b"k" * 32]

    def seconds_left(self) -> float:
        return 60.0

    def is_gone(self, tenant: str, url: str) -> bool:
        return False


class NoNotes:
    """Notes on receivers that are never written, and so never read."""

    def read(self, tenant: str, origin: str) -> None:
        return None

    def write(
        self, tenant: str, origin: str, *, is_quick: bool, late_seconds: float | None = None
    ) -> None:
        pass

    def note_turned(self, tenant: str, origin: str) -> None:
        pass

    def count_turned(self, tenant: str) -> int:
        return 0


class Trap:
    """Listens on all addresses of this machine, and counts connections."""

    def __init__(self) -> None:
        self.reached = 0
        self.socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            self.reached += 1
            connection.close()


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Records every connection of this process to any address, even if it gets no answer.

    This is the audit hook. No connection leaves this machine.
    """
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        CONNECTED.append(list(arguments[1]))
        if (
            not arguments[1][0].startswith(("127.", "::1", "0.0.0.0", "::ffff:127."))
            and arguments[1][0] != "::"
        ):
            raise ConnectionRefusedError("a test connects to this machine only")


def lookup(answers: Iterator[list[str]] | None, host: str, port: int) -> list[str]:
    return resolve(host, port) if answers is None else next(answers)


def main() -> None:
    trap = Trap()
    is_open = sys.argv[1:] == ["open"]
    policy = LOCAL if is_open else replace(PUBLIC, ports=frozenset({443, trap.port}))
    scheme = "http" if is_open else "https"
    entries = [f"{scheme}://{host}:{trap.port}/" for host in HOSTS] + [
        url.replace("{port}", str(trap.port)) for url in URLS
    ]
    sys.addaudithook(note)
    became: dict[str, str] = {}
    for index, url in enumerate(entries):
        name = HOSTS[index] if index < len(HOSTS) else ""
        for round_ in range(len(NAMES.get(name, [[]]))):
            answers = iter(NAMES[name][round_:]) if name in NAMES else None
            nothing: Any = Nothing()
            deps = WebhookDeps(
                nothing,
                nothing,
                policy,
                (5,),
                partial(lookup, answers),
                lambda: 0,
                Receivers(lambda: 0, lambda: 0, NoNotes()),
            )
            job = Job(
                f"j{index}",
                "acme",
                "http.deliver",
                {"url": url},
                Status.INPROGRESS,
                10,
                0,
                "f",
                attempt=1,
            )
            try:
                became[f"{url} {round_}"] = str(deliver(job, nothing, deps))
            except MayflyError as problem:
                became[f"{url} {round_}"] = f"{type(problem).__name__}: {problem}"
    sys.stdout.write(
        json.dumps({"became": became, "connected": CONNECTED, "reached": trap.reached}) + "\n"
    )


main()
