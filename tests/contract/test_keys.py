"""KMS in the emulator, as AWS's API reference says.

https://docs.aws.amazon.com/kms/latest/APIReference/
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from mayfly_local.emulator.clients import Clients

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CONTEXT = {"tenant": "acme", "purpose": "test"}


@pytest.fixture
def kms(endpoint: str) -> Any:
    return Clients(endpoint).get("kms")


@pytest.fixture
def key(kms: Any) -> str:
    return made(kms)


def made(kms: Any, **arguments: Any) -> str:
    """Makes a key, and returns its ARN."""
    return str(kms.create_key(**arguments)["KeyMetadata"]["Arn"])


def code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Code"])


def test_made_key_is_described(kms: Any) -> None:
    metadata = kms.create_key(Description="orders")["KeyMetadata"]
    assert UUID.fullmatch(metadata["KeyId"])
    assert metadata["Arn"] == f"arn:aws:kms:us-east-1:000000000000:key/{metadata['KeyId']}"
    described = kms.describe_key(KeyId=metadata["KeyId"])["KeyMetadata"]
    wanted = {
        "Description": "orders", "Enabled": True, "KeyState": "Enabled", "Origin": "AWS_KMS",
        "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "KeyManager": "CUSTOMER",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
    }  # fmt: skip
    assert {name: described[name] for name in wanted} == wanted


@pytest.mark.parametrize("context", [{}, CONTEXT], ids=["without-context", "with-context"])
@pytest.mark.parametrize("size", [1, 4096], ids=["1-byte", "4096-bytes"])
def test_ciphertext_is_decrypted(kms: Any, key: str, size: int, context: Mapping[str, str]) -> None:
    sealed = kms.encrypt(KeyId=key, Plaintext=b"x" * size, EncryptionContext=context)
    assert (sealed["KeyId"], sealed["EncryptionAlgorithm"]) == (key, "SYMMETRIC_DEFAULT")
    opened = kms.decrypt(
        CiphertextBlob=sealed["CiphertextBlob"],
        EncryptionContext=dict(reversed(list(context.items()))),
    )
    assert (opened["Plaintext"], opened["KeyId"]) == (b"x" * size, key)


def test_equal_plaintexts_have_different_ciphertexts(kms: Any, key: str) -> None:
    assert len({kms.encrypt(KeyId=key, Plaintext=b"same")["CiphertextBlob"] for _ in "abc"}) == 3


@pytest.mark.parametrize(
    "context", [{}, {"tenant": "acme"}, {**CONTEXT, "more": "x"}, {**CONTEXT, "tenant": "other"}],
    ids=["none", "fewer", "more", "other-value"],
)  # fmt: skip
def test_other_context_is_an_invalid_ciphertext(
    kms: Any, key: str, context: Mapping[str, str]
) -> None:
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=CONTEXT)
    with pytest.raises(ClientError) as refused:
        kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)
    assert code(refused) == "InvalidCiphertextException"


@pytest.mark.parametrize("position", [0, 36, 48, -1], ids=["key", "nonce", "first", "tag"])
def test_changed_ciphertext_is_refused(kms: Any, key: str, position: int) -> None:
    blob = bytearray(kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"])
    blob[position] ^= 1
    with pytest.raises(ClientError) as refused:
        kms.decrypt(CiphertextBlob=bytes(blob))
    assert code(refused) == "InvalidCiphertextException"


@pytest.mark.parametrize("blob", [b"x", b"x" * 36, b"x" * 100], ids=["1", "36", "100"])
def test_bytes_that_are_no_ciphertext_are_refused(kms: Any, blob: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        kms.decrypt(CiphertextBlob=blob)
    assert code(refused) == "InvalidCiphertextException"


def test_key_that_did_not_make_a_ciphertext_is_incorrect(kms: Any, key: str) -> None:
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    with pytest.raises(ClientError) as refused:
        kms.decrypt(CiphertextBlob=sealed, KeyId=made(kms))
    assert code(refused) == "IncorrectKeyException"


@pytest.mark.parametrize("size", [0, 4097])
def test_plaintext_has_at_most_4096_bytes(kms: Any, key: str, size: int) -> None:
    with pytest.raises(ClientError) as refused:
        kms.encrypt(KeyId=key, Plaintext=b"x" * size)
    assert code(refused) == "ValidationException"


@pytest.mark.parametrize(
    "name",
    ["alias/none", "alias/aws/s3", "00000000-0000-4000-8000-000000000001"],
    ids=["alias", "managed", "id"],
)
def test_unknown_key_is_not_found(kms: Any, name: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: kms.encrypt(KeyId=name, Plaintext=b"x"),
        lambda: kms.describe_key(KeyId=name),
        lambda: kms.generate_data_key(KeyId=name, KeySpec="AES_256"),
    ]
    for call in calls:
        with pytest.raises(ClientError) as refused:
            call()
        assert code(refused) == "NotFoundException"


def test_disabled_key_does_nothing_until_it_is_enabled(kms: Any, key: str) -> None:
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    calls: list[Callable[[], Any]] = [
        lambda: kms.encrypt(KeyId=key, Plaintext=b"x"),
        lambda: kms.decrypt(CiphertextBlob=sealed),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
    ]
    for call in calls:
        with pytest.raises(ClientError) as refused:
            call()
        assert code(refused) == "DisabledException"
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"secret"


def test_key_that_is_to_be_deleted_decrypts_nothing(kms: Any, key: str) -> None:
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    with pytest.raises(ClientError) as refused:
        kms.decrypt(CiphertextBlob=sealed)
    assert code(refused) == "KMSInvalidStateException"


@pytest.mark.parametrize(
    ("arguments", "size"),
    [({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 64}, 64)],
    ids=["aes-256", "aes-128", "64-bytes"],
)
def test_data_key_comes_plain_and_sealed(
    kms: Any, key: str, arguments: dict[str, Any], size: int
) -> None:
    reply = kms.generate_data_key(KeyId=key, EncryptionContext=CONTEXT, **arguments)
    assert (len(reply["Plaintext"]), reply["KeyId"]) == (size, key)
    opened = kms.decrypt(CiphertextBlob=reply["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == reply["Plaintext"]
    with pytest.raises(ClientError) as refused:
        kms.decrypt(CiphertextBlob=reply["CiphertextBlob"])
    assert code(refused) == "InvalidCiphertextException"
    hidden = kms.generate_data_key_without_plaintext(KeyId=key, **arguments)
    assert "Plaintext" not in hidden
    assert len(kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"])["Plaintext"]) == size


@pytest.mark.parametrize(
    "arguments", [{}, {"KeySpec": "AES_256", "NumberOfBytes": 32}, {"NumberOfBytes": 1025}],
    ids=["neither", "both", "1025-bytes"],
)  # fmt: skip
def test_data_key_has_one_valid_size(kms: Any, key: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        kms.generate_data_key(KeyId=key, **arguments)
    assert code(refused) == "ValidationException"


def test_pair_of_data_keys_has_its_private_key_sealed(kms: Any, key: str) -> None:
    reply = kms.generate_data_key_pair(KeyId=key, KeyPairSpec="ECC_NIST_P256")
    opened = kms.decrypt(CiphertextBlob=reply["PrivateKeyCiphertextBlob"])["Plaintext"]
    assert opened == reply["PrivateKeyPlaintext"]
    private = serialization.load_der_private_key(opened, None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = private.public_key().public_bytes(serialization.Encoding.DER, form)
    assert public == reply["PublicKey"]
    hidden = kms.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec="ECC_NIST_P256")
    assert "PrivateKeyPlaintext" not in hidden
    assert kms.decrypt(CiphertextBlob=hidden["PrivateKeyCiphertextBlob"])["Plaintext"]


def test_ciphertext_changes_its_key_and_its_context(kms: Any, key: str) -> None:
    other = made(kms)
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=CONTEXT)
    reply = kms.re_encrypt(
        CiphertextBlob=sealed["CiphertextBlob"], SourceEncryptionContext=CONTEXT,
        DestinationKeyId=other, DestinationEncryptionContext={"a": "b"},
    )  # fmt: skip
    assert (reply["SourceKeyId"], reply["KeyId"]) == (key, other)
    opened = kms.decrypt(
        CiphertextBlob=reply["CiphertextBlob"], EncryptionContext={"a": "b"}, KeyId=other
    )
    assert opened["Plaintext"] == b"secret"
    with pytest.raises(ClientError) as refused:
        kms.re_encrypt(CiphertextBlob=sealed["CiphertextBlob"], DestinationKeyId=other)
    assert code(refused) == "InvalidCiphertextException"


def test_alias_is_its_key_until_it_is_another_one(kms: Any, key: str) -> None:
    name, other = "alias/moved", made(kms)
    kms.create_alias(AliasName=name, TargetKeyId=key)
    arn = f"arn:aws:kms:us-east-1:000000000000:{name}"
    for named in (name, arn):
        assert kms.encrypt(KeyId=named, Plaintext=b"x")["KeyId"] == key
    assert [a["AliasArn"] for a in kms.list_aliases(KeyId=key)["Aliases"]] == [arn]
    with pytest.raises(ClientError) as refused:
        kms.create_alias(AliasName=name, TargetKeyId=other)
    assert code(refused) == "AlreadyExistsException"
    kms.update_alias(AliasName=name, TargetKeyId=other)
    assert kms.encrypt(KeyId=name, Plaintext=b"x")["KeyId"] == other
    kms.delete_alias(AliasName=name)
    with pytest.raises(ClientError) as refused:
        kms.encrypt(KeyId=name, Plaintext=b"x")
    assert code(refused) == "NotFoundException"


@pytest.mark.parametrize("kind", ["RAW", "DIGEST"])
@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [("ECC_NIST_P256", "ECDSA_SHA_256"), ("RSA_2048", "RSASSA_PSS_SHA_256"),
     ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256")],
    ids=["ecdsa", "pss", "pkcs1"],
)  # fmt: skip
def test_signature_is_verified_with_the_public_key(
    kms: Any, spec: str, algorithm: str, kind: str
) -> None:
    key = made(kms, KeySpec=spec, KeyUsage="SIGN_VERIFY")
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"message")
    message = b"message" if kind == "RAW" else digest.finalize()
    signed = {
        "KeyId": key, "SigningAlgorithm": algorithm, "Message": message, "MessageType": kind,
    }  # fmt: skip
    signature = kms.sign(**signed)["Signature"]
    public = serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
    else:
        assert isinstance(public, rsa.RSAPublicKey)
        form: Any = padding.PKCS1v15()
        if "PSS" in algorithm:
            form = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        public.verify(signature, b"message", form, hashes.SHA256())
    assert kms.verify(**signed, Signature=signature)["SignatureValid"] is True
    with pytest.raises(ClientError) as refused:
        kms.verify(**signed, Signature=bytes([signature[0] ^ 1]) + signature[1:])
    assert code(refused) == "KMSInvalidSignatureException"


def test_rsa_key_encrypts(kms: Any) -> None:
    key = made(kms, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    named = {"KeyId": key, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    public = serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public, rsa.RSAPublicKey)
    outside = public.encrypt(
        b"secret", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    )
    inside = kms.encrypt(Plaintext=b"secret", **named)["CiphertextBlob"]
    for sealed in (outside, inside):
        assert kms.decrypt(CiphertextBlob=sealed, **named)["Plaintext"] == b"secret"


def test_mac_is_verified(kms: Any) -> None:
    key = made(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    named = {"KeyId": key, "MacAlgorithm": "HMAC_SHA_256"}
    mac = kms.generate_mac(Message=b"message", **named)["Mac"]
    assert len(mac) == 32
    assert kms.verify_mac(Message=b"message", Mac=mac, **named)["MacValid"] is True
    with pytest.raises(ClientError) as refused:
        kms.verify_mac(Message=b"other", Mac=mac, **named)
    assert code(refused) == "KMSInvalidMacException"


@pytest.mark.parametrize(
    ("spec", "usage"), [("HMAC_256", "GENERATE_VERIFY_MAC"), ("RSA_2048", "SIGN_VERIFY")]
)
def test_key_of_another_usage_does_not_encrypt(kms: Any, spec: str, usage: str) -> None:
    key = made(kms, KeySpec=spec, KeyUsage=usage)
    with pytest.raises(ClientError) as refused:
        kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
    assert code(refused) == "InvalidKeyUsageException"


@pytest.mark.parametrize(
    ("operation", "arguments", "named"),
    [
        ("create_grant", {"GranteePrincipal": "x", "Operations": ["Encrypt"]}, "kms:CreateGrant"),
        ("enable_key_rotation", {}, "kms:EnableKeyRotation"),
        ("put_key_policy", {"Policy": "{}"}, "kms:PutKeyPolicy"),
        ("encrypt", {"Plaintext": b"x", "GrantTokens": ["t"]}, "GrantTokens"),
        ("encrypt", {"Plaintext": b"x", "DryRun": True}, "DryRun"),
    ],
    ids=["grant", "rotation", "policy", "grant-tokens", "dry-run"],
)
def test_what_is_not_served_fails_by_its_name(
    kms: Any, key: str, operation: str, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ClientError, match=f"{named}.* is not served on this machine") as refused:
        getattr(kms, operation)(KeyId=key, **arguments)
    assert code(refused) == "UnsupportedOperationException"


def test_random_bytes_have_the_length_that_was_asked_for(kms: Any) -> None:
    assert len(kms.generate_random(NumberOfBytes=24)["Plaintext"]) == 24
