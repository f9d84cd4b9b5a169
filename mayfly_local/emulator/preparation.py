"""Changes of the emulator, ministack, before it serves.

Parts that run code are removed, and its state is journaled. This relies on private names of
ministack. Its version is pinned, and a missing name ends the start.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from mayfly_local.application.supported import STATE
from mayfly_local.iam.identities import OWNER, SERVICE, Identities
from mayfly_local.iam.kept import Kept
from mayfly_local.iam.pages import Cors
from mayfly_local.ports.file_limit import raise_file_limit
from mayfly_local.processes.moved_time import reader

__all__ = ["bucket_cors", "bucket_of_host", "prepare"]

#: Prefixes of CloudFormation actions that every caller may use. The others create resources.
_READS_STACKS: Final = ("Describe", "Detect", "List", "Get", "Validate", "Estimate")
#: Modules of ministack, by the service that their requests are signed for.
_SIGNED_AS: Final = {
    "cloudformation": "cloudformation", "dynamodb": "dynamodb", "dynamodb_streams": "dynamodb",
    "eventbridge": "events", "iam": "iam", "kinesis": "kinesis", "kms": "kms",
    "lambda_svc": "lambda",
    "s3": "s3", "secretsmanager": "secretsmanager", "sns": "sns", "sqs": "sqs", "ssm": "ssm",
    "sts": "sts",
}  # fmt: skip
#: Entries of ministack's application that stay.
_ENTRIES: Final = {
    "_handle_lifespan", "_handle_options_request", "_handle_post_body_shortcuts",
    "_handle_pre_body_request",
    "_handle_s3_vhost_request", "_handle_special_data_plane_request",
}  # fmt: skip
_Handler = Callable[..., Any]


def prepare(
    ministack: Any,
    settings: Mapping[str, Any],
    identities: Identities,
    say: Callable[[dict[str, Any]], None],
) -> Kept:
    """Prepares ministack's application module `ministack`.

    Returns the object that stores its state.
    """
    raise_file_limit()
    if settings["clock"] is not None:
        _move_time(settings["clock"])
    # No containers are run for it. Without this, it loads Docker's client at its start.
    sys.modules.setdefault("docker", None)  # type: ignore[arg-type]  # the mark of a missing module
    from mayfly_local.emulator.keys import hook_keys

    hook_keys()  # First, so that the check of the next line comes before everything it serves.
    _serve_only_what_is_signed_for()
    _leave_out_other_entries(ministack)
    _leave_out_what_runs_code()
    _know_keys(identities)
    from mayfly_local.emulator.durable import Durable

    return Durable.open(settings, say)


def _move_time(path: str) -> None:
    """Makes this process read the time of the stack's clock.

    The emulator asks `time.time` in a hundred places: for visibility, retention, tokens and more.
    """
    time_ns = reader(path)
    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def bucket_cors(method: str, path: str, headers: Mapping[str, str]) -> Cors | None:
    """Returns the CORS headers of a bucket for a page of another site.

    Returns None if the bucket's configuration does not allow the request.
    """
    s3 = sys.modules.get("ministack.services.s3")
    bucket, _, key = path.lstrip("/").partition("/")
    if s3 is None or not bucket or s3._bucket_owner_account(bucket) is None:
        return None
    if method == "OPTIONS" and "access-control-request-method" in headers:
        status, answer, _ = s3.cors_preflight(bucket, key, dict(headers))
        return Cors(_cors_headers(answer), is_preflight=True) if status == 200 else None
    allowed = _cors_headers(s3.cors_response_headers(bucket, method, dict(headers)))
    return Cors(allowed, is_preflight=False) if allowed else None


def bucket_of_host(host: str) -> str | None:
    """Returns the bucket that the emulator takes from a host name, or None.

    An example is `bucket.s3.localhost`.
    """
    app = importlib.import_module("ministack.app")
    bucket = app._extract_s3_vhost_bucket(host)
    return (
        None
        if not bucket or app._S3_VHOST_EXCLUDE_RE.search(host) or bucket in app._NON_S3_VHOST_NAMES
        else str(bucket)
    )


def _cors_headers(answer: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in answer.items() if name.lower().startswith("access-control-")
    }


def _serve_only_what_is_signed_for() -> None:
    """Refuses a request that reaches another service than it is signed for.

    The guard has checked only the permissions of the signed service.
    """
    for module, service in _SIGNED_AS.items():
        services: Any = importlib.import_module(f"ministack.services.{module}")
        services.handle_request = _signed_for(service, services.handle_request)


def _signed_for(service: str, original: _Handler) -> _Handler:
    async def handler(
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query: dict[str, list[str]],
        **more: Any,
    ) -> Any:
        if SERVICE.get() not in (service, ""):  # Empty for the emulator's own calls.
            text = f"the request is signed for {SERVICE.get()}, but was sent to {service}"
            return (
                403,
                {"Content-Type": "application/json"},
                json.dumps({"__type": "AccessDeniedException", "message": text}).encode(),
            )
        if headers.get("x-amz-target", "").endswith(".SendCommand"):
            text = "no commands are run here"
            return (
                400,
                {"Content-Type": "application/x-amz-json-1.1"},
                json.dumps({"__type": "AccessDeniedException", "message": text}).encode(),
            )
        return await original(method, path, headers, body, query, **more)

    return handler


def _leave_out_other_entries(ministack: Any) -> None:
    """Removes the emulator's other entries.

    These are its own paths and hosts, and those of services that are not served here.
    """
    names = [
        name for name in vars(ministack) if name.startswith("_handle_") and name not in _ENTRIES
    ]
    assert len(names) > 15, names  # A name that has moved ends the start.
    for name in names:
        setattr(
            ministack,
            name,
            _nothing_async if asyncio.iscoroutinefunction(getattr(ministack, name)) else _nothing,
        )


def _nothing(*_: Any, **__: Any) -> None:
    return None


async def _nothing_async(*_: Any, **__: Any) -> None:
    return None


def _know_keys(identities: Identities) -> None:
    """Lets the emulator check presigned URLs, version 4, with this stack's own secrets."""
    from ministack.core.iam_evaluator import ResolvedCredential
    from ministack.services import s3

    resolve = s3.resolve_credential

    def resolved(key: str, account: str, *more: Any, **named: Any) -> Any:
        if (secret := identities.secrets.get(key)) is None:
            return resolve(key, account, *more, **named)
        arn = f"arn:aws:iam::{account}:root"
        return ResolvedCredential(
            key,
            secret,
            account_id=account,
            principal_arn=arn,
            principal_id=account,
            principal_type="Root",
        )

    s3.resolve_credential = resolved


