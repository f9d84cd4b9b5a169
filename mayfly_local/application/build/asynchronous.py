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
    settings: dict[str, Any] = {}
    for config_name, config in resources.of_type("AWS::Lambda::EventInvokeConfig"):
        reference = FunctionName.parse(str(config.get("FunctionName", "")))
        if reference is not None and reference.name in (name, arn.rpartition(":")[2]):
            settings = config
            where = f"resource {config_name}"
            destinations = config.get("DestinationConfig") or {}
            for key in ("OnSuccess", "OnFailure"):
                _check(f"{where}: {key}", _destination(destinations, key), _DESTINATIONS, report)
    dead = (properties.get("DeadLetterConfig") or {}).get("TargetArn")
    _check(f"resource {name}: DeadLetterConfig", dead, ("sqs", "sns"), report)
    destinations = settings.get("DestinationConfig") or {}
    rules = AsynchronousRules(
        max_retries=int(settings.get("MaximumRetryAttempts", AsynchronousRules.max_retries)),
        max_age_seconds=int(
            settings.get("MaximumEventAgeInSeconds", AsynchronousRules.max_age_seconds)
        ),
        on_success_arn=_destination(destinations, "OnSuccess"),
        on_failure_arn=_destination(destinations, "OnFailure"),
        dead_letter_arn=str(dead) if dead else None,
    )
    if not 0 <= rules.max_retries <= 2:
        report(f"resource {name}: MaximumRetryAttempts {rules.max_retries} is not from 0 to 2")
    if not 60 <= rules.max_age_seconds <= 21600:
        report(
            f"resource {name}: MaximumEventAgeInSeconds {rules.max_age_seconds} is not from 60 "
            "to 21600"
        )
    return rules


def _destination(destinations: dict[str, Any], key: str) -> str | None:
    arn = (destinations.get(key) or {}).get("Destination")
    return str(arn) if arn else None


def _check(where: str, arn: Any, services: tuple[str, ...], report: Report) -> None:
    parts = str(arn).split(":")
    if arn and (len(parts) < 6 or parts[2] not in services):
        report(f"{where}: {arn} is not the ARN of a destination here ({', '.join(services)})")
