"""Alarms of the template, evaluated as CloudWatch would, over the metrics of a running stack.

Metrics of Mayfly's own are those that functions have printed. Metrics of AWS's services are made of
what the local runtime has logged: each start of an invocation, and each that failed.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
"""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mayfly_testing.stack import Stack

__all__ = ["Period", "Readings", "state"]

#: The key of a metric: its namespace, its name, and the resource or the service that it is of.
Key = tuple[str, str, str]
Value = float | None
_STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "Sum": sum, "Maximum": max, "Minimum": min,
}  # fmt: skip
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}


@dataclass
class Readings:
    """Values of metrics, each with its time in seconds."""

    values: dict[Key, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, namespace: str, name: str, of: str, value: float, at: float) -> None:
        """Adds one value."""
        self.values[namespace, name, of].append((at, value))

    def read(self, stack: Stack) -> None:
        """Adds everything that the stack has logged so far. Called once."""
        for function, entries in stack.logs.items():
            for entry in entries:
                at = datetime.fromisoformat(entry["time"]).timestamp()
                if entry["type"] == "start":
                    self.add("AWS/Lambda", "Invocations", function, 1, at)
                elif entry["type"] == "invocation failed":
                    self.add("AWS/Lambda", "Errors", function, 1, at)
                elif "_aws" in entry.get("record", {}):
                    self._add_printed(entry["record"], at, stack.facts["name"])

    def _add_printed(self, record: Mapping[str, Any], at: float, stack: str) -> None:
        """Adds embedded metrics; those with the dimensions of the stack's alarms only."""
        for directive in record["_aws"]["CloudWatchMetrics"]:
            is_of_stack = {"service", "stack"} in map(set, directive["Dimensions"])
            if is_of_stack and record["stack"] == stack:
                for metric in directive["Metrics"]:
                    value = sum(record[metric["Name"]])
                    self.add(directive["Namespace"], metric["Name"], record["service"], value, at)


#: The start and the end of a period, in seconds.
Period = tuple[float, float]


def state(alarm: Mapping[str, Any], readings: Readings, periods: Sequence[Period]) -> str:
    """Returns `ALARM` or `OK`. `periods` are the last ones, the newest at the end.

    They may be shorter than the alarm's, so an alarm that needs ten minutes is tried in seconds.
    Its thresholds stay.
    """
    points = alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    breaching = 0
    for start, end in periods[-alarm["EvaluationPeriods"] :]:
        value = _value(alarm["Metrics"], readings, start, end)
        if value is None:
            breaching += alarm["TreatMissingData"] == "breaching"
        else:
            breaching += _COMPARISONS[alarm["ComparisonOperator"]](value, alarm["Threshold"])
    return "ALARM" if breaching >= points else "OK"


def _value(
    queries: Sequence[Mapping[str, Any]], readings: Readings, start: float, end: float
) -> Value:
    """Returns the value of the query that an alarm watches, in one period."""
    metrics: dict[str, Value] = {}
    for query in queries:
        if "MetricStat" in query:
            found = query["MetricStat"]["Metric"]
            key = (found["Namespace"], found["MetricName"], _of(found["Dimensions"]))
            values = [value for at, value in readings.values[key] if start <= at < end]
            metrics[query["Id"]] = (
                _STATISTICS[query["MetricStat"]["Stat"]](values) if values else None
            )
    (watched,) = [query["Expression"] for query in queries if query.get("ReturnData", True)]
    text = re.sub(r"\bAND\b", "and", watched)
    value = _computed(ast.parse(text, mode="eval").body, metrics)
    assert value is None or isinstance(value, int | float)
    return value


def _of(dimensions: Sequence[Mapping[str, Any]]) -> str:
    """Returns the service that dimensions name, or the logical id of their resource."""
    values = {each["Name"]: each["Value"] for each in dimensions}
    if "service" in values:
        return str(values["service"])
    ((_, found),) = values.popitem()[1].items()
    return str(found if isinstance(found, str) else found[0])


def _computed(node: ast.expr, metrics: Mapping[str, Value]) -> Any:
    """Returns the value of a metric math expression; None where data are missing."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return metrics[name]
        case ast.BoolOp(op=ast.And(), values=parts):
            values = [_computed(part, metrics) for part in parts]
            return None if None in values else all(values)
        case ast.Compare(left=left, ops=[ast.Gt() | ast.Eq() as sign], comparators=[right]):
            pair = (_computed(left, metrics), _computed(right, metrics))
            if None in pair:
                return None
            return pair[0] > pair[1] if isinstance(sign, ast.Gt) else pair[0] == pair[1]
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _called(name, [_computed(each, metrics) for each in arguments], metrics)
    raise ValueError(f"not a part of metric math that the alarms use: {ast.unparse(node)}")


def _called(name: str, arguments: Sequence[Any], metrics: Mapping[str, Value]) -> Any:
    match name, arguments:
        case "METRICS", []:
            return list(metrics.values())
        case "FILL", [list() as values, other]:
            return [other if value is None else value for value in values]
        case "FILL", [value, other]:
            return other if value is None else value
        case "SUM", [list() as values]:
            return sum(values)
        case "MAX", [list() as values]:
            return max((value for value in values if value is not None), default=None)
        case "IF", [condition, yes, no]:
            return None if condition is None else yes if condition else no
    raise ValueError(f"not a function of metric math that the alarms use: {name}")
