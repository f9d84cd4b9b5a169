"""Keys of KMS: symmetric ciphertexts are sealed, so that only the right key and context open them.

ministack holds keys and aliases, signs, and makes MACs. Its own symmetric ciphertext is not
authenticated: a changed one, or one of another key, decrypts to other bytes without an error. This
module encrypts with AES-256-GCM as KMS does, and the encryption context is authenticated.
https://docs.aws.amazon.com/kms/latest/cryptographic-details/crypto-primitives.html
"""

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ministack.core.responses import error_response_json, json_response
from ministack.services import kms

from mayfly_local.iam.key_requests import ID_LETTERS

__all__ = ["hook_keys", "key_arn", "open_sealed", "seal"]

#: Most bytes of a plaintext. https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
_MOST_PLAINTEXT: Final = 4096
#: Most bytes of a ciphertext. https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html
_MOST_CIPHERTEXT: Final = 6144
#: Most bytes of a data key.
#: https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html
_MOST_DATA_KEY: Final = 1024
_DATA_KEYS: Final = {"AES_128": 16, "AES_256": 32}
#: A ciphertext is the key's id, a nonce, and AES-GCM's output.
_NONCE_BYTES: Final = 12
#: Operations that ministack does as AWS documents them (tests/contract/test_keys.py).
_SERVED: Final = {
    "CancelKeyDeletion", "CreateAlias", "CreateKey", "Decrypt", "DeleteAlias", "DescribeKey",
    "DisableKey", "EnableKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GenerateMac",
    "GenerateRandom", "GetPublicKey", "ListAliases",
    "ListKeys", "ListResourceTags", "ReEncrypt", "ScheduleKeyDeletion", "Sign", "TagResource",
    "UntagResource", "UpdateAlias", "UpdateKeyDescription", "Verify", "VerifyMac",
}  # fmt: skip
#: Parameters without effect here, which an application would rely on.
_NOT_SERVED: Final = ("DryRun", "GrantTokens", "Recipient")

_Response = Any
_Operation = Callable[[dict[str, Any]], _Response]


class _Refused(Exception):
    """A request that KMS refuses, with the response."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.response = error_response_json(code, text, 400)


def hook_keys() -> None:
    """Makes ministack encrypt with symmetric keys as this module does."""
    for name, made in (
        ("_encrypt", _encrypting),
        ("_decrypt", _decrypting),
        ("_generate_data_key_pair", _sealing_pair),
    ):
        setattr(kms, name, _answering(made(getattr(kms, name))))
    for name, operation in (
        ("_generate_data_key", _data_key),
        ("_generate_data_key_without_plaintext", _data_key_without_plaintext),
        ("_generate_data_key_pair_without_plaintext", _pair_without_plaintext),
    ):
        getattr(kms, name)  # A missing name ends the start.
        setattr(kms, name, _answering(operation))
    kms.handle_request = _serving(kms.handle_request)


def key_arn(name: str) -> str | None:
    """Returns the ARN of a key by its id, its ARN, its alias or the alias's ARN, or None."""
    module = sys.modules.get("ministack.services.kms")
    record = None if module is None else module._resolve_key(name)
    return None if record is None else str(record["Arn"])


