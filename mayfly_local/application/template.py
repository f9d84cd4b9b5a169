"""A SAM template, transformed to CloudFormation and split in two parts.

The emulator holds the state, and this runtime runs the compute.
"""

import hashlib
import importlib.metadata
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.classes import Part, refusals
from mayfly_local.application.definitions import definition_texts, inline_definitions
from mayfly_local.application.intrinsics import Unresolvable, references, resolve
from mayfly_local.application.metadata import libraries, metadata_problems
from mayfly_local.application.supported import STATE, classify
from mayfly_local.errors import TemplateError

__all__ = ["UNUSABLE", "Template", "load", "parse"]

#: The SAM translator accepts only uploaded code, so a local path gets this prefix meanwhile.
_LOCAL_CODE: Final = "s3://local/"
#: Errors that reading a property of the wrong shape can raise.
UNUSABLE: Final = (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class Template:
    """A transformed template with its parameters' values.

    Resources whose condition is false are left out.
    """

    path: Path
    name: str
    resources: dict[str, Any]
    outputs: dict[str, Any]
    metadata: dict[str, Any]
    conditions: dict[str, Any]
    mappings: dict[str, Any]
    parameters: dict[str, str | list[str]]
    #: Every resource with its class, and properties of running types that do not run.
    parts: tuple[Part, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the template start from."""
        return self.path.parent

    @property
    def libraries(self) -> tuple[Path, ...]:
        """The folders that the template's makefiles put into functions, as its Metadata says."""
        return libraries(self.metadata, self.folder)

    def of_type(self, *kinds: str) -> dict[str, Any]:
        """Returns the properties of all resources of these types, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] in kinds
        }

    def state(self) -> dict[str, Any]:
        """Returns the resources that the emulator holds."""
        return {name: resource for name, resource in self.resources.items() if _is_state(resource)}

    def wanted_from_state(self) -> set[tuple[str, str | None]]:
        """Returns the references from compute and outputs to the state."""
        state = self.state()
        rest = [
            resource
            for name, resource in self.resources.items()
            # The runtime keeps the times of a rule, even if the emulator has its pattern.
            if name not in state or "ScheduleExpression" in (resource.get("Properties") or {})
        ]
        return {
            reference for reference in references([rest, self.outputs]) if reference[0] in state
        }

    def resolve(self, value: Any, scope: dict[tuple[str, str | None], Any]) -> Any:
        """Returns `value` with its intrinsic functions evaluated.

        `scope` adds references to the parameters and pseudo parameters. Raises TemplateError.
        """
        parameters: dict[tuple[str, str | None], Any] = {
            (name, None): text for name, text in self.parameters.items()
        }
        known = {**self._pseudo(), **parameters, **scope}
        try:
            return resolve(value, known, conditions=self.conditions, mappings=self.mappings)
        except Unresolvable as problem:
            raise TemplateError(self.path, [str(problem)]) from None
        except RecursionError:
            raise TemplateError(self.path, ["a condition refers to itself"]) from None

    def _pseudo(self) -> dict[tuple[str, str | None], Any]:
        stack_id = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{self.name}/local"
        return {
            ("AWS::Region", None): REGION,
            ("AWS::AccountId", None): ACCOUNT,
            ("AWS::Partition", None): "aws",
            ("AWS::URLSuffix", None): "amazonaws.com",
            ("AWS::StackName", None): self.name,
            ("AWS::StackId", None): stack_id,
            ("AWS::NotificationARNs", None): [],
        }


def load(
    path: Path, *, cache: Path, parameters: dict[str, str] | None = None, strict: bool = False
) -> Template:
    """Reads, transforms and checks a template. Raises TemplateError with every problem found.

    With `strict`, a part that is absent here is a problem.

    The transformation takes longer than any other step of the start. Its result is therefore cached
    in `cache`, by content.
    """
    text = _read(path)
    version = importlib.metadata.version("aws-sam-translator")
    read = f"{version}\n{text}{definition_texts(text, path.parent)}"
    digest = hashlib.sha256(read.encode()).hexdigest()
    kept = cache / "templates" / f"{digest[:32]}.json"
    if kept.exists():
        transformed = json.loads(kept.read_text())
    else:
        try:
            transformed = _transform(path, parse(path))
        except UNUSABLE as problem:
            raise TemplateError(
                path, [f"a value has a shape that SAM cannot read: {problem!r}"]
            ) from None
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(transformed))
        unfinished.replace(kept)
    template = _check(path, transformed, parameters or {})
    if strict and (problems := refusals(template.parts)):
        raise TemplateError(path, problems)
    return template


def parse(path: Path) -> dict[str, Any]:
    """Returns the template as written, with short forms of intrinsic functions spelled out.

    Raises TemplateError if the file is not a YAML template.
    """
    from samtranslator.yaml_helper import yaml_parse

    try:
        template = yaml_parse(_read(path))
    except yaml.YAMLError as problem:
        raise TemplateError(path, [f"it is not valid YAML: {problem}"]) from None
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise TemplateError(path, ["it has no Resources"])
    return template


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise TemplateError(path, [f"it cannot be read: {problem.strerror}"]) from None
    except UnicodeDecodeError as problem:
        raise TemplateError(
            path, [f"it is not UTF-8 ({problem.reason} at byte {problem.start})"]
        ) from None


def _transform(path: Path, source: dict[str, Any]) -> dict[str, Any]:
    # The translator takes the region from botocore, and fails without one.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    is_transformed = "AWS::Serverless-2016-10-31" in str(source.get("Transform"))
    if not is_transformed and "AWS::Serverless::" in str(source["Resources"]):
        raise TemplateError(
            path,
            ["it has AWS::Serverless resources but no 'Transform: AWS::Serverless-2016-10-31'"],
        )
    missing = []
    for name, resource in source["Resources"].items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise TemplateError(path, [f"resource {name} has no Type"])
        missing += _mark_local_code(path, f"resource {name}", resource.get("Properties") or {})
    for kind, properties in (source.get("Globals") or {}).items():
        missing += _mark_local_code(path, f"Globals {kind}", properties or {})
    missing += inline_definitions(source, path.parent)
    if missing:
        raise TemplateError(path, missing)

    class NoManagedPolicies:
        def load(self) -> dict[str, str]:
            return {}

    try:
        result = transform(source, {}, NoManagedPolicies())
    except InvalidDocumentException as problem:
        raise TemplateError(path, [str(cause.message) for cause in problem.causes]) from None
    return dict(result)


def _mark_local_code(path: Path, where: str, properties: dict[str, Any]) -> list[str]:
    missing = []
    for key in ("CodeUri", "ContentUri"):
        if isinstance(uri := properties.get(key), str) and not uri.startswith("s3://"):
            if not (path.parent / uri).exists():
                missing.append(f"{where}: {key} {uri} does not exist")
            properties[key] = _LOCAL_CODE + uri
    return missing


def _check(path: Path, transformed: dict[str, Any], chosen: dict[str, str]) -> Template:
    declared = transformed.get("Parameters") or {}
    metadata = transformed.get("Metadata") or {}
    if problems := metadata_problems(metadata, path.parent):
        raise TemplateError(path, problems)
    local = (metadata.get("Mayfly") or {}).get("LocalParameters") or {}
    chosen = {**local, **chosen}
    problems = [f"there is no parameter {name}" for name in chosen if name not in declared]
    parameters: dict[str, str | list[str]] = {}
    for name, spec in declared.items():
        if name in chosen or "Default" in spec:
            text = str(chosen.get(name, spec.get("Default")))
            problems += _parameter_problems(name, text, spec)
            parameters[name] = (
                text.split(",")
                if str(spec.get("Type", "")).startswith(("CommaDelimitedList", "List<"))
                else text
            )
        else:
            problems.append(
                f"parameter {name} has no default: give it with --parameter {name}=VALUE"
            )
    if problems:
        raise TemplateError(path, problems)
    template = Template(
        path=path,
        name=_stack_name(path.parent.resolve().name),
        resources=transformed["Resources"],
        outputs=transformed.get("Outputs") or {},
        metadata=metadata,
        conditions=transformed.get("Conditions") or {},
        mappings=transformed.get("Mappings") or {},
        parameters=parameters,
    )
    try:
        kept = {
            name: resource
            for name, resource in template.resources.items()
            if _is_wanted(template, resource)
        }
        parts = classify(kept)
    except UNUSABLE as problem:
        raise TemplateError(
            path, [f"a value has a shape that cannot be used: {problem!r}"]
        ) from None
    return Template(**{**vars(template), "resources": kept, "parts": tuple(parts)})


def _parameter_problems(name: str, text: str, spec: dict[str, Any]) -> list[str]:
    allowed = [str(value) for value in spec.get("AllowedValues", ())]
    if allowed and text not in allowed:
        return [f"parameter {name} is {text!r}; it may be {', '.join(allowed)}"]
    if "AllowedPattern" in spec and not re.fullmatch(spec["AllowedPattern"], text):
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


def _stack_name(folder: str) -> str:
    """Returns a valid name of a stack: letters, digits, hyphens.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
    """
    return "app-" + re.sub(r"[^A-Za-z0-9-]", "-", folder)


def _is_state(resource: dict[str, Any]) -> bool:
    """Returns whether the emulator holds a resource. The runtime itself keeps time, so a rule that
    has only a schedule is its own.
    """
    return resource["Type"] in STATE and not (
        resource["Type"] == "AWS::Events::Rule"
        and "EventPattern" not in (resource.get("Properties") or {})
    )


def _is_wanted(template: Template, resource: dict[str, Any]) -> bool:
    return "Condition" not in resource or bool(
        template.resolve({"Condition": resource["Condition"]}, {})
    )
