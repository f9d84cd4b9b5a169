"""EventBridge rules and schedules that call functions, or send messages and events."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mayfly_local.application.build.functions import find_function
from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.application.model import Function, Schedule
from mayfly_local.application.schedule_times import ScheduleTimes, UnsupportedSchedule

__all__ = ["build_schedules"]

#: Keys of a target. `RetryPolicy` and `DeadLetterConfig` are for targets that AWS cannot reach,
#: which does not happen here: for functions that fail, a function has its own settings.
_TARGET_KEYS: Final = {"Arn", "DeadLetterConfig", "Id", "Input", "RetryPolicy", "RoleArn"}
#: Services whose resources can be targets, besides functions.
_SENT_TO: Final = ("sqs", "sns", "events")


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
        for name, properties in _timed_rules(resources)
        if properties.get("State", "ENABLED") == "ENABLED"
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
            limits={key: properties[key] for key in ("StartDate", "EndDate") if key in properties},
        )
        for name, properties in resources.of_type("AWS::Scheduler::Schedule")
        if properties.get("State", "ENABLED") == "ENABLED"
    ]
    return tuple(schedule for schedule in [*rules, *schedules] if schedule is not None)


def _timed_rules(resources: Resources) -> list[tuple[str, dict[str, Any]]]:
    """Returns the rules with a schedule. The emulator has the others. Raises TemplateError."""
    return [
        (name, resources.resolve(name, properties))
        for name, properties in resources.template.of_type("AWS::Events::Rule").items()
        if "ScheduleExpression" in properties
    ]


def _schedule(
    name: str,
    target: dict[str, Any],
    *,
    expression: str,
    zone: str,
    arn: str,
    functions: Mapping[str, Function],
    report: Report,
    limits: Mapping[str, Any] | None = None,
) -> Schedule | None:
    """Returns the schedule of one target, or None if its time or its event cannot be parsed."""
    for key in sorted(set(target) - _TARGET_KEYS):
        report.absent(name, f"{key} of its target")
    wanted, event = str(target.get("Arn", "")), target.get("Input")
    service = wanted.split(":")[2] if wanted.startswith("arn:") else ""
    target_arn = wanted if service in _SENT_TO else None
    if service not in ("", "lambda", *_SENT_TO):
        report.leave_out(name, f"the target {wanted}")
        return None
    function = None if target_arn else find_function(functions, name, wanted, report)
    try:
        times = ScheduleTimes.parse(expression, zone)
        starts, ends = ((limits or {}).get(key) for key in ("StartDate", "EndDate"))
        return Schedule(
            name, arn, function, target_arn, times, json.loads(event) if event else None,
            starts=_moment(starts), ends=_moment(ends),
        )  # fmt: skip
    except UnsupportedSchedule as problem:
        report.leave_out(name, str(problem))
        return None
    except ValueError as problem:
        report(f"resource {name}: {problem}")
        return None


def _moment(value: Any) -> datetime | None:
    """Returns a limit of a schedule; without an offset it is in UTC. Raises ValueError."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
