"""Transforms a template with its parameters' values: works in SAM, files and nested stacks."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from mayfly_local.application.classes import Class, Part
from mayfly_local.application.global_tables import as_tables
from mayfly_local.application.includes import Includes, expand_loops
from mayfly_local.application.intrinsics import (
    Unresolvable,
    named_imports,
    pseudo_parameters,
    references,
    resolve,
)
from mayfly_local.application.nested import inline, with_values
from mayfly_local.application.parameter_store import (
    ParameterStore,
    StoredParameter,
    type_of_value,
)
from mayfly_local.application.parameters import Value, missing_parameters, parameter_values
from mayfly_local.application.physical_ids import name_keys, physical_id
from mayfly_local.application.sam import translated
from mayfly_local.application.samconfig import saved_overrides
from mayfly_local.application.source import parse, read
from mayfly_local.errors import TemplateError

__all__ = ["Transformed", "stack_name", "transform", "unanswered"]

_STACK: Final = "AWS::CloudFormation::Stack"
#: Transforms of CloudFormation that are worked in here.
_TRANSFORMS: Final = {"AWS::Serverless-2016-10-31", "AWS::LanguageExtensions", "AWS::Include"}
#: More stacks within stacks than this are taken for a stack that nests itself.
_DEEPEST: Final = 10


@dataclass(frozen=True)
class Transformed:
    """A template without resources of SAM and without nested stacks.

    `files` has the digest of each further file that it was made of.
    """

    template: dict[str, Any]
    parameters: dict[str, Value]
    imports: dict[str, str]
    #: Values that were given for dynamic references, by their text.
    dynamic: dict[str, str]
    parts: tuple[Part, ...]
    #: Parameters of Systems Manager that nothing has a value for.
    unknown: tuple[StoredParameter, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    def kept(self) -> dict[str, Any]:
        """Returns a JSON object from which `restored` makes this again."""
        return asdict(self)

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> "Transformed | None":
        """Returns what was kept, or None if one of its files has changed, or its form."""
        if set(kept) != {part.name for part in fields(cls)}:
            return None
        if any(_digest(Path(name)) != digest for name, digest in kept["files"].items()):
            return None
        parts = tuple(Part(**{**part, "group": Class(part["group"])}) for part in kept["parts"])
        unknown = tuple(StoredParameter(**stored) for stored in kept["unknown"])
        return cls(**{**kept, "parts": parts, "unknown": unknown})


def transform(
    path: Path, text: str, saved: Mapping[str, str], chosen: Mapping[str, str]
) -> Transformed:
    """Transforms the text of a template.

    `chosen` are parameters that must be declared, or values of `Fn::ImportValue` and of dynamic
    references; `saved` are others, of which a declared one is used. Raises TemplateError with every
    problem found.
    """
    source = parse(path, text)
    declared, local = source.get("Parameters") or {}, _local_parameters(source)
    imports = named_imports(source)
    unknown = [
        f"there is no parameter {name}"
        for name in (*local, *chosen)
        if name not in declared and name not in imports and not name.startswith("resolve:")
    ]
    stack = _Stack(path, stack_name(path.parent.resolve().name), {**local, **chosen})
    template, values = stack.transformed(source, {**saved, **local, **chosen}, unknown)
    return Transformed(
        template, values, stack.imports,
        {
            f"{{{{{name}}}}}": str(value)
            for name, value in {**local, **chosen}.items()
            if name.startswith("resolve:")
        },
        tuple(stack.parts),
        tuple(stack.store.unknown.values()),
        {str(file): _digest(file) for file in sorted(stack.files)},
    )  # fmt: skip


def stack_name(folder: str) -> str:
    """Returns a valid name of a stack: letters, digits, hyphens.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
    """
    return "app-" + re.sub(r"[^A-Za-z0-9-]", "-", folder)


def unanswered(path: Path, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Returns the specification of each parameter that needs a value and has none.

    Returns nothing for a template that cannot be read; loading it says why.
    """
    try:
        source = parse(path)
        known = {**saved_overrides(path.parent), **_local_parameters(source), **chosen}
    except TemplateError:
        return {}
    return missing_parameters(source.get("Parameters") or {}, known)


