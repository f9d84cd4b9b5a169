"""Logs and metrics of a function, by Powertools: JSON lines and embedded metrics on standard
output.
"""

from dataclasses import dataclass

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

__all__ = ["Observer", "observer"]


@dataclass(frozen=True)
class Observer:
    """What a handler tells the person on call: `log` for what happened and what happens next,
    `count` for how often.
    """

    log: Logger
    metrics: Metrics

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a metric of this invocation."""
        self.metrics.add_metric(name=name, unit=MetricUnit.Count, value=by)


def observer(service: str) -> Observer:
    """The observer of one function. Log level by POWERTOOLS_LOG_LEVEL."""
    return Observer(
        log=Logger(service=service), metrics=Metrics(namespace="Mayfly", service=service)
    )
