"""The direction of imports, as docs/layout.md defines it. `make lint` runs this file alone."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LIBRARY = ROOT / "layers" / "mayfly" / "mayfly"
AWS = {"boto3", "botocore"}

#: The top folders that each top folder of the product may import.
ARROWS: dict[str, set[str]] = {
    "functions": {"mayfly"},
    "mayfly": set(),
    "mayfly_local": set(),
    "mayfly_testing": {"mayfly", "mayfly_local"},
    "mayfly_lab": {"mayfly", "mayfly_local", "mayfly_testing"},
    "mayfly_cli": {"mayfly", "mayfly_local", "mayfly_lab"},
    "tools": {"functions", "mayfly", "mayfly_cli", "mayfly_local", "mayfly_testing"},
    "bench": {"functions", "mayfly", "mayfly_local", "mayfly_lab", "mayfly_testing"},
}
#: Folders of the product by the names under which they are imported.
FOLDERS = {name: LIBRARY if name == "mayfly" else ROOT / name for name in ARROWS}
#: Folders of the local runtime, from the lowest up. Each may import lower ones only.
ROOMS = [
    "errors",
    "account",
    "logs",
    "processes",
    "ports",
    "iam",
    "application",
    "compute",
    "stack_file",
    "emulator",
    "sources",
    "invoke",
    "options",
    "api_port",
    "advance",
    "stack",
    "up",
]
#: Features of the library, lower ones first. A feature may import lower ones, and the three folders
#: below them all.
FEATURES = ["tenants", "counters", "limits", "sessions", "jobs", "schedules", "webhooks", "imports"]
LIBRARY_ARROWS: dict[str, set[str]] = {
    "__init__": {"core", "web", *FEATURES},  # the front door
    "core": set(),
    "aws": {"core"},
    "web": {"core"},
    **{name: {"core", "aws", "web", *FEATURES[:index]} for index, name in enumerate(FEATURES)},
    # These three make jobs, and know nothing of each other.
    **{name: {"core", "aws", "web", *FEATURES[:5]} for name in FEATURES[5:]},
    "resources": {"core", "aws", "web", *FEATURES},
}
#: Files of an application that `mayfly init` makes, which are not the product's own.
STARTER = ROOT / "mayfly_cli" / "starter"
FILES = [
    path
    for folder in FOLDERS.values()
    for path in sorted(folder.rglob("*.py"))
    if not path.is_relative_to(STARTER)
]


#: Parts of jobs, each with those that it may import. `store` and `rules` are the modules next to
#: the folders.
JOBS = {
    "rules": set(),
    "authoring": {"rules"},
    "store": {"rules", "authoring"},
    "worker": {"rules", "authoring", "store"},
    "routing": {"rules", "authoring", "store"},
}
_OF_STORE = {"__init__", "due", "group_commit", "operations", "service", "store", "transactions"}
#: Modules of a feature that compute with values only.
PURE = (
    "cron.py",
    "dialect.py",
    "errors.py",
    "header.py",
    "history.py",
    "lifecycle.py",
    "model.py",
    "rules.py",
    "shards.py",
    "tokens.py",
    "windows.py",
    "wire.py",
)


def imports(path: Path) -> Iterator[str]:
    """Yields every module that a file imports, also within functions and for types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Its own folder: deployed, and as a package.
            if node.level == 1 and path.parent.parent == ROOT / "functions":
                continue
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            if node.module in ARROWS:  # `from mayfly import jobs`
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def folder_of(path: Path) -> str:
    return next(name for name, folder in FOLDERS.items() if path.is_relative_to(folder))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_import_follows_the_arrows(path: Path) -> None:
    own = folder_of(path)
    tops = {module.split(".")[0] for module in imports(path)}
    assert tops & {*ARROWS, "tests"} - {own} <= ARROWS[own]


