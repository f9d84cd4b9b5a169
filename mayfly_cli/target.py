"""The stack that an operator's command works on: the running local one, or a deployed one."""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import ConfigError

from mayfly_cli.nested_stack import ANY_STACK_HAS, own_stack, stack_name, stack_resources
from mayfly_cli.options import as_json, work
from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import emulator_variables
from mayfly_local.stack_file import StackFile

if TYPE_CHECKING:
    from mayfly.counters import CounterStore
    from mayfly.jobs import JobOperations
    from mayfly.sessions import SessionStore
    from mayfly.tenants import TenantStore

__all__ = ["Target", "aws_failures", "check_endpoint", "target"]


class Target:
    """The stores of one stack, by clients that are made when they are used.

    A stack of this machine is asked by the lean client, and a command on it loads no more than it
    needs: `mayfly up` waits for one at each start.

    Raises LocalError if no local stack runs and no other one is named.
    """

    def __init__(self, stack: str | None, endpoint_url: str | None, work: Path) -> None:
        self.is_local = stack is None
        self._endpoint = endpoint_url
        self._outputs: Mapping[str, str] | None = None
        self._resources: Mapping[str, str] = {}
        self._variables: Mapping[str, str] = {}
        self.work = work
        #: The beginning of the logical ids of Mayfly's resources, if a local stack nests them.
        self._prefix = ""
        self._file: StackFile | None = None
        if stack is None:
            file = self._file = StackFile.read(work)
            self.name = file.name
            self._outputs = {**_known_outputs(file), **file.outputs}
            self._resources = file.resources
            self._variables = emulator_variables(file.endpoint, file.people)
            self._prefix = file.nesting(ANY_STACK_HAS)
        else:
            self.name = stack
            self._variables = _known_variables(endpoint_url, work)

    def tenants(self) -> "TenantStore":
        """Returns its API keys."""
        from mayfly.tenants import TenantStore

        return TenantStore(self._db(), self._physical_id("TenantsTable"))

    def jobs(self) -> "JobOperations":
        """Returns its jobs."""
        from mayfly.resources import job_operations

        return job_operations({"JOBS_TABLE": self._physical_id("JobsTable")}, self._db())

    def sessions(self) -> "SessionStore":
        """Returns its sessions."""
        from mayfly.resources import session_store

        names = {
            "SESSIONS_TABLE": self._physical_id("SessionsTable"),
            "SUBJECT_KEY": self._output("SubjectKey"),
        }
        return session_store(names, self._db())

    def counters(self) -> "CounterStore":
        """Returns its counters."""
        from mayfly.resources import counters_of

        table = self._physical_id("CountersTable")
        return counters_of(table, self._db(attempts=1), self._db)

    def parameters(self) -> Any:
        """Returns a client of Parameter Store, which holds its webhook secrets."""
        return self._client("ssm")

    def client(self, service: str) -> Any:
        """Returns a client of boto3 for one of the stack's services."""
        return self._client(service)

    @cached_property
    def launches(self) -> Mapping[str, Mapping[str, Any]] | None:
        """The starts of the local stack's functions, by logical id; None for a deployed stack."""
        if self._file is None:
            return None
        return {
            name.removeprefix(self._prefix): launch
            for name, launch in self._file.launches.items()
            if name.startswith(self._prefix)
        }

    @cached_property
    def resources(self) -> Mapping[str, tuple[str, str]]:
        """Type and physical id of each resource, by its logical id. Raises ClientError.

        Those of a deployed stack are all of the stack that has Mayfly's resources. Those of the
        local stack are its tables, queues and buckets; its functions are in `launches`.
        """
        name = self.name if self.is_local else self._own_stack
        return {
            resource["LogicalResourceId"].removeprefix(self._prefix): (
                resource["ResourceType"],
                resource["PhysicalResourceId"],
            )
            for resource in stack_resources(self._client("cloudformation"), name)
            if resource["LogicalResourceId"].startswith(self._prefix)
            and "PhysicalResourceId" in resource
        }

    @property
    def secrets_prefix(self) -> str:
        """The beginning of the names of its webhook secrets, as in template.yaml."""
        if self.is_local:
            return f"/mayfly/{'-'.join(filter(None, (self.name, self._prefix)))}/webhooks"
        return f"/mayfly/{stack_name(self._own_stack)}/webhooks"

    def _db(self, *, attempts: int = 3) -> DynamoDB:
        return DynamoDB(self._database(attempts), pause=lambda attempt: None)

    def _database(self, attempts: int) -> Any:
        url = self._variables.get("AWS_ENDPOINT_URL", "")
        if not self.is_local or urlsplit(url).hostname != "127.0.0.1":
            return self._client("dynamodb", attempts=attempts)
        from mayfly.aws.lean import LeanClient

        return LeanClient(
            "dynamodb",
            self._variables,
            pause=time.sleep,
            share=random.random,
            attempts=attempts,
        )

    def _output(self, key: str) -> str:
        """Returns one of its outputs. Raises ConfigError if it has none of that name."""
        outputs = self._outputs
        if outputs is None:
            reply = self._client("cloudformation").describe_stacks(StackName=self._own_stack)
            (stack,) = reply["Stacks"]
            outputs = {
                output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])
            }
        if key not in outputs:
            raise ConfigError([f"the stack {self.name} has no output {key}"])
        return str(outputs[key])

    def _physical_id(self, logical: str) -> str:
        """Returns the name of a resource. Raises ClientError if the stack has no such resource."""
        name = f"{self._prefix}{logical}"
        if name in self._resources:
            return self._resources[name]
        reply = self._client("cloudformation").describe_stack_resource(
            StackName=self._own_stack, LogicalResourceId=name
        )
        return str(reply["StackResourceDetail"]["PhysicalResourceId"])

    @cached_property
    def _own_stack(self) -> str:
        """The name or id of the stack that has Mayfly's resources.

        It is this one, or a deployed one that this one nests. The local runtime makes one stack of
        both.
        """
        if self.is_local:
            return self.name
        return own_stack(self._client("cloudformation"), self.name)

    @cached_property
    def _session(self) -> Any:
        import boto3

        known = self._variables
        return boto3.Session(
            aws_access_key_id=known.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=known.get("AWS_SECRET_ACCESS_KEY"),
            # boto3 itself reads AWS_DEFAULT_REGION and profiles only.
            region_name=known.get("AWS_REGION") or os.environ.get("AWS_REGION"),
        )

    def _client(self, service: Any, *, attempts: int = 3) -> Any:
        from botocore.config import Config

        return self._session.client(
            service,
            endpoint_url=self._endpoint or self._variables.get("AWS_ENDPOINT_URL"),
            config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
        )


