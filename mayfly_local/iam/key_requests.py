"""The actions of requests to KMS, each with the ARN of its key.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["ID_LETTERS", "key_actions"]

#: Operations on no key.
_ON_NO_KEY: Final = {"CreateKey", "GenerateRandom", "ListAliases", "ListKeys"}
#: Letters of the key's id that begins a ciphertext of the emulator.
ID_LETTERS: Final = 36


def key_actions(
    operation: str, arguments: Mapping[str, Any], arn_of: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """Yields the actions of a request.

    `arn_of` returns the ARN of a key by its id, its ARN or an alias, since policies name keys by
    their ids only. As on AWS, an operation on an alias needs its action on alias and key.
    """
    if operation in _ON_NO_KEY:
        yield operation, "*"
    elif operation == "ReEncrypt":
        yield from _on_ciphertext("ReEncryptFrom", "SourceKeyId", arguments, arn_of)
        yield "ReEncryptTo", _arn(arguments.get("DestinationKeyId"), arn_of)
    elif operation in ("CreateAlias", "DeleteAlias", "UpdateAlias"):
        alias = str(arguments.get("AliasName"))
        yield operation, f"arn:aws:kms:{REGION}:{ACCOUNT}:{alias}"
        yield operation, _arn(arguments.get("TargetKeyId") or alias, arn_of)
    elif operation == "Decrypt":
        yield from _on_ciphertext(operation, "KeyId", arguments, arn_of)
    else:
        yield operation, _arn(arguments.get("KeyId"), arn_of)


def _on_ciphertext(
    action: str, member: str, arguments: Mapping[str, Any], arn_of: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """Yields the action on the key that a request names, or else on the one of its ciphertext.

    Bytes that no key has encrypted need no permission: KMS refuses them as InvalidCiphertext.
    """
    if arguments.get(member):
        yield action, _arn(arguments[member], arn_of)
    elif (found := arn_of(_key_of(arguments.get("CiphertextBlob")))) is not None:
        yield action, found


def _key_of(ciphertext: Any) -> str:
    """Returns the id of the key that made a ciphertext of the emulator."""
    return base64.b64decode(str(ciphertext))[:ID_LETTERS].decode("ascii", "replace")


def _arn(name: Any, arn_of: Callable[[str], str | None]) -> str:
    text = str(name)
    if (found := arn_of(text)) is not None:
        return found
    return text if text.startswith("arn:") else f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{text}"
