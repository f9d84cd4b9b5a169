"""What deliveries read and keep: the secrets that sign them (Parameter Store), and the endpoints
that want nothing more.
"""

import hashlib
from typing import Any

from aws_lambda_powertools.utilities.parameters import GetParameterError, SSMProvider
from botocore.exceptions import ClientError

from mayfly.aws.dynamodb import DynamoDB, Item
from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import key
from mayfly.webhooks.errors import UnknownSecret
from mayfly.webhooks.rules import read_secrets

__all__ = ["Endpoints", "Secrets", "parameter"]

#: How long a process goes on with a secret that has been changed, in seconds. Parameter Store takes
#: 40 reads a second.
_SECRET_AGE_SECONDS = 60
#: How long a 410 holds.
_GONE_SECONDS = 90 * 24 * 3600


class Secrets:
    """Signing secrets of all tenants: parameters `<prefix>/<tenant>/<name>`."""

    def __init__(self, provider: SSMProvider, prefix: str) -> None:
        self._provider = provider
        self._prefix = prefix

    def read(self, tenant: str, name: str) -> list[bytes]:
        """The keys that sign, newest first. Raises UnknownSecret, BadSecret, StoreUnavailable."""
        path = f"{self._prefix}/{parameter(tenant, name)}"
        try:
            found: Any = self._provider.get(path, decrypt=True, max_age=_SECRET_AGE_SECONDS)
        except GetParameterError as problem:
            cause = problem.__cause__ or problem.__context__
            if (
                isinstance(cause, ClientError)
                and cause.response["Error"]["Code"] == "ParameterNotFound"
            ):
                raise UnknownSecret(name) from None
            raise StoreUnavailable("read secret", type(cause).__name__) from problem
        return read_secrets(str(found), name)


class Endpoints:
    """Endpoints of all tenants that answered 410, each until it is asked again on purpose, or
    ninety days are over.
    """

    def __init__(self, db: DynamoDB, table: str, clock: Clock) -> None:
        self._db = db
        self.table = table
        self._clock = clock

    def is_gone(self, tenant: str, url: str) -> bool:
        """Whether an endpoint wants nothing more. Raises StoreUnavailable."""
        item = self._db.get("read endpoint", self.table, self.key(tenant, url))
        return item is not None and int(item["expires_at"]["N"]) * 1000 >= self._clock()

    def end(self, tenant: str, url: str) -> None:
        """Keeps that an endpoint wants nothing more. Raises StoreUnavailable."""
        expires = {"N": str(self._clock() // 1000 + _GONE_SECONDS)}
        self._db.put(
            "end endpoint",
            TableName=self.table,
            Item={**self.key(tenant, url), "expires_at": expires},
        )

    def reopen(self, tenant: str, url: str) -> None:
        """Forgets that an endpoint wanted nothing more. Raises StoreUnavailable."""
        self._db.delete("reopen endpoint", TableName=self.table, Key=self.key(tenant, url))

    @staticmethod
    def key(tenant: str, url: str) -> Item:
        """The key of an endpoint: the URL is not kept, since some hold secrets."""
        return {"pk": {"S": key(tenant, hashlib.sha256(url.encode()).hexdigest())}}


def parameter(tenant: str, name: str) -> str:
    """The end of a secret's path. Parameter Store takes letters, digits and `.-_` in names: what
    else a name has is written as `_` and its code, so that no two names are one."""
    return "/".join(_plain(each) for each in (tenant, name))


def _plain(name: str) -> str:
    return "".join(each if each.isalnum() or each in ".-" else f"_{ord(each):02x}" for each in name)
