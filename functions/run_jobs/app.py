"""Jobs queue -> tasks: runs each message's job; a record that fails is reported alone."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly.jobs.worker import invocation
from mayfly.jobs.worker.runner import Runner

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the handler of the worker."""
    runner = Runner(deps.worker)
    return invocation.entrypoint(
        runner.open,
        queue=deps.queue,
        lease_seconds=deps.worker.lease_ms / 1000,
        observe=deps.observe,
    )
