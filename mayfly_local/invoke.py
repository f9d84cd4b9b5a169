"""`mayfly invoke`: one invocation of one function against the running stack's emulator.

The function runs in a process here, or in a container by `sam local invoke`.
"""

import asyncio
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mayfly_local.application.metadata import has_libraries, libraries
from mayfly_local.application.source import parse
from mayfly_local.compute.environment import Environment
from mayfly_local.compute.invocation import Failure, Invocation, NotSent
from mayfly_local.errors import LocalError
from mayfly_local.logs import Logs
from mayfly_local.ports.containers import gateway, way_to_emulator
from mayfly_local.processes.children import Children
from mayfly_local.stack_file import StackFile

__all__ = ["in_container", "in_process", "read_event", "require_engine"]

#: The architecture and the wheels of a container, by this machine's architecture.
_ARCHITECTURES: Final = {
    "x86_64": ("x86_64", "manylinux2014_x86_64"),
    "aarch64": ("arm64", "manylinux2014_aarch64"),
    "arm64": ("arm64", "manylinux2014_aarch64"),
}


async def in_process(name: str, event: Any, *, work: Path) -> int:
    """Runs one invocation in a fresh process and prints its result.

    Returns the exit code, which is 1 if the function failed.
    """
    stack = StackFile.read(work)
    function = _find(stack, name)
    with tempfile.TemporaryDirectory(prefix="mayfly-invoke-") as folder:
        logs = Logs(Path(folder), form="text", out=sys.stderr)
        children = Children()
        await children.open()
        environment = Environment(stack.launch(function), logs.of(function))
        try:
            result = await environment.start(children) or await environment.invoke(
                Invocation.of(event)
            )
        except NotSent:
            raise LocalError(
                f"the process of {function} ended before it took the event; its log is above"
            ) from None
        finally:
            await environment.stop(grace_seconds=1)
            await children.close()
            logs.close()
    print(json.dumps(json.loads(result.payload), indent=2, ensure_ascii=False))
    if not isinstance(result, Failure):
        return 0
    for part in stack.absent.get(function, ()):  # It may be the reason.
        print(f"note: {part} is absent on this machine", file=sys.stderr)
    return 1


async def in_container(
    name: str, event: Path, *, work: Path, sam: Path, bridge: str, more: Sequence[str] = ()
) -> int:
    """Runs `sam local invoke` with the extra options of `more`, and returns its exit code.

    The container reaches the emulator through this process, at the address `bridge`. It gets the
    packages of libraries and layers, built for this machine's architecture. Raises LocalError if
    sam is not installed.
    """
    if shutil.which(sam) is None:
        raise LocalError(f"there is no {sam}; make it with: make .venv-sam/ready")
    stack = StackFile.read(work)
    function = _find(stack, name)
    folder = work / "sam"
    folder.mkdir(parents=True, exist_ok=True)
    async with way_to_emulator(stack.endpoint, bridge) as endpoint:
        variables = {name: _variables(stack, name, endpoint) for name in stack.launches}
        template = _write_private(
            folder / "template.json", _container_template(stack, folder, variables)
        )
        arguments = [
            "--template",
            template,
            "--event",
            event,
            "--env-vars",
            _write_private(folder / "environment.json", variables),
        ]
        sam_process = await asyncio.create_subprocess_exec(
            sam, "local", "invoke", function, *map(str, arguments), *more
        )
        return await sam_process.wait()


def _write_private(path: Path, what: Any) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(what, default=str))
    return path


async def require_engine(name: str) -> str:
    """Returns this machine's address on the engine's network.

    Raises LocalError, with the other way to invoke, if no engine answers.
    """
    try:
        return await gateway()
    except LocalError as problem:
        raise LocalError(
            f"{problem}, so `sam local invoke` cannot run; without one, use: mayfly invoke "
            f"{name} --event events/{name}.json"
        ) from None


def read_event(path: Path | None, name: str, *, work: Path) -> tuple[Any, Path]:
    """Returns the event in a file, and the file's path.

    The default is the function's sample in events/. Raises LocalError if the file is missing or is
    not valid JSON.
    """
    function = _find(StackFile.read(work), name)
    path = path or Path("events") / f"{_snake(function)}.json"
    try:
        return json.loads(path.read_text()), path
    except OSError:
        raise LocalError(f"there is no event file {path}; give one with --event FILE") from None
    except ValueError as problem:
        raise LocalError(f"{path} is not valid JSON: {problem}") from None


