"""The stack that a command works on, and the options that name it."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import boto3

from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import ConfigError
from mayfly.core.json_input import NAME
from mayfly.counters import CounterStore
from mayfly.jobs import JobOperations, JobStore
from mayfly.resources import counter_store, session_store
from mayfly.sessions import SessionStore
from mayfly.tenants import TenantStore

__all__ = ["Stack", "name", "show", "target", "tenant_option"]


class Stack:
    """The running local stack, or the deployed one that `--stack` names."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._is_local = not options.stack
        self._name = options.stack or os.environ["MAYFLY_STACK"]
        self._endpoint = options.endpoint_url

    def tenants(self) -> TenantStore:
        """Its API keys."""
        return TenantStore(self._db(), self._physical_id("TenantsTable"))

    def jobs(self) -> tuple[JobStore, JobOperations]:
        """Its jobs."""
        db, table = self._db(), self._physical_id("JobsTable")
        return JobStore(db, table), JobOperations(db, table)

    def sessions(self) -> SessionStore:
        """Its sessions."""
        names = {
            "SESSIONS_TABLE": self._physical_id("SessionsTable"),
            "SUBJECT_KEY": self._output("SubjectKey"),
        }
        return session_store(names, self._db())

    def counters(self) -> CounterStore:
        """Its counters."""
        return counter_store({"COUNTERS_TABLE": self._physical_id("CountersTable")}, self._db())

    def parameters(self) -> Any:
        """Parameter Store, where its webhook secrets are."""
        return self._client("ssm")

    @property
    def is_local(self) -> bool:
        """Whether it is the one on this machine."""
        return self._is_local

    @property
    def secrets_prefix(self) -> str:
        """What the names of its webhook secrets begin with; template.yaml says the same to the
        function that signs.
        """
        return f"/mayfly/{self._name}/webhooks"

    def _db(self) -> DynamoDB:
        return DynamoDB(self._client("dynamodb"), pause=lambda attempt: None)

    def _output(self, key: str) -> str:
        """One of its outputs. Raises ConfigError where it has none of that name."""
        if self._is_local:  # the local runtime resolves outputs itself
            found = json.loads(os.environ["MAYFLY_OUTPUTS"])
        else:
            (stack,) = self._client("cloudformation").describe_stacks(StackName=self._name)[
                "Stacks"
            ]
            found = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
        if key not in found:
            raise ConfigError([f"the stack {self._name} has no output {key}"])
        return str(found[key])

    def _physical_id(self, logical: str) -> str:
        """What a resource is called. Raises ClientError where the stack has no such resource."""
        reply = self._client("cloudformation").describe_stack_resource(
            StackName=self._name, LogicalResourceId=logical
        )
        found: str = reply["StackResourceDetail"]["PhysicalResourceId"]
        return found

    def _client(self, service: Any) -> Any:
        return boto3.client(service, endpoint_url=self._endpoint)


def target() -> argparse.ArgumentParser:
    """The options of every command, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--stack", metavar="NAME", help="a deployed stack (default: the running local one)"
    )
    parser.add_argument(
        "--endpoint-url", metavar="URL", help="the AWS-compatible endpoint that holds the stack"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def tenant_option() -> argparse.ArgumentParser:
    """`--tenant`, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--tenant", default="default", type=name, help="whose (default: %(default)s)"
    )
    return parser


def name(text: str) -> str:
    """An argument that names something."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} must match {NAME.pattern}")
    return text


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, none: str
) -> None:
    """Prints rows: JSON, one a line, or the given columns, aligned.

    `none` is what to say where there are none.
    """
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        print(none, file=sys.stderr)
        return
    texts = [
        [str(row.get(column) if row.get(column) is not None else "-") for column in columns]
        for row in rows
    ]
    widths = [
        max(len(column), *(len(text[index]) for text in texts))
        for index, column in enumerate(columns)
    ]
    for text in [list(columns), *texts]:
        print(
            "  ".join(part.ljust(width) for part, width in zip(text, widths, strict=True)).rstrip()
        )