def seal(record: Mapping[str, Any], plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """Returns the ciphertext of a plaintext under a symmetric key of ministack."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(record["_symmetric_key"]).encrypt(nonce, plaintext, _canonical(context))
    return str(record["KeyId"]).encode() + nonce + sealed


def open_sealed(
    record: Mapping[str, Any], ciphertext: bytes, context: Mapping[str, str]
) -> bytes | None:
    """Returns the plaintext, or None if the ciphertext or its context was changed."""
    nonce, sealed = ciphertext[ID_LETTERS:][:_NONCE_BYTES], ciphertext[ID_LETTERS + _NONCE_BYTES :]
    try:
        return AESGCM(record["_symmetric_key"]).decrypt(nonce, sealed, _canonical(context))
    except (InvalidTag, ValueError):
        return None


def _canonical(context: Mapping[str, str]) -> bytes:
    """Returns an encryption context as bytes. The order of its pairs does not matter."""
    return json.dumps(context, sort_keys=True).encode()


def _answering(operation: _Operation) -> _Operation:
    def answered(data: dict[str, Any]) -> _Response:
        try:
            return operation(data)
        except _Refused as refused:
            return refused.response

    return answered


def _serving(handle: Callable[..., Any]) -> Callable[..., Any]:
    async def served(
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query: dict[str, list[str]],
        **more: Any,
    ) -> Any:
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if operation not in _SERVED:
            text = f"kms:{operation} is not served on this machine"
            return error_response_json("UnsupportedOperationException", text, 400)
        try:
            data = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            return error_response_json("SerializationException", "the body is not an object", 400)
        for name in _NOT_SERVED:
            # The MACs of ministack have a dry run.
            if data.get(name) and not (name == "DryRun" and operation.endswith("Mac")):
                text = f"the parameter {name} of kms:{operation} is not served on this machine"
                return error_response_json("UnsupportedOperationException", text, 400)
        if operation == "ReEncrypt":
            return _answering(_re_encrypt)(data)
        return await handle(method, path, headers, body, query, **more)

    return served


def _encrypting(original: _Operation) -> _Operation:
    def encrypt(data: dict[str, Any]) -> _Response:
        record = _record(data.get("KeyId"))
        plaintext = _blob(data, "Plaintext", _MOST_PLAINTEXT)
        if "_symmetric_key" not in record:
            _check_usage(record, "Encrypt")
            return original(data)
        _check_usable(record)
        _check_algorithm(data)
        sealed = seal(record, plaintext, _context(data))
        return json_response(
            {
                "KeyId": record["Arn"],
                "CiphertextBlob": _text(sealed),
                "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            }
        )

    return encrypt


def _decrypting(original: _Operation) -> _Operation:
    def decrypt(data: dict[str, Any]) -> _Response:
        ciphertext = _blob(data, "CiphertextBlob", _MOST_CIPHERTEXT)
        named = _record(data["KeyId"]) if data.get("KeyId") else None
        if named is not None and "_symmetric_key" not in named:
            _check_usage(named, "Decrypt")
            return original(data)
        record = _sealed_by(ciphertext)
        if named is not None and named is not record:
            raise _Refused(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this "
                "operation.",
            )
        _check_usable(record)
        _check_algorithm(data)
        plaintext = open_sealed(record, ciphertext, _context(data))
        if plaintext is None:
            raise _Refused("InvalidCiphertextException", "")
        return json_response(
            {
                "KeyId": record["Arn"],
                "Plaintext": _text(plaintext),
                "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                "KeyMaterialId": kms._key_material_id(record),
            }
        )

    return decrypt


def _re_encrypt(data: dict[str, Any]) -> _Response:
    """Answers ReEncrypt: a Decrypt with the source's parameters, then an Encrypt.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_ReEncrypt.html
    """
    source = _part(
        data,
        CiphertextBlob="CiphertextBlob",
        KeyId="SourceKeyId",
        EncryptionContext="SourceEncryptionContext",
        EncryptionAlgorithm="SourceEncryptionAlgorithm",
    )
    opened = kms._decrypt(source)
    if opened[0] != 200:
        return opened
    old = json.loads(opened[2])
    destination = _part(
        data,
        KeyId="DestinationKeyId",
        EncryptionContext="DestinationEncryptionContext",
        EncryptionAlgorithm="DestinationEncryptionAlgorithm",
    )
    sealed = kms._encrypt({**destination, "Plaintext": old["Plaintext"]})
    if sealed[0] != 200:
        return sealed
    new = json.loads(sealed[2])
    return json_response(
        {
            "CiphertextBlob": new["CiphertextBlob"],
            "KeyId": new["KeyId"],
            "SourceKeyId": old["KeyId"],
            "SourceEncryptionAlgorithm": old["EncryptionAlgorithm"],
            "DestinationEncryptionAlgorithm": new["EncryptionAlgorithm"],
        }
    )


def _part(data: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {new: data[old] for new, old in names.items() if old in data}


def _data_key(data: dict[str, Any]) -> _Response:
    record = _symmetric(data, "GenerateDataKey")
    spec, length = data.get("KeySpec"), data.get("NumberOfBytes")
    if (spec is None) == (length is None):
        text = "Please specify either number of bytes or key spec."
        raise _Refused("ValidationException", text)
    if spec is not None and spec not in _DATA_KEYS:
        text = f"the key spec {spec!r} is not one of {', '.join(_DATA_KEYS)}"
        raise _Refused("ValidationException", text)
    count = _DATA_KEYS[spec] if spec is not None else length
    if type(count) is not int or not 1 <= count <= _MOST_DATA_KEY:
        text = f"the number of bytes {length!r} is not an integer from 1 to {_MOST_DATA_KEY}"
        raise _Refused("ValidationException", text)
    plaintext = os.urandom(count)
    return json_response(
        {
            "KeyId": record["Arn"],
            "Plaintext": _text(plaintext),
            "CiphertextBlob": _text(seal(record, plaintext, _context(data))),
            "KeyMaterialId": kms._key_material_id(record),
        }
    )


def _data_key_without_plaintext(data: dict[str, Any]) -> _Response:
    return _without("Plaintext", _data_key(data))


def _sealing_pair(original: _Operation) -> _Operation:
    def pair(data: dict[str, Any]) -> _Response:
        record = _symmetric(data, "GenerateDataKeyPair")
        context = _context(data)
        made = original(data)
        if made[0] != 200:
            return made
        payload = json.loads(made[2])
        private = base64.b64decode(payload["PrivateKeyPlaintext"])
        payload["PrivateKeyCiphertextBlob"] = _text(seal(record, private, context))
        return json_response(payload)

    return pair


def _pair_without_plaintext(data: dict[str, Any]) -> _Response:
    return _without("PrivateKeyPlaintext", kms._generate_data_key_pair(data))


def _without(name: str, made: _Response) -> _Response:
    if made[0] != 200:
        return made
    return json_response({key: value for key, value in json.loads(made[2]).items() if key != name})


def _record(name: Any) -> dict[str, Any]:
    record: dict[str, Any] | None = kms._resolve_key(name) if isinstance(name, str) else None
    if record is None:
        raise _Refused("NotFoundException", f"the key or alias {name!r} does not exist")
    return record


def _symmetric(data: Mapping[str, Any], operation: str) -> dict[str, Any]:
    record = _record(data.get("KeyId"))
    if "_symmetric_key" not in record:
        text = f"{record['Arn']} is not a symmetric key, which {operation} needs"
        raise _Refused("InvalidKeyUsageException", text)
    _check_usable(record)
    return record


def _sealed_by(ciphertext: bytes) -> dict[str, Any]:
    """Returns the key whose id begins a ciphertext."""
    name = ciphertext[:ID_LETTERS].decode("ascii", "replace")
    record: dict[str, Any] | None = kms._keys.get(name)
    if record is None or "_symmetric_key" not in record:
        raise _Refused("InvalidCiphertextException", "")
    return record


def _check_usable(record: Mapping[str, Any]) -> None:
    """Raises AWS's error for a disabled key, or one that is to be deleted."""
    refused = kms._check_key_state(record)
    if refused is not None:
        body = json.loads(refused[2])
        raise _Refused(body["__type"], body["message"])


def _check_usage(record: Mapping[str, Any], operation: str) -> None:
    if record["KeyUsage"] != "ENCRYPT_DECRYPT":
        text = f"{record['Arn']} key usage is {record['KeyUsage']} which is not valid for "
        raise _Refused("InvalidKeyUsageException", f"{text}{operation}.")


def _check_algorithm(data: Mapping[str, Any]) -> None:
    algorithm = data.get("EncryptionAlgorithm", "SYMMETRIC_DEFAULT")
    if algorithm != "SYMMETRIC_DEFAULT":
        text = f"Algorithm {algorithm} is incompatible with key spec SYMMETRIC_DEFAULT."
        raise _Refused("InvalidKeyUsageException", text)


def _context(data: Mapping[str, Any]) -> dict[str, str]:
    context = data.get("EncryptionContext") or {}
    if not isinstance(context, dict) or not all(isinstance(v, str) for v in context.values()):
        text = "EncryptionContext is not an object whose values are strings"
        raise _Refused("SerializationException", text)
    return context


def _blob(data: Mapping[str, Any], name: str, most: int) -> bytes:
    value = data.get(name)
    try:
        blob = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        blob = None
    if blob is None:
        raise _Refused("SerializationException", f"{name} is not a text in base64")
    if not 1 <= len(blob) <= most:
        field = name[0].lower() + name[1:]
        text = f"1 validation error detected: Value at '{field}' failed to satisfy constraint: "
        text += f"Member must have length from 1 to {most}"
        raise _Refused("ValidationException", text)
    return blob


def _text(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
