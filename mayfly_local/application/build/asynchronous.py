"""Settings of asynchronous invocations: retries, age, destinations and dead-letter queues."""

from typing import Any, Final

from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.application.model import AsynchronousRules
from mayfly_local.iam.function_names import FunctionName

__all__ = ["build_asynchronous_rules"]

#: Services whose resources can be destinations here.
_DESTINATIONS: Final = ("sqs", "sns", "lambda", "events")


def build_asynchronous_rules(
    name: str, arn: str, properties: dict[str, Any], resources: Resources, report: Report
) -> AsynchronousRules:
    """Returns the rules of one function, from its EventInvokeConfig and its DeadLetterConfig.

    A configuration of a version or an alias holds for the function, as all of them run one code.
    Raises TemplateError.
    """
    settings, where = _settings(arn.rpartition(":")[2], name, resources)
    destinations = settings.get("DestinationConfig") or {}
    success, failure = (
        _arn(
            where, f"the {key} destination",
            (destinations.get(key) or {}).get("Destination"), _DESTINATIONS, report,
        )
        for key in ("OnSuccess", "OnFailure")
    )  # fmt: skip
    dead = (properties.get("DeadLetterConfig") or {}).get("TargetArn")
    rules = AsynchronousRules(
        max_retries=int(settings.get("MaximumRetryAttempts", AsynchronousRules.max_retries)),
        max_age_seconds=int(
            settings.get("MaximumEventAgeInSeconds", AsynchronousRules.max_age_seconds)
        ),
        on_success_arn=success,
        on_failure_arn=failure,
        dead_letter_arn=_arn(name, "the dead-letter target", dead, ("sqs", "sns"), report),
    )
    if not 0 <= rules.max_retries <= 2:
        report(f"resource {where}: MaximumRetryAttempts {rules.max_retries} is not from 0 to 2")
    if not 60 <= rules.max_age_seconds <= 21600:
        report(
            f"resource {where}: MaximumEventAgeInSeconds {rules.max_age_seconds} is not from 60 "
            "to 21600"
        )
    return rules


def _settings(
    function_name: str, logical_id: str, resources: Resources
) -> tuple[dict[str, Any], str]:
    """Returns the settings of a function, and the resource that has them."""
    for name, settings in resources.of_type("AWS::Lambda::EventInvokeConfig"):
        reference = FunctionName.parse(str(settings.get("FunctionName", "")))
        if reference is not None and reference.name in (function_name, logical_id):
            return settings, name
    return {}, logical_id


def _arn(name: str, what: str, value: Any, services: tuple[str, ...], report: Report) -> str | None:
    """Returns the ARN of a destination, or None if nothing here can be it."""
    if not value:
        return None
    parts = str(value).split(":")
    if len(parts) < 6 or parts[2] not in services:
        report.absent(name, f"{what} {value}")
        return None
    return str(value)
