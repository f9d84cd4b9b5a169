"""The values of a template's parameters: chosen ones, those of samconfig.toml, and defaults."""

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mayfly_local.account import REGION
from mayfly_local.application.classes import Class, Part
from mayfly_local.errors import MissingParameters, TemplateError

__all__ = ["Value", "missing_parameters", "parameter_values", "saved_overrides"]

Value = str | list[str]
#: A parameter of this type has the name of a parameter of Systems Manager as its value.
_SSM_VALUE: Final = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")
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
) -> tuple[dict[str, Value], list[Part]]:
    """Returns the value of every declared parameter, and a part for each that is made up.

    A value is a text, or a list of texts for the types that are lists. A parameter that names a
    resource of the account (`AWS::EC2::VPC::Id`) needs no value. Raises TemplateError for a value
    that is not allowed, MissingParameters for parameters that need a value, each with the problems
    that are known already.
    """
    values: dict[str, Value] = {}
    parts: list[Part] = []
    problems = list(known_problems)
    missing: list[str] = []
    for name, spec in declared.items():
        kind = str(spec.get("Type", "String"))
        item = kind.removeprefix("List<").removesuffix(">")
        if name in chosen or "Default" in spec:
            text = _text(chosen.get(name, spec.get("Default")))
            problems += _problems(name, text, spec)
        elif item in _OF_THE_ACCOUNT:
            text = _OF_THE_ACCOUNT[item]
            parts.append(Part(Class.ACCEPTED, name, detail=f"a parameter that is {text} here"))
        else:
            missing.append(name)
            continue
        if is_ssm := _SSM_VALUE.fullmatch(kind):
            # The value is the parameter's, and so it is found as a dynamic reference is.
            text, kind = f"{{{{resolve:ssm:{text}}}}}", is_ssm[1]
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
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


def saved_overrides(folder: Path) -> dict[str, str]:
    """Returns `parameter_overrides` of the default environment in samconfig.toml.

    It is a text or a list; `sam deploy` writes `Name=Value` or `ParameterKey=..,ParameterValue=..`.
    Raises TemplateError if the file is not valid TOML.
    Page serverless-sam-cli-config of
    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
    """
    path = folder / "samconfig.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, OSError) as problem:
        raise TemplateError(path, [f"it cannot be read: {problem}"]) from None
    found: dict[str, str] = {}
    for command in ("global", "build", "deploy"):
        section: Any = settings
        for key in ("default", command, "parameters", "parameter_overrides"):
            section = section.get(key) if isinstance(section, dict) else None
        found |= _overrides(section)
    return found


def _overrides(section: Any) -> dict[str, str]:
    if isinstance(section, dict):
        return {str(name): _text(value) for name, value in section.items()}
    # Each member of a list is one override. A text has several, which may be in quotes.
    words = map(str, section) if isinstance(section, list) else _words(str(section or ""))
    found = {}
    for word in words:
        if match := re.fullmatch(r"ParameterKey=([^,]+),ParameterValue=(.*)", word, re.DOTALL):
            found[match[1]] = match[2].strip("\"'")
        elif "=" in word:
            name, _, value = word.partition("=")
            found[name] = value.strip("\"'")
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is not closed is part of a value
        return text.split()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return "" if value is None else str(value)


def _problems(name: str, text: str, spec: Mapping[str, Any]) -> list[str]:
    allowed = [_text(value) for value in spec.get("AllowedValues") or ()]
    kind = str(spec.get("Type", "String"))
    if _SSM_VALUE.fullmatch(kind):  # The rules are for the value in Systems Manager.
        return []
    is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
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
        if not float(spec.get("MinValue", "-inf")) <= value <= float(spec.get("MaxValue", "inf")):
            return [
                f"parameter {name} is {text}; it must be from {spec.get('MinValue')} to "
                f"{spec.get('MaxValue')}"
            ]
    return []


def _matches(pattern: str, text: str) -> bool:
    """Returns whether a text matches a pattern of Java, as far as Python can read the pattern."""
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return True
