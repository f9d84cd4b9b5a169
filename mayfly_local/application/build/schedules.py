"""EventBridge rules and schedules that call functions."""

import json
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.build.functions import find_function
from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.application.model import Function, Schedule
from mayfly_local.application.schedule_times import ScheduleTimes

__all__ = ["build_schedules"]

_TARGET_KEYS: Final = {"Arn", "Id", "Input", "RoleArn"}


def build_schedules(
    resources: Resources, functions: Mapping[str, Function], report: Report
) -> tuple[Schedule, ...]:
    """Returns every enabled schedule, and one for each target of every enabled rule.

    Raises TemplateError.
    """
    rules = [
        _schedule(
            name,
            target,
            expression=properties.get("ScheduleExpression", ""),
            zone="UTC",
            arn=resources.scope[name, "Arn"],
            functions=functions,
            report=report,
        )
        for name, properties in resources.of_type("AWS::Events::Rule")
        if properties.get("State", "ENABLED") == "ENABLED" and "ScheduleExpression" in properties
        for target in properties.get("Targets", [])
    ]
    schedules = [
        _schedule(
            name,
            properties.get("Target", {}),
            expression=properties.get("ScheduleExpression", ""),
            zone=properties.get("ScheduleExpressionTimezone", "UTC"),
            arn=resources.scope[name, "Arn"],
            functions=functions,
            report=report,
        )
        for name, properties in resources.of_type("AWS::Scheduler::Schedule")
        if properties.get("State", "ENABLED") == "ENABLED"
    ]
    return tuple(schedule for schedule in [*rules, *schedules] if schedule is not None)


def _schedule(
    name: str,
    target: dict[str, Any],
    *,
    expression: str,
    zone: str,
    arn: str,
    functions: Mapping[str, Function],
    report: Report,
) -> Schedule | None:
    """Returns the schedule of one target, or None if its time or its event cannot be parsed."""
    for key in sorted(set(target) - _TARGET_KEYS):
        report.absent(name, f"{key} of its target")
    function = find_function(functions, f"resource {name}", target.get("Arn", ""), report)
    event = target.get("Input")
    try:
        times = ScheduleTimes.parse(expression, zone)
        return Schedule(name, arn, function, times, json.loads(event) if event else None)
    except ValueError as problem:
        report(f"resource {name}: {problem}")
        return None
