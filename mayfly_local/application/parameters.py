"""The values of a template's parameters: chosen ones, saved ones, and defaults."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mayfly_local.account import REGION
from mayfly_local.application.classes import Class, Part
from mayfly_local.application.parameter_store import ParameterStore, type_of_value
from mayfly_local.errors import MissingParameters, TemplateError

__all__ = ["Value", "missing_parameters", "parameter_text", "parameter_values"]

Value = str | list[str]
#: Values of parameters that name something of the account. Nothing of it exists on one machine.
_OF_THE_ACCOUNT: Final = {
    "AWS::EC2::AvailabilityZone::Name": f"{REGION}a",
    "AWS::EC2::Image::Id": "ami-0abcdef1234567890",
    "AWS::EC2::Instance::Id": "i-0abcdef1234567890",
    "AWS::EC2::KeyPair::KeyName": "local",
    "AWS::EC2::SecurityGroup::GroupName": "local",
    "AWS::EC2::SecurityGroup::Id": "sg-0abcdef1234567890",
    "AWS::EC2::Subnet::Id": "subnet-0abcdef1234567890",
    "AWS::EC2::VPC::Id": "vpc-0abcdef1234567890",
    "AWS::EC2::Volume::Id": "vol-0abcdef1234567890",
    "AWS::Route53::HostedZone::Id": "Z0ABCDEFGHIJKLMNOPQR",
}


def parameter_values(
    path: Path,
    declared: Mapping[str, Any],
    chosen: Mapping[str, str],
    known_problems: Sequence[str] = (),
    store: ParameterStore | None = None,
) -> tuple[dict[str, Value], list[Part]]:
    """Returns the value of every declared parameter, and a part for each that is made up.

    A value is a text, or a list of texts for the types that are lists. A parameter that names a
    resource of the account (`AWS::EC2::VPC::Id`) needs no value. `store` has the values of those
    that name a parameter of Systems Manager (`AWS::SSM::Parameter::Value<String>`). Raises
    TemplateError for a value that is not allowed, MissingParameters for parameters that need a
    value, each with the problems that are known already.
    """
    store = store or ParameterStore()
    values: dict[str, Value] = {}
    parts: list[Part] = []
    problems = list(known_problems)
    missing: list[str] = []
    for name, spec in declared.items():
        kind = str(spec.get("Type", "String"))
        item = kind.removeprefix("List<").removesuffix(">")
        if name in chosen or "Default" in spec:
            text = parameter_text(chosen.get(name, spec.get("Default")))
            problems += _problems(name, text, spec)
        elif item in _OF_THE_ACCOUNT:
            text = _OF_THE_ACCOUNT[item]
            parts.append(Part(Class.ACCEPTED, name, detail=f"a parameter that is {text} here"))
        else:
            missing.append(name)
            continue
        if (stored := type_of_value(kind)) is not None:
            if store.is_own(text):
                detail = f"the value that this template gives {text} (AWS needs it before)"
                parts.append(Part(Class.ACCEPTED, name, detail=detail))
            text, kind = store.value(text, _placeholder(text, stored)), stored
        is_list = _is_list(kind)
        values[name] = [item.strip() for item in text.split(",")] if is_list else text
    if missing:
        raise MissingParameters(path, problems, missing)
    if problems:
        raise TemplateError(path, problems)
    return values, parts


def missing_parameters(declared: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Returns the specification of each parameter that needs a value and has none."""
    try:
        parameter_values(Path(), declared, chosen)
    except MissingParameters as problem:
        return {name: declared[name] for name in problem.names}
    except TemplateError:
        return {}
    return {}


def parameter_text(value: Any) -> str:
    """Returns a value as the text that CloudFormation makes of it: a list has commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(parameter_text(item) for item in value)
    return "" if value is None else str(value)


def _problems(name: str, text: str, spec: Mapping[str, Any]) -> list[str]:
    allowed = [parameter_text(value) for value in spec.get("AllowedValues") or ()]
    kind = str(spec.get("Type", "String"))
    if type_of_value(kind) is not None:  # The rules are for the value in Systems Manager.
        return []
    is_list = _is_list(kind)
    for item in [item.strip() for item in text.split(",")] if is_list else [text]:
        if allowed and item not in allowed:
            return [f"parameter {name} is {text!r}; it may be {', '.join(allowed)}"]
        if "AllowedPattern" in spec and not _matches(str(spec["AllowedPattern"]), item):
            return [f"parameter {name} is {text!r}; it must match {spec['AllowedPattern']}"]
    if spec.get("Type") == "Number":
        try:
            value = float(text)
        except ValueError:
            return [f"parameter {name} is {text!r}; it must be a number"]
        least, most = spec.get("MinValue"), spec.get("MaxValue")
        if (
            not float("-inf" if least is None else least)
            <= value
            <= float("inf" if most is None else most)
        ):
            return [f"parameter {name} is {text}; it must be {_limits(least, most)}"]
    return []


def _limits(least: Any, most: Any) -> str:
    words = (("least", least), ("most", most))
    return " and ".join(f"at {word} {limit}" for word, limit in words if limit is not None)


def _is_list(kind: str) -> bool:
    return kind == "CommaDelimitedList" or kind.startswith("List<")


def _placeholder(name: str, kind: str) -> str | None:
    """Returns a value of the right form for a parameter of Systems Manager without a value.

    A list has three members, so that an expression that selects one finds it.
    """
    item = kind.removeprefix("List<").removesuffix(">")
    made = _OF_THE_ACCOUNT.get(item)
    if made is None and _is_list(kind):
        word = name.rpartition("/")[2].partition(":")[0]
        return ",".join(f"{word}-{number}" for number in (1, 2, 3))
    return made


def _matches(pattern: str, text: str) -> bool:
    """Returns whether a text matches a pattern of Java, as far as Python can read the pattern."""
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return True
