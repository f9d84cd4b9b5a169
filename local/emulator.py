"""Changes of the emulator, ministack, before it serves: parts that run code are removed, and its state is journaled.

Relies on private names of ministack. Its version is pinned, and a missing name ends the start.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from local.file_limit import raise_file_limit
from local.guarded_store import OWNER, Cors, Kept
from local.supported import STATE

__all__ = ["bucket_cors", "prepare"]

#: Prefixes of CloudFormation actions that every caller may use. The rest makes resources.
_READS_STACKS: Final = ("Describe", "List", "Get", "Validate", "Estimate")
_Handler = Callable[..., Any]


def prepare(store: Any, settings: Mapping[str, Any], say: Callable[[dict[str, Any]], None]) -> Kept:
    """Prepares ministack's application module `store`; returns the keeper of its state."""
    raise_file_limit()
    handlers = store.SERVICE_HANDLERS
    handlers["cloudformation"] = _runtime_only(handlers["cloudformation"])
    handlers["ssm"] = _without_commands(handlers["ssm"])
    _leave_out_what_runs_code()
    from local.durable import Durable

    return Durable.open(settings, say)


def bucket_cors(method: str, path: str, headers: Mapping[str, str]) -> Cors | None:
    """Returns the CORS headers of a bucket for a page of another site, or None if its configuration does not allow the request."""
    s3 = sys.modules.get("ministack.services.s3")
    bucket, _, key = path.lstrip("/").partition("/")
    if s3 is None or not bucket or s3._bucket_owner_account(bucket) is None:
        return None
    if method == "OPTIONS" and "access-control-request-method" in headers:
        status, answer, _ = s3.cors_preflight(bucket, key, dict(headers))
        return Cors(_cors_headers(answer), is_preflight=True) if status == 200 else None
    allowed = _cors_headers(s3.cors_response_headers(bucket, method, dict(headers)))
    return Cors(allowed, is_preflight=False) if allowed else None


def _cors_headers(answer: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in answer.items() if name.lower().startswith("access-control-")}


def _runtime_only(original: _Handler) -> _Handler:
    """CloudFormation, whose resources may be code: only the runtime makes stacks."""

    async def handler(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> Any:
        named = [*query.get("Action", []), *parse_qs(body.decode("utf-8", "replace")).get("Action", [])]
        named += [headers["x-amz-target"].rpartition(".")[2]] if "x-amz-target" in headers else []
        if OWNER.get() == "runtime" or all(each.startswith(_READS_STACKS) for each in named):
            return await original(method, path, headers, body, query)
        sentence = "mayfly up alone makes stacks here, from its template: add the resource there, and start again"
        text = f"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{sentence}</Message></Error></ErrorResponse>"
        return 403, {"Content-Type": "text/xml"}, text.encode()

    return handler


def _without_commands(original: _Handler) -> _Handler:
    """Systems Manager, without its commands for machines."""

    async def handler(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> Any:
        if headers.get("x-amz-target", "").endswith(".SendCommand"):
            refusal = {"__type": "AccessDeniedException", "message": "no commands are run here"}
            return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(refusal).encode()
        return await original(method, path, headers, body, query)

    return handler


def _leave_out_what_runs_code() -> None:
    """Leaves CloudFormation with the resources of `local.supported.STATE`; functions are the runtime's own, and run outside."""
    from ministack.services.cloudformation import provisioners

    resources = provisioners._RESOURCE_HANDLERS
    for kind in [each for each in resources if each not in STATE]:
        del resources[kind]

    def refused(*_: Any, **__: Any) -> Any:
        raise ValueError("custom resources do not run here")

    for name in ("_custom_resource_create", "_custom_resource_update", "_custom_resource_delete"):
        getattr(provisioners, name)  # a name that has moved ends the start
        setattr(provisioners, name, refused)
