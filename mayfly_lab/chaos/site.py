"""The place of a chaos run: a folder and a port at which a stack is started again and again."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from mayfly_lab.chaos.conflicts import Conflicts
from mayfly_local.errors import LocalError
from mayfly_local.processes import bootstrap
from mayfly_testing.stack import Stack, await_start, launch, unused_port, wait_until

__all__ = ["DEFAULT_TENANT", "Site", "tied"]

#: The tenant of the development key, and of the queue's producers.
DEFAULT_TENANT: Final = "default"
_STOP_SECONDS: Final = 60.0
#: Seconds between the attempts of a webhook.
_PAUSES: Final = ",".join(["1"] * 19)


def tied(module: str) -> list[str]:
    """Returns the command of a module's process that ends with this one.

    Otherwise a kill of this process would leave it running.
    """
    # It has no folders of its own.
    return [sys.executable, "-P", str(bootstrap.__file__), str(os.getpid()), "", module]


class Site:
    """Stacks in sequence on one state. The thread that starts them must outlive them.

    Transactions hold their items for `transaction_seconds`. `conflicts` counts the calls that met
    one.
    """

    def __init__(self, folder: Path, template: Path, *, transaction_seconds: float) -> None:
        self._folder = folder
        self._template = template
        self._transaction_seconds = transaction_seconds
        self._stack: Stack | None = None
        self._queue: tuple[Any, str] | None = None
        self.port = unused_port()
        self.starts = 0
        self.conflicts = Conflicts()

    @property
    def stack(self) -> Stack:
        """The stack that was started last."""
        assert self._stack is not None
        return self._stack

    @property
    def queue(self) -> tuple[Any, str]:
        """A client for the jobs queue, and the queue's URL. They outlive the stack."""
        assert self._queue is not None
        return self._queue

    def start(self) -> None:
        """Starts a stack and waits until it is up. Raises LocalError if it does not come up."""
        options = ["--state", str(self._folder / "state"), "--no-reload"]
        # A kill of a worker costs its jobs a lease, and a webhook a pause.
        options += ["--parameter", "LeaseSeconds=4", "--parameter", f"WebhookPauses={_PAUSES}"]
        options += ["--transaction-time", str(self._transaction_seconds)]
        self._stack = launch(
            tied("mayfly_cli"), self._folder, *options,
            template=self._template, port=self.port, has_own_session=True,
        )  # fmt: skip
        self.starts += 1
        try:
            await_start(self._stack)
        except AssertionError as problem:
            raise LocalError(f"the stack did not start: {problem}") from None
        self._queue = (
            self._stack.client("sqs"),
            self._stack.facts["outputs"]["JobsQueueUrl"],
        )

    def check(self) -> None:
        """Raises LocalError if the stack has ended."""
        if (code := self.stack.process.poll()) is not None:
            raise LocalError(f"the stack ended by itself ({code}): {self.stack.output[-2000:]}")

    def note_conflicts(self) -> None:
        """Notes how many requests have met a transaction, unless the store is starting again."""
        with contextlib.suppress(requests.RequestException):
            reply = self.stack.control("transactions")
            if reply.ok:
                self.conflicts.note(reply.json())

    def clear_faults(self) -> None:
        """Removes the faults that have not struck yet. Raises LocalError if the store cannot."""

        def cleared() -> bool:
            self.check()
            try:
                return self.stack.control("clear-faults", {}).ok
            except requests.RequestException:  # The store may be starting again.
                return False

        try:
            wait_until(cleared, _STOP_SECONDS, what="the end of the requested faults")
        except AssertionError as problem:
            raise LocalError(str(problem)) from None

    def await_end(self) -> None:
        """Waits until the stack's process has ended. Raises LocalError if it does not end."""
        try:
            self.stack.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise LocalError(
                f"the stack did not end within {_STOP_SECONDS:.0f} s of its signal"
            ) from None

    def kill(self) -> None:
        """Kills every process of the stack, those that are stopped, too."""
        if self._stack is None or self._stack.process.poll() is not None:
            return
        processes = self._stack.tree()
        for process in reversed(processes):
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes[1:], timeout=_STOP_SECONDS)
        self._stack.process.wait(_STOP_SECONDS)
