"""A SAM template, transformed to CloudFormation and split in two parts.

The emulator holds the state, and this runtime runs the compute.
"""

import hashlib
import importlib.metadata
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mayfly_local.application.classes import Part, refusals
from mayfly_local.application.intrinsics import Unresolvable, pseudo_parameters, references, resolve
from mayfly_local.application.metadata import libraries, metadata_problems
from mayfly_local.application.parameter_store import StoredParameter
from mayfly_local.application.parameters import Value
from mayfly_local.application.samconfig import saved_overrides
from mayfly_local.application.source import parse, read
from mayfly_local.application.supported import STATE, classify, is_unknown_key
from mayfly_local.application.transformation import Transformed, stack_name, transform
from mayfly_local.errors import TemplateError

__all__ = ["UNUSABLE", "Template", "load", "parse"]

#: Changes when templates are transformed in another way.
_FORMAT: Final = 5
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
    parameters: dict[str, Value]
    #: Its `Description`.
    description: str = ""
    #: Every resource with its class, and properties of running types that do not run.
    parts: tuple[Part, ...] = ()
    #: Values of `Fn::ImportValue` by name.
    imports: dict[str, str] = field(default_factory=dict)
    #: Folders of layers that are not in the template, by ARN or name.
    layers: dict[str, Path] = field(default_factory=dict)
    #: Values of dynamic references (`{{resolve:...}}`) by their text.
    dynamic: dict[str, str] = field(default_factory=dict)
    #: Parameters of Systems Manager that nothing has a value for.
    unknown: tuple[StoredParameter, ...] = ()

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
        known = {**pseudo_parameters(self.name), **parameters, **scope}
        try:
            return resolve(
                value,
                known,
                conditions=self.conditions,
                mappings=self.mappings,
                imports=self.imports,
                dynamic=self.dynamic,
            )
        except Unresolvable as problem:
            raise TemplateError(self.path, [str(problem)]) from None
        except RecursionError:
            raise TemplateError(self.path, ["a condition refers to itself"]) from None


def load(
    path: Path,
    *,
    cache: Path,
    parameters: dict[str, str] | None = None,
    layers: dict[str, Path] | None = None,
    strict: bool = False,
) -> Template:
    """Reads, transforms and checks a template. Raises TemplateError with every problem found.

    With `strict`, a part that is absent here is a problem. The transformation takes longer than any
    other step of the start. Its result is therefore cached in `cache`, by content.
    """
    template = replace(
        _check(path, _transformed(path, cache, parameters or {})), layers=layers or {}
    )
    if strict and (problems := refusals(template.parts)):
        raise TemplateError(path, problems)
    return template


def _transformed(path: Path, cache: Path, chosen: dict[str, str]) -> Transformed:
    text, saved = read(path), saved_overrides(path.parent)
    version = importlib.metadata.version("aws-sam-translator")
    digest = hashlib.sha256(
        json.dumps([_FORMAT, version, text, saved, chosen], sort_keys=True).encode()
    ).hexdigest()
    kept = cache / "templates" / f"{digest[:32]}.json"
    if kept.exists() and (known := Transformed.restored(json.loads(kept.read_text()))) is not None:
        return known
    try:
        transformed = transform(path, text, saved, chosen)
    except UNUSABLE as problem:
        raise TemplateError(
            path, [f"a value has a shape that SAM cannot read: {problem!r}"]
        ) from None
    kept.parent.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(transformed.kept()))
    unfinished.replace(kept)
    return transformed


def _check(path: Path, transformed: Transformed) -> Template:
    source = transformed.template
    metadata = source.get("Metadata") or {}
    if problems := metadata_problems(metadata, path.parent):
        raise TemplateError(path, problems)
    template = Template(
        path=path,
        name=stack_name(path.parent.resolve().name),
        resources=source["Resources"],
        outputs=source.get("Outputs") or {},
        metadata=metadata,
        conditions=source.get("Conditions") or {},
        mappings=source.get("Mappings") or {},
        parameters=transformed.parameters,
        description=str(source.get("Description") or ""),
        imports=transformed.imports,
        dynamic=transformed.dynamic,
        unknown=transformed.unknown,
    )
    try:
        wanted = {
            section: {
                name: member
                for name, member in members.items()
                if not isinstance(member, dict) or _is_wanted(template, member)
            }
            for section, members in (
                ("resources", template.resources),
                ("outputs", template.outputs),
            )
        }
        parts = [*transformed.parts, *classify(wanted["resources"])]
    except UNUSABLE as problem:
        raise TemplateError(
            path, [f"a value has a shape that cannot be used: {problem!r}"]
        ) from None
    return replace(
        template,
        resources=wanted["resources"],
        outputs=wanted["outputs"],
        parts=tuple(parts),
    )


def _is_state(resource: dict[str, Any]) -> bool:
    """Returns whether the emulator holds a resource. The runtime itself keeps time, so a rule that
    has only a schedule is its own.
    """
    if resource["Type"] == "AWS::Events::Rule":
        return "EventPattern" in (resource.get("Properties") or {})
    return resource["Type"] in STATE and not is_unknown_key(resource)


def _is_wanted(template: Template, resource: dict[str, Any]) -> bool:
    return "Condition" not in resource or bool(
        template.resolve({"Condition": resource["Condition"]}, {})
    )