@pytest.mark.parametrize("path", sorted((ROOT / "mayfly_local").rglob("*.py")), ids=name)
def test_folder_of_the_local_runtime_imports_lower_folders_only(path: Path) -> None:
    own = path.relative_to(ROOT / "mayfly_local").parts[0].removesuffix(".py")
    if own == "__init__":
        assert not list(imports(path))
        return
    others = {
        module.split(".")[1] for module in imports(path) if module.startswith("mayfly_local.")
    } - {own}
    assert others <= set(ROOMS[: ROOMS.index(own)])


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=name)
def test_feature_of_the_library_imports_lower_features_only(path: Path) -> None:
    own = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    others = {module.split(".")[1] for module in imports(path) if module.startswith("mayfly.")} - {
        own
    }
    assert others <= LIBRARY_ARROWS[own]


def place_in_jobs(parts: Sequence[str]) -> str:
    """Returns the part of jobs that a module belongs to."""
    if parts[0] in ("authoring", "worker", "routing"):
        return parts[0]
    return "store" if parts[0] in _OF_STORE else "rules"


@pytest.mark.parametrize("path", sorted((LIBRARY / "jobs").rglob("*.py")), ids=name)
def test_part_of_jobs_imports_lower_parts_only(path: Path) -> None:
    own = place_in_jobs(path.relative_to(LIBRARY / "jobs").with_suffix("").parts)
    others = {
        place_in_jobs(module.split(".")[2:])
        for module in imports(path)
        if module.startswith("mayfly.jobs.")
    } - {own}
    assert others <= JOBS[own]


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=name)
def test_only_the_edges_of_the_library_name_aws(path: Path) -> None:
    tops = {module.split(".")[0] for module in imports(path)}
    is_edge = path.parent.name == "aws" or name(path).endswith(
        ("mayfly/resources.py", "imports/store.py")
    )
    assert is_edge or not tops & AWS


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(LIBRARY.rglob("*.py"))
        if path.name in PURE
        and path.relative_to(LIBRARY).parts[0] in FEATURES
        # This one sends requests over the network.
        and (path.parent.name, path.name) != ("webhooks", "wire.py")
    ],
    ids=name,
)
def test_models_rules_and_shapes_are_pure(path: Path) -> None:
    """They may import the standard library, and models, rules and errors up to their feature.

    The history of a job is rules, too.
    """
    own = path.relative_to(LIBRARY).parts[0]
    lower = FEATURES[: FEATURES.index(own) + 1]
    allowed = {
        f"mayfly.core.{name}"
        for name in ("clock", "envelopes", "errors", "ids", "json_input", "raised")
    } | {
        f"mayfly.{feature}.{name}"
        for feature in lower
        for name in (
            "cron",
            "dialect",
            "errors",
            "header",
            "history",
            "model",
            "rules",
            "tokens",
        )
    }
    allowed |= {"mayfly.web.errors", "mayfly.web.rate_headers"}
    assert {module for module in imports(path) if module.startswith("mayfly")} <= allowed
    assert not {module.split(".")[0] for module in imports(path)} & (
        AWS | {"aws_lambda_powertools"}
    )
    # Time, randomness and ids are passed in as values.
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert not names & {"system_clock", "new_id", "new_nonce", "new_secret"}


@pytest.mark.parametrize("path", sorted((ROOT / "functions").rglob("*.py")), ids=name)
def test_function_imports_the_library_and_no_other_function(path: Path) -> None:
    tops = {module.split(".")[0] for module in imports(path)}
    folders = {path.name for path in (ROOT / "functions").iterdir()}
    # Deployed, the folder is the root: no package is called `functions` there.
    assert not tops & (AWS | folders | {"app", "deps", "functions", "main"})


@pytest.mark.parametrize("path", sorted((ROOT / "functions").glob("*/main.py")), ids=name)
def test_every_main_is_the_same(path: Path) -> None:
    assert path.read_text() == (ROOT / "functions" / "hello" / "main.py").read_text()


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=name)
def test_only_the_adapters_of_sessions_import_a_framework(path: Path) -> None:
    """A function that uses no framework needs none of them."""
    tops = {module.split(".")[0] for module in imports(path)}
    is_adapter = path.parent == LIBRARY / "sessions" / "web"
    assert is_adapter or not tops & {"asgiref", "anyio", "django", "flask", "starlette", "werkzeug"}
