"""The launch of each function: its folder, module path, variables, and the loop that calls it."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from mayfly_local.application.model import Application, Function
from mayfly_local.compute.bytecode import bytecode_folder
from mayfly_local.compute.launch import Launch
from mayfly_local.compute.packages import has_awslambdaric, python_path, runtime_folder
from mayfly_local.compute.requirements import Requirements
from mayfly_local.iam.credentials import Keys, emulator_variables
from mayfly_local.ports.peers import can_tell

__all__ = ["function_variables", "launches", "python_version_note"]

_LOOP: Final = str(Path(__file__).parent / "python_runtime.py")


def launches(
    application: Application,
    *,
    endpoint: str,
    keys: Keys,
    cache: Path,
    work: Path,
    pure_python: bool = False,
    own_folders: bool = False,
    clock: Path | None = None,
) -> tuple[dict[str, Launch], dict[str, list[Requirements]]]:
    """Returns a launch for each function, and the packages that each needs.

    The paths of a launch have the folders of packages that are not installed yet. With
    `own_folders`, each process has folders of its own. `clock` is the file of a clock that a test
    can move.
    """
    runtime = runtime_folder(cache)
    # If the system does not tell which process holds a connection, a token is needed. AWS's client
    # does not support that token.
    uses_awslambdaric = has_awslambdaric() and can_tell() and not pure_python
    launches_by_name = {}
    wanted = {}
    for name, function in application.functions.items():
        code = function.code or _inline(function, work)
        path, wanted[name] = python_path(
            code,
            (*function.libraries, *function.layers),
            function.packages,
            brings_packages=function.brings_packages,
            cache=cache,
        )
        launches_by_name[name] = Launch(
            name=name,
            arn=function.arn,
            handler=function.handler,
            runtime="awslambdaric" if uses_awslambdaric else _LOOP,
            variables={
                **function_variables(function, code),
                **emulator_variables(endpoint, keys.of(name)),
            },
            folder=code,
            # A link in /tmp is not there for a process with a /tmp of its own.
            path=[entry.resolve() for entry in (*path, runtime)],
            timeout_seconds=function.timeout_seconds,
            memory_mb=function.memory_mb,
            layers=function.layers,
            tmp_mb=function.tmp_mb,
            clock=clock,
        )
    if own_folders:
        folders = {launch.folder for launch in launches_by_name.values()}
        folders.update(entry for launch in launches_by_name.values() for entry in launch.path)
        bytecode = bytecode_folder(cache, sorted(folders))
        for name, launch in launches_by_name.items():
            launches_by_name[name] = replace(launch, bytecode=bytecode)
    return launches_by_name, wanted


def function_variables(function: Function, code: Path) -> dict[str, str]:
    """Returns the environment variables that Lambda sets, and the function's own.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    layers = [str(layer) for layer in function.layers]
    return {
        "PATH": ":".join([os.environ.get("PATH", ""), *(f"{layer}/bin" for layer in layers)]),
        "LD_LIBRARY_PATH": ":".join(
            [str(code), f"{code}/lib", *(f"{layer}/lib" for layer in layers)]
        ),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.function_name or function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        # No daemon of X-Ray runs here; its SDK then sends nothing, and logs what is missing.
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        # `sam local` sets this, too; code can tell by it that it runs on a laptop.
        "AWS_SAM_LOCAL": "true",
        "LAMBDA_TASK_ROOT": str(code),
        "LAMBDA_RUNTIME_DIR": str(Path(__file__).parent),
        "_HANDLER": function.handler,
        **function.variables,
    }


def python_version_note(application: Application) -> str | None:
    """Returns a note if functions ask for another Python version than this one."""
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    others = sorted({function.runtime for function in application.functions.values()} - {here})
    return f"functions ask for {', '.join(others)} and run on {here} here" if others else None


def _inline(function: Function, work: Path) -> Path:
    folder = work / "inline" / function.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.py").write_text(function.inline or "")
    return folder
