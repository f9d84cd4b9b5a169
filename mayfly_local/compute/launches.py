"""How each function is started: its folder, its path of modules, its variables, and the loop that
calls its handler.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mayfly_local.account import REGION
from mayfly_local.application.build import Application, Function
from mayfly_local.compute.environment import Launch
from mayfly_local.compute.packages import has_awslambdaric, python_path, runtime_folder
from mayfly_local.iam.credentials import Credentials, Keys
from mayfly_local.ports.peers import can_tell

__all__ = ["function_variables", "launches", "python_version_note", "store_variables"]

_LOOP: Final = str(Path(__file__).parent / "python_runtime.py")


def launches(
    application: Application,
    *,
    endpoint: str,
    keys: Keys,
    cache: Path,
    work: Path,
    say: Callable[[str], None],
    pure_python: bool = False,
) -> dict[str, Launch]:
    """A launch for each function.

    Installs the packages that are missing; raises LocalError where that fails.
    """
    runtime = runtime_folder(cache)
    # AWS's client does not support the token that is needed if the system does not tell which
    # process holds a connection.
    uses_awslambdaric = has_awslambdaric() and can_tell() and not pure_python
    found = {}
    for name, function in application.functions.items():
        code = function.code or _inline(function, work)
        path = python_path(
            code, function.layers, brings_packages=function.brings_packages, cache=cache, say=say
        )
        found[name] = Launch(
            name=name,
            arn=function.arn,
            handler=function.handler,
            runtime="awslambdaric" if uses_awslambdaric else _LOOP,
            variables={
                **function_variables(function, code),
                **store_variables(endpoint, keys.of(name)),
            },
            folder=code,
            path=[*path, runtime],
            timeout_seconds=function.timeout_seconds,
            memory_mb=function.memory_mb,
        )
    return found


def function_variables(function: Function, code: Path) -> dict[str, str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html, the function's own
    included.
    """
    return {
        "PATH": os.environ.get("PATH", ""),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        # As `sam local` sets it: the one way for code to know that it runs on a laptop.
        "AWS_SAM_LOCAL": "true",
        "LAMBDA_TASK_ROOT": str(code),
        "_HANDLER": function.handler,
        **function.variables,
    }


def store_variables(endpoint: str, credentials: Credentials) -> Mapping[str, str]:
    """Environment variables that make every AWS SDK use the local store with these credentials."""
    return {
        **credentials.variables,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def python_version_note(application: Application) -> str | None:
    """A word on the difference, where the functions ask for another Python than this one."""
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    others = sorted({each.runtime for each in application.functions.values()} - {here})
    return f"functions ask for {', '.join(others)} and run on {here} here" if others else None


def _inline(function: Function, work: Path) -> Path:
    folder = work / "inline" / function.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.py").write_text(function.inline or "")
    return folder