def target(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options that name a stack, and the stack as `target`.

    Failures of AWS clients become problems of the command.
    """

    @work
    @click.option(
        "--stack", metavar="NAME", help="A deployed stack.  [default: the running local one]"
    )
    @click.option(
        "--endpoint-url", metavar="URL", help="The AWS-compatible endpoint that holds the stack."
    )
    @as_json
    @wraps(command)
    def run(*, stack: str | None, endpoint_url: str | None, work: Path, **options: Any) -> Any:
        check_endpoint(stack, endpoint_url)
        with aws_failures(stack):
            return command(target=Target(stack, endpoint_url, work), **options)

    return run


def check_endpoint(stack: str | None, endpoint_url: str | None) -> None:
    """Raises UsageError for an endpoint without the name of a stack."""
    if endpoint_url and not stack:
        raise click.UsageError("--endpoint-url needs --stack: which stack at that endpoint?")


@contextmanager
def aws_failures(stack: str | None) -> Iterator[None]:
    """Turns failures of AWS clients into problems of the command: raises LocalError."""
    try:
        yield
    except _of_botocore("NoRegionError"):
        raise LocalError(
            "no AWS region is set; set AWS_REGION, or a profile that has one"
        ) from None
    except _of_botocore("NoCredentialsError"):
        raise LocalError("no AWS credentials were found; set them as for any AWS command") from None
    except _of_botocore("BotoCoreError", "ClientError") as problem:
        raise LocalError(f"the stack {stack or 'here'!r} cannot be used: {problem}") from problem


def _of_botocore(*names: str) -> tuple[type[Exception], ...]:
    """Returns errors of botocore, and none if no client of it was made."""
    module = sys.modules.get("botocore.exceptions")
    return tuple(getattr(module, name) for name in names) if module else ()


def _known_variables(endpoint_url: str | None, work: Path) -> Mapping[str, str]:
    """Returns the variables of the running local stack if the call names its endpoint."""
    try:
        file = StackFile.read(work)
    except LocalError:
        return {}
    if file.endpoint != endpoint_url:
        return {}
    return emulator_variables(file.endpoint, file.people)


def _known_outputs(file: StackFile) -> Mapping[str, str]:
    """Returns outputs that the template of an application does not repeat from its nested part."""
    for launch in file.launches.values():
        if key := launch["variables"].get("SUBJECT_KEY"):
            return {"SubjectKey": key}
    return {}