def _runtime_only(act: _Handler) -> _Handler:
    """Returns an action of CloudFormation that only the runtime may use.

    It creates resources, which may be code.
    """

    def acted(params: Any) -> Any:
        if OWNER.get() == "runtime":
            return act(params)
        sentence = (
            "only mayfly up creates stacks here, from its template: add the resource "
            "there, and start again"
        )
        text = (
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
            f"<Message>{sentence}</Message></Error></ErrorResponse>"
        )
        return 403, {"Content-Type": "text/xml"}, text.encode()

    return acted


def _leave_out_what_runs_code() -> None:
    """Leaves CloudFormation only the resources of `mayfly_local.application.supported.STATE`.

    Functions belong to the runtime, and run outside.
    """
    from ministack.services.cloudformation import handlers, provisioners

    for name, act in handlers._ACTION_HANDLERS.items():
        if not name.startswith(_READS_STACKS):
            handlers._ACTION_HANDLERS[name] = _runtime_only(act)
    resources = provisioners._RESOURCE_HANDLERS
    for kind in [kind for kind in resources if kind not in STATE]:
        del resources[kind]

    def refused(*_: Any, **__: Any) -> Any:
        raise ValueError("custom resources are not supported locally")

    for name in ("_custom_resource_create", "_custom_resource_update", "_custom_resource_delete"):
        getattr(provisioners, name)  # A name that has moved ends the start.
        setattr(provisioners, name, refused)
