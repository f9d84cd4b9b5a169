"""Payloads that tasks declare as dataclasses: schemas from types and from source, and checks."""

import importlib
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from mayfly.jobs.authoring.discovery import declared, imported
from mayfly.jobs.authoring.payloads import check
from mayfly.jobs.authoring.task import Task
from mayfly.jobs.errors import BadTask, PayloadMismatch

from tests.support.jobs import a_job, new_effects

HEAD = """
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Dict, List, Literal, Optional, Union

from mayfly.jobs import Effects, Job, task

class Size(StrEnum):
    SMALL = "s"
    LARGE = "l"

class Level(Enum):
    LOW = 1
    HIGH = 2
    TOP = 2

@dataclass(frozen=True)
class Line:
    sku: str
    count: int = 1
"""
TASK = """
@task("orders.tally")
def tally(order: Order, effects: Effects):
    return repr(order)
"""
_names = (f"payload_tasks_{number}" for number in itertools.count())


@pytest.fixture
def write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., ModuleType]:
    """Returns the function that makes a package of tasks of texts by file names."""
    name = next(_names)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        for module in [module for module in sys.modules if module.startswith(name)]:
            del sys.modules[module]

    request.addfinalizer(forget)

    def write(text: str = "", **others: str) -> ModuleType:
        for other, content in {"one": text, **others}.items():
            (folder / f"{other}.py").write_text(content)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return write


def folder_of(package: ModuleType) -> Path:
    return Path(package.__path__[0])


def both(package: ModuleType) -> Task:
    """Returns the task of a package, whose schema is the same by its types and by its source."""
    (task,) = imported(package, local=False).values()
    (declaration,) = declared(folder_of(package), local=False).values()
    assert declaration == task.declaration
    assert declaration.payload is not None
    jsonschema.Draft202012Validator.check_schema(declaration.payload)
    return task


def order(fields: str, head: str = HEAD, tail: str = TASK) -> str:
    lines = "".join(f"    {line}\n" for line in fields.split("; "))
    return f"{head}\n@dataclass\nclass Order:\n{lines}{tail}"


def run(task: Task, payload: Any) -> Any:
    return task.run(a_job(payload=payload), new_effects())


# ---------------------------------------------------------------- schemas

TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("x: str", {"type": "string"}),
    "whole-number": ("x: int", {"type": "integer"}),
    "number": ("x: float", {"type": "number"}),
    "boolean": ("x: bool", {"type": "boolean"}),
    "none": ("x: None", {"type": "null"}),
    "optional": ("x: Optional[str]", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "bar": ("x: int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    "union": ("x: Union[int, Union[str, None]]", {
        "anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}),
    "list": ("x: list", {"type": "array"}),
    "list-of": ("x: list[int]", {"type": "array", "items": {"type": "integer"}}),
    "old-list": ("x: List[str]", {"type": "array", "items": {"type": "string"}}),
    "dict": ("x: dict", {"type": "object"}),
    "dict-of": ("x: dict[str, bool]", {
        "type": "object", "additionalProperties": {"type": "boolean"}}),
    "old-dict": ("x: Dict[str, int]", {
        "type": "object", "additionalProperties": {"type": "integer"}}),
    "literal": ("x: Literal['a', 1, None, True]", {"enum": ["a", 1, None, True]}),
    "text-enum": ("x: Size", {"enum": ["s", "l"]}),
    "enum-with-an-alias": ("x: Level", {"enum": [1, 2]}),
    "dataclass": ("x: Line", {
        "type": "object",
        "properties": {"sku": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        "required": ["sku"], "additionalProperties": False}),
    "quoted": ("x: 'list[int]'", {"type": "array", "items": {"type": "integer"}}),
}  # fmt: skip


@pytest.mark.parametrize(("field", "schema"), TYPES.values(), ids=TYPES)
def test_type_has_the_same_schema_from_types_and_from_source(
    write: Callable[..., ModuleType], field: str, schema: dict[str, Any]
) -> None:
    assert both(write(order(field))).declaration.payload == {
        "type": "object", "properties": {"x": schema}, "required": ["x"],
        "additionalProperties": False,
    }  # fmt: skip


DEFAULTS = {
    "text": ("x: str = 'a'", {"default": "a"}),
    "negative": ("x: int = -1", {"default": -1}),
    "none": ("x: int | None = None", {"default": None}),
    "field": ("x: int = field(default=3)", {"default": 3}),
    "factory": ("x: list[int] = field(default_factory=list)", {}),
    "enum": ("x: Size = Size.SMALL", {}),
    "keyword-only": ("_: KW_ONLY; x: int = 1", {"default": 1}),
}


@pytest.mark.parametrize(("field", "default"), DEFAULTS.values(), ids=DEFAULTS)
def test_field_with_a_default_is_not_required(
    write: Callable[..., ModuleType], field: str, default: dict[str, Any]
) -> None:
    schema = both(write(order(field))).declaration.payload
    assert schema is not None
    assert "required" not in schema
    assert {name: schema["properties"]["x"].get(name, ...) for name in default} == default
    assert ("default" in schema["properties"]["x"]) is bool(default)


def test_task_of_the_job_has_no_schema(write: Callable[..., ModuleType]) -> None:
    head = (
        "from typing import Any\nfrom mayfly import jobs\nfrom mayfly.jobs import Job as J, task\n"
    )
    kinds = {"a": "job", "b": "job: jobs.Job", "c": "job: J", "d": "job: object", "e": "job: Any"}
    tasks = "".join(f"@task('t.{k}')\ndef {k}({v}, effects): ...\n" for k, v in kinds.items())
    package = write(head + tasks)
    found = [*imported(package, local=False).values()]
    assert [task.declaration.payload for task in found] == [None] * len(kinds)
    read = declared(folder_of(package), local=False)
    assert [declaration.payload for declaration in read.values()] == [None] * len(kinds)


@pytest.mark.parametrize(
    "start", ["from .shapes import Order", "from {name}.shapes import Order as O"],
    ids=["relative", "absolute-with-another-name"],
)  # fmt: skip
def test_dataclass_of_another_file_is_found(write: Callable[..., ModuleType], start: str) -> None:
    package = write()
    text = f"{start.format(name=package.__name__)}\nfrom mayfly.jobs import Effects, task\n{TASK}"
    if "as O" in start:
        text = text.replace("order: Order", "order: O")
    write(text, shapes=order("lines: list[Line]", tail=""))
    assert (
        run(both(package), {"lines": [{"sku": "tea"}]}) == "Order(lines=[Line(sku='tea', count=1)])"
    )


def test_class_that_modules_import_from_each_other_is_not_found(
    write: Callable[..., ModuleType],
) -> None:
    package = write(f"from .two import Order\n{TASK}", two="from .one import Order\n")
    with pytest.raises(BadTask, match="Order is neither Job nor a dataclass whose source is in"):
        declared(folder_of(package), local=False)


def test_annotations_of_a_module_may_be_texts(write: Callable[..., ModuleType]) -> None:
    text = "from __future__ import annotations\n" + order("x: int")
    assert run(both(write(text)), {"x": 1}) == "Order(x=1)"


# ---------------------------------------------------------------- refused declarations

REFUSED = {
    "set": ("x: set[int]", r"set\[int\] cannot be a type of a payload"),
    "tuple": ("x: tuple[int, int]", r"tuple\[int, int\] cannot be a type"),
    "bytes": ("x: bytes", r"bytes cannot be a type of a payload"),
    "any": ("x: object", r"object cannot be a type of a payload"),
    "unknown": ("x: int; y: Nothing", r"Nothing cannot be a type of a payload"),
    "datetime": ("x: datetime.datetime", r"datetime\.datetime cannot be a type"),
    "keys": ("x: dict[int, str]", r"the keys of dict\[int, str\] must be str"),
    "deep": ("x: list[dict[str, set]]", r"set cannot be a type of a payload"),
    "itself": ("x: list['Order']", r"Order contains itself"),
    "literal": ("x: Literal[1.5]", r"the values of Literal must be texts"),
    "no-argument": ("x: int = field(init=False)", r"x is not an argument"),
    "class-variable": ("x: ClassVar[int] = 1", r"ClassVar\[int\] cannot be a type"),
    "job": ("x: Job", r"Job cannot be a type of a payload"),
}


@pytest.mark.parametrize(("fields", "problem"), REFUSED.values(), ids=REFUSED)
def test_other_type_is_refused_at_declaration_with_file_and_line(
    write: Callable[..., ModuleType], fields: str, problem: str
) -> None:
    head = HEAD.replace("\n", "\nimport datetime\nfrom typing import ClassVar\n", 1)
    text = order(fields, head=head)
    package = write(text)
    with pytest.raises(BadTask, match=problem) as refusal:
        declared(folder_of(package), local=False)
    lines = dict(enumerate(text.splitlines(), 1))
    place = re.search(r"one\.py:(\d+): ", str(refusal.value))
    assert place is not None
    assert lines[int(place[1])].strip() in ("class Order:", fields.rsplit("; ", maxsplit=1)[-1])
    with pytest.raises((BadTask, NameError)):
        imported(package, local=False)


CLASSES = {
    "plain-class": ("class Part:\n    y: int\n", "Part (must be a dataclass|cannot be a type)"),
    "heir": ("@dataclass\nclass Part(Other):\n    x: int = 1\n", "Part inherits from another"),
    "enum-of-floats": ("class Part(Enum):\n    A = 1.5\n", "the values of Part must be"),
}


@pytest.mark.parametrize(("text", "problem"), CLASSES.values(), ids=CLASSES)
def test_class_that_is_not_a_plain_dataclass_is_refused(
    write: Callable[..., ModuleType], text: str, problem: str
) -> None:
    other = "@dataclass\nclass Other:\n    z: int = 1\n"
    package = write(order("x: Part", head=f"{HEAD}\n{other}\n{text}"))
    with pytest.raises(BadTask, match=rf"one\.py:\d+: {problem}"):
        declared(folder_of(package), local=False)
    with pytest.raises(BadTask, match=rf"one\.py:\d+: .*{problem}"):
        imported(package, local=False)


@pytest.mark.parametrize("kind", ["dict", "list[int]", "str", "Size", "Line | None", "'Line'"])
def test_first_parameter_is_a_job_or_a_dataclass(
    write: Callable[..., ModuleType], kind: str
) -> None:
    package = write(HEAD + TASK.replace("Order", kind))
    if kind == "'Line'":
        assert both(package).declaration.payload is not None
        return
    problem = r"one\.py:\d+: .* is neither Job nor a dataclass"
    with pytest.raises(BadTask, match=problem):
        declared(folder_of(package), local=False)
    with pytest.raises(BadTask, match=problem):
        imported(package, local=False)


def test_task_with_a_payload_takes_two_or_three_parameters(
    write: Callable[..., ModuleType],
) -> None:
    tail = TASK.replace("effects: Effects", "effects: Effects, job: Job, more: int")
    package = write(order("x: int", tail=tail))
    with pytest.raises(
        BadTask, match=r"one\.py:\d+: a task with a payload takes \(payload, effects"
    ):
        declared(folder_of(package), local=False)
    with pytest.raises(BadTask, match="a task with a payload takes"):
        imported(package, local=False)


# ---------------------------------------------------------------- payloads

ORDER = (
    "number: str; lines: list[Line]; size: Size = Size.SMALL; note: str | None = None; "
    "price: float = 0.0; tags: dict[str, int] = field(default_factory=dict)"
)
GOOD = {"number": "7", "lines": [{"sku": "tea", "count": 2.0}, {"sku": "milk"}]}


def test_payload_is_an_instance_with_its_nested_parts(write: Callable[..., ModuleType]) -> None:
    task = both(write(order(ORDER)))
    assert run(task, {**GOOD, "size": "l", "price": 3, "tags": {"a": 1.0}}) == (
        "Order(number='7', lines=[Line(sku='tea', count=2), Line(sku='milk', count=1)], "
        "size=<Size.LARGE: 'l'>, note=None, price=3.0, tags={'a': 1})"
    )


def test_task_may_take_its_job_as_a_third_parameter(write: Callable[..., ModuleType]) -> None:
    tail = TASK.replace("effects: Effects", "effects: Effects, job: Job")
    tail = tail.replace("repr(order)", "(order.x, job.id)")
    assert run(both(write(order("x: int", tail=tail))), {"x": 1}) == (1, "j1")


BAD: dict[str, tuple[Any, str, str]] = {
    "not-an-object": ([], "payload", "must be a JSON object, not an array"),
    "no-payload": (None, "payload", "must be a JSON object, not null"),
    "missing": ({"lines": []}, "payload.number", "is missing"),
    "unknown": ({**GOOD, "colour": 1}, "payload.colour", "unknown field"),
    "text": ({**GOOD, "number": 7}, "payload.number", "must be a text, not a number"),
    "inside-a-list": (
        {**GOOD, "lines": [{"sku": "tea"}, {"sku": "milk", "count": "2"}]},
        "payload.lines[1].count", "must be a whole number, not a text",
    ),
    "fraction": (
        {**GOOD, "lines": [{"sku": "tea", "count": 1.5}]},
        "payload.lines[0].count", "must be a whole number, not a number with a fraction",
    ),
    "boolean-for-a-number": ({**GOOD, "price": True}, "payload.price", "must be a number, not a"),
    "beyond-floats": ({**GOOD, "price": 10**400}, "payload.price", "must be a number"),
    "choice": ({**GOOD, "size": "xl"}, "payload.size", "must be one of 's', 'l'"),
    "union": ({**GOOD, "note": 1}, "payload.note", "must be a text or null, not a number"),
    "dict": ({**GOOD, "tags": {"a": "b"}}, "payload.tags.a", "must be a whole number, not a text"),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "field", "problem"), BAD.values(), ids=BAD)
def test_payload_that_does_not_fit_is_refused_with_its_field(
    write: Callable[..., ModuleType], payload: Any, field: str, problem: str
) -> None:
    package = write(order(ORDER))
    declaration = declared(folder_of(package), local=False)["orders.tally"]
    with pytest.raises(PayloadMismatch) as refusal:
        declaration.check_payload(payload)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: {problem}")
    with pytest.raises(PayloadMismatch, match="payload"):
        run(both(package), payload)
    assert declaration.payload is not None
    if "beyond" not in problem and payload != {**GOOD, "price": 10**400}:
        assert not jsonschema.Draft202012Validator(declaration.payload).is_valid(payload)


def test_field_of_the_option_that_was_meant_is_named() -> None:
    line = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    with pytest.raises(PayloadMismatch, match=r"payload\.n: must be a whole number, not a text"):
        check({"anyOf": [{"type": "null"}, line]}, {"n": "x"})


def test_dataclass_may_refuse_its_values_itself(write: Callable[..., ModuleType]) -> None:
    own = (
        "    def __post_init__(self):\n        if self.x < 1: raise ValueError('x is too small')\n"
    )
    task = both(write(order("x: int").replace("    x: int\n", f"    x: int\n{own}")))
    with pytest.raises(PayloadMismatch, match="payload: x is too small"):
        run(task, {"x": 0})


def test_tasks_without_dataclasses_load_nothing_for_them(
    write: Callable[..., ModuleType],
) -> None:
    import subprocess

    package = write(
        "from mayfly.jobs import Job, task\n@task('a.b')\ndef f(job: Job, effects): ...\n"
    )
    program = (
        "import sys; from pathlib import Path\n"
        f"sys.path[:0] = {sys.path!r}\n"
        f"import {package.__name__} as package\n"
        "from mayfly.jobs.authoring.discovery import declared, imported\n"
        "imported(package, local=False); declared(Path(package.__path__[0]), local=False)\n"
        "print([name for name in sys.modules if 'payload' in name and name.startswith('mayfly')],"
        " 'asyncio' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] False"
