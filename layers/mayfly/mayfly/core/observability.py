"""Logs and metrics of a function: JSON lines and embedded metrics on standard output.

Powertools writes both.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from mayfly.core.raised import shown, traceback_text

__all__ = ["Observer", "observer", "traceback_of"]


@dataclass(frozen=True)
class Observer:
    """Logs and metrics for the person on call.

    A handler uses `log` for what happened and what happens next, and `count` for how often.
    """

    log: Logger
    metrics: Metrics

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a metric of this invocation."""
        self.metrics.add_metric(name=name, unit=MetricUnit.Count, value=by)

    @contextmanager
    def invocation(self) -> Iterator[None]:
        """Writes the metrics of an invocation at its end, also if it fails.

        Every handler needs it: metrics that are not written are added to the next invocation's, and
        are lost with the process.
        """
        try:
            yield
        finally:
            if self.metrics.metric_set:
                self.metrics.flush_metrics()


def observer(service: str, env: Mapping[str, str] | None = None) -> Observer:
    """Returns the observer of one function. POWERTOOLS_LOG_LEVEL sets the log level.

    MAYFLY_STACK in `env` is a dimension of its metrics, so that two stacks in one account stay
    apart.
    """
    metrics = Metrics(namespace="Mayfly", service=service)
    if stack := (env or {}).get("MAYFLY_STACK"):
        metrics.set_default_dimensions(stack=stack)
    return Observer(log=Logger(service=service), metrics=metrics)


def traceback_of(error: BaseException) -> dict[str, str]:
    """Returns the keys of a log line that show an exception of code that is not Mayfly's.

    The logger's own `exc_info` calls `str(error)`, which may raise, and writes texts that UTF-8
    cannot hold, which loses the line. Never raises, whatever the exception's class does.
    """
    texts = {"exception": traceback_text(error), "exception_name": shown(error)[0]}
    return {name: text.encode(errors="backslashreplace").decode() for name, text in texts.items()}