def _local_parameters(source: dict[str, Any]) -> dict[str, Any]:
    """Returns `Metadata.Mayfly.LocalParameters`; another form of it is reported later."""
    found: Any = source
    for key in ("Metadata", "Mayfly", "LocalParameters"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


class _Stack:
    """A template and the stacks within it, with what is found on the way."""

    def __init__(self, path: Path, name: str, chosen: Mapping[str, str]) -> None:
        self._path = path
        self._name = name
        self._chosen = chosen
        self.store = ParameterStore(chosen)
        self.imports: dict[str, str] = {}
        self.parts: list[Part] = []
        self.files: set[Path] = set()

    def transformed(
        self, source: dict[str, Any], chosen: Mapping[str, Any], problems: list[str]
    ) -> tuple[dict[str, Any], dict[str, Value]]:
        """Returns the template and its parameters' values. Changes `source`.

        Raises TemplateError, also for the problems that are known already.
        """
        values = self._values(self._path, source, chosen, problems=problems)
        return self._worked_in(self._path, source, values, depth=0), values

    def _values(
        self,
        path: Path,
        source: dict[str, Any],
        chosen: Mapping[str, Any],
        *,
        later: Collection[str] = (),
        problems: Sequence[str] = (),
    ) -> dict[str, Value]:
        """Returns the values of a template's parameters, except for those that are known `later`.

        Parameters of Systems Manager that the template itself makes depend on the others. Raises
        TemplateError, also for the problems that are known already.
        """
        declared = {
            name: spec
            for name, spec in (source.get("Parameters") or {}).items()
            if name not in later
        }
        plain = {
            name: spec
            for name, spec in declared.items()
            if type_of_value(str(spec.get("Type"))) is None
        }
        if plain != declared and not missing_parameters(declared, chosen):
            with suppress(TemplateError):  # It is raised with all other problems below.
                values, _ = parameter_values(path, plain, chosen)
                self.store.learn(source["Resources"], self._static(source, values))
        values, parts = parameter_values(path, declared, chosen, problems, self.store)
        self.parts += parts
        return values

    def _static(
        self,
        source: dict[str, Any],
        values: Mapping[str, Value],
        attributes: Mapping[tuple[str, str | None], Any] | None = None,
    ) -> Callable[[Any], Any]:
        """Returns what evaluates an expression of parameters, mappings and conditions.

        `attributes` are values of resources that it may use. It raises Unresolvable for any other.
        """
        known: dict[tuple[str, str | None], Any] = {
            **pseudo_parameters(self._name),
            **{(name, None): value for name, value in values.items()},
            **(attributes or {}),
        }
        return partial(
            resolve,
            scope=known,
            conditions=source.get("Conditions") or {},
            mappings=source.get("Mappings") or {},
            imports=self.imports,
        )

    def _worked_in(
        self,
        path: Path,
        source: dict[str, Any],
        values: Mapping[str, Value],
        *,
        foreseen: Mapping[str, Value] | None = None,
        depth: int,
    ) -> dict[str, Any]:
        """Returns a template with everything worked in. Changes `source`.

        `foreseen` are the values of parameters that are known later, for conditions.
        """
        source["Conditions"] = with_values(source.get("Conditions") or {}, foreseen or {})
        static = self._static(source, values)
        try:
            self._note(source, static)
            source = Includes(path, static, self.files, self._note_missing_file).expand(source)
            source = expand_loops(source, static)
        except Unresolvable as problem:
            raise TemplateError(path, [str(problem)]) from None
        template = translated(path, source, dict(values), static, self.files)
        self.parts += as_tables(template)
        known = {**values, **(foreseen or {})}
        for name in _nested_stacks(template["Resources"]):
            self._nest(path, template, name, static=static, known=known, depth=depth)
        return template

    def _note(self, source: dict[str, Any], static: Callable[[Any], Any]) -> None:
        """Notes what the template takes from elsewhere: imports and macros."""
        transforms = source.get("Transform") or []
        for transform in transforms if isinstance(transforms, list) else [transforms]:
            name = transform.get("Name") if isinstance(transform, dict) else transform
            if name not in _TRANSFORMS:
                self.parts.append(Part(Class.ABSENT, "Transform", detail=f"the macro {name}"))
        for name in named_imports(source, static):
            if name in self._chosen:
                self.imports[name] = self._chosen[name]
            else:
                self.imports[name] = name
                self.parts.append(
                    Part(
                        Class.ABSENT,
                        "Fn::ImportValue",
                        detail=f"{name} (give it with --parameter {name}=VALUE)",
                    )
                )

    def _note_missing_file(self, location: str) -> None:
        """Notes an `AWS::Include` whose file is not on this machine."""
        detail = f"AWS::Include of {location}, which is not next to the template"
        part = Part(Class.ABSENT, "Fn::Transform", detail=detail)
        self.parts += [] if part in self.parts else [part]

    def _nest(
        self,
        path: Path,
        parent: dict[str, Any],
        name: str,
        *,
        static: Callable[[Any], Any],
        known: Mapping[str, Value],
        depth: int,
    ) -> None:
        """Works a nested stack in, if its template is a local file.

        `known` are the values of the parent's parameters, also those that it foresees.
        """
        properties = parent["Resources"][name].get("Properties") or {}
        location = properties.get("TemplateURL")
        try:
            location = static(location)
        except Unresolvable:
            return
        if not isinstance(location, str) or "://" in location or depth >= _DEEPEST:
            return
        child_path = (path.parent / location.removeprefix("file:")).resolve()
        if not child_path.is_file():
            return
        self.files.add(child_path)
        child = parse(child_path, read(child_path))
        declared = child.get("Parameters") or {}
        given: dict[str, Any] = {
            key: value
            for key, value in (properties.get("Parameters") or {}).items()
            if key in declared
        }
        plain: dict[str, Any] = {}
        for key, value in given.items():
            try:
                plain[key] = static(value)
            except Unresolvable:
                continue
        later = set(given) - set(plain)
        values = self._values(child_path, child, plain, later=later)
        expressions = {
            key: _later(given[key], str(declared[key].get("Type")), parent["Resources"])
            for key in later
        }
        foreseen = self._foreseen(expressions, parent, known)
        template = self._worked_in(child_path, child, values, foreseen=foreseen, depth=depth + 1)
        if "Parameters" in template:
            template = {**template, "Parameters": {}}
        _make_absolute(template, child_path.parent)
        inline(parent, name, template, {**values, **expressions})

    def _foreseen(
        self, expressions: Mapping[str, Any], parent: dict[str, Any], known: Mapping[str, Value]
    ) -> dict[str, Value]:
        """Returns the values of a nested stack's parameters before their resources exist.

        CloudFormation evaluates the conditions of a nested stack when its parent's resources exist.
        Here, both are one stack, so that conditions have the names and ARNs of the form that AWS
        gives. A name that the template gives is exact.
        Page conditions-section-structure of
        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/
        """
        evaluate = self._static(parent, known)
        attributes: dict[tuple[str, str | None], Any] = {}
        for name, attribute in references(list(expressions.values())):
            if (resource := parent["Resources"].get(name)) is not None:
                attributes[name, attribute] = _attribute_before(
                    self._name, name, resource, attribute, evaluate
                )
        evaluate = self._static(parent, known, attributes)
        foreseen: dict[str, Value] = {}
        for key, expression in expressions.items():
            with suppress(Unresolvable):  # A condition that needs it reports it later.
                foreseen[key] = evaluate(expression)
        return foreseen


def _nested_stacks(resources: Mapping[str, Any]) -> list[str]:
    """Returns the names of nested stacks, each after those whose outputs it uses."""
    waiting = {
        name: {used for used, _ in references(resource.get("Properties") or {})}
        for name, resource in resources.items()
        if resource["Type"] == _STACK
    }
    ordered = []
    while waiting:
        # If stacks use each other, the first of them does as well as any: AWS refuses all of them.
        ready = next((name for name, used in waiting.items() if not used & waiting.keys()), None)
        ordered.append(ready or next(iter(waiting)))
        del waiting[ordered[-1]]
    return ordered


def _attribute_before(
    stack: str,
    name: str,
    resource: Mapping[str, Any],
    attribute: str | None,
    evaluate: Callable[[Any], Any],
) -> Any:
    """Returns the value of `Ref` (`attribute` None) or of an attribute before the resource exists.

    `evaluate` gives the values of its properties, or raises Unresolvable.
    """
    properties: dict[str, Any] = {}
    for key, value in (resource.get("Properties") or {}).items():
        if key in (*name_keys(resource["Type"]), "Value", "TemplateURL"):
            with suppress(Unresolvable):
                properties[key] = evaluate(value)
    if (resource["Type"], attribute) == ("AWS::SSM::Parameter", "Value") and "Value" in properties:
        return properties["Value"]
    return physical_id(stack, name, resource["Type"], properties, attribute)


def _later(given: Any, kind: str, resources: Mapping[str, Any]) -> Any:
    """Returns the expression of a nested stack's parameter whose value is known later."""
    if (stored := type_of_value(kind)) is not None:
        kind = stored
        if isinstance(given, dict) and set(given) == {"Ref"}:
            made = resources.get(given["Ref"]) or {}
            if made.get("Type") == "AWS::SSM::Parameter":
                given = {"Fn::GetAtt": [given["Ref"], "Value"]}
    return (
        {"Fn::Split": [",", given]} if kind.startswith(("CommaDelimitedList", "List<")) else given
    )


def _make_absolute(template: dict[str, Any], folder: Path) -> None:
    """Makes the local folders of code absolute, as the parent stack has another folder."""
    for resource in template["Resources"].values():
        properties = resource.get("Properties") or {}
        for key in ("Code", "Content"):
            code = properties.get(key)
            if isinstance(code, dict) and code.get("S3Bucket") == "local":
                code["S3Key"] = str((folder / str(code["S3Key"])).resolve())
        metadata = resource.get("Metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("DockerContext"), str):
            metadata["DockerContext"] = str((folder / metadata["DockerContext"]).resolve())


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