def _snake(name: str) -> str:
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and index else letter.lower()
        for index, letter in enumerate(name)
    )


def _find(stack: StackFile, wanted: str) -> str:
    """Returns the logical id of a function that is written as its id or as its folder.

    `run_jobs` is the folder's name of `RunJobs`. Raises LocalError if the stack has no such
    function, or if it is absent here.
    """
    by_plain_name = {_plain(name): name for name in stack.launches}
    name = by_plain_name.get(_plain(wanted))
    if name is None:
        absent = {_plain(name): parts for name, parts in stack.absent.items()}
        if parts := absent.get(_plain(wanted)):
            raise LocalError(f"absent on this machine: {', '.join(parts)}")
        others = ", ".join(sorted(stack.launches)) or "none"
        raise LocalError(f"there is no function {wanted!r}; the stack has: {others}")
    return name


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _variables(stack: StackFile, function: str, endpoint: str) -> Mapping[str, str]:
    """Returns the variables of a function in a container.

    In them, the emulator's URL is the one that the container can reach. URLs of queues begin with
    it, too.
    """
    # The container sets these itself, or has them at other places.
    own = {
        "PATH", "LANG", "TZ", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LD_LIBRARY_PATH",
        "PYTHONPATH", "_HANDLER",
    }  # fmt: skip
    variables = stack.launch(function).variables
    return {
        name: value.replace(stack.endpoint, endpoint)
        for name, value in variables.items()
        if name not in own
    }


def _container_template(
    stack: StackFile, folder: Path, variables: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Returns the template that `sam local` runs.

    It has absolute paths, this machine's architecture, and layers that are folders of installed
    packages. Libraries become layers, too. It declares each function's variables, because
    `sam local` passes on only declared ones.
    """
    source = Path(stack.template)
    architecture, wheels = _ARCHITECTURES[platform.machine()]
    template = parse(source)
    globals_ = template.get("Globals", {}).get("Function", {})
    if "Architectures" in globals_:
        globals_["Architectures"] = [architecture]
    layers = {
        f"MayflyLibrary{number}": library
        for number, library in enumerate(libraries(template.get("Metadata") or {}, source.parent))
    }
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if layers and has_libraries(resource):
            # Of a file in several layers, a function sees the last one.
            properties["Layers"] = [
                *properties.get("Layers", ()), *({"Ref": layer} for layer in layers),
            ]  # fmt: skip
        resource.pop("Metadata", None)
        if "CodeUri" in properties:
            properties["CodeUri"] = str((source.parent / properties["CodeUri"]).resolve())
        if name in variables:
            properties["Environment"] = {"Variables": dict(variables[name])}
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            content = (source.parent / properties["ContentUri"]).resolve()
            runtime = properties.get("CompatibleRuntimes", [None])[0]
            properties["ContentUri"] = str(
                _container_layer(content, folder / name, wheels, runtime)
            )
            properties.pop("CompatibleArchitectures", None)
    for name, library in layers.items():
        content = _container_layer(library, folder / name, wheels, globals_.get("Runtime"))
        template["Resources"][name] = {
            "Type": "AWS::Serverless::LayerVersion",
            "Properties": {"ContentUri": str(content)},
        }
    return template


def _container_layer(content: Path, folder: Path, wheels: str, runtime: str | None) -> Path:
    """Makes a layer of a folder's code and packages. The default runtime is Python 3.13."""
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / "python"
    shutil.copytree(content, target, ignore=shutil.ignore_patterns("__pycache__"))
    version = (runtime or "python3.13").removeprefix("python")
    if (content / "requirements.txt").exists():
        pip = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--platform", wheels, "--python-version", version,
            "--target", str(target), "-r", str(content / "requirements.txt"),
        ]  # fmt: skip
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LocalError(
                f"the packages of {content} could not be installed for the container:\n"
                f"{done.stderr.strip()}"
            )
    return folder
