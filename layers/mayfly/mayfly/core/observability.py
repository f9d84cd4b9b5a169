"""Logs and metrics of a function: JSON lines and embedded metrics on standard output.

Powertools writes both.
"""

from dataclasses import dataclass

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

__all__ = ["Observer", "observer"]


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


def observer(service: str) -> Observer:
    """Returns the observer of one function. POWERTOOLS_LOG_LEVEL sets the log level."""
    return Observer(
        log=Logger(service=service), metrics=Metrics(namespace="Mayfly", service=service)
    )
