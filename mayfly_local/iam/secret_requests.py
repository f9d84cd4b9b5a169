"""The actions of requests to Secrets Manager, each with the ARN of its secret.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["secret_actions"]


def secret_actions(
    operation: str, arguments: Mapping[str, Any], arn_of: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """Yields the actions of a request. `arn_of` returns the ARN of a secret by its name.

    AWS adds six characters to the name of a secret in its ARN, so only the emulator knows it.
    """
    if operation == "BatchGetSecretValue":
        yield operation, "*"
        for name in arguments.get("SecretIdList") or ():
            yield "GetSecretValue", _arn(name, arn_of)
    elif operation in ("GetRandomPassword", "ListSecrets"):
        yield operation, "*"
    else:
        yield operation, _arn(arguments.get("SecretId") or arguments.get("Name"), arn_of)


def _arn(name: Any, arn_of: Callable[[str], str | None]) -> str:
    if not isinstance(name, str):
        return "*"
    if name.startswith("arn:"):
        return name
    return arn_of(name) or f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-000000"
