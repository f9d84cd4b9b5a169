"""TLS of the lean client: which servers it trusts."""

import datetime as dt
import ipaddress
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mayfly import resources
from mayfly.aws.client import as_client
from mayfly.aws.errors import Unanswered
from mayfly.aws.lean import LeanClient
from mayfly.aws.tls import AMAZON_ROOTS, context
from mayfly.core.errors import ConfigError

from tests.support.wire import Server, answer, serving

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])


def certificate(folder: Path, *, address: str = "127.0.0.1") -> Path:
    """Makes a self-signed certificate of an address; returns the file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{address}.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return certificate(tmp_path)


@pytest.fixture
def server(own: Path) -> Iterator[Server]:
    with serving(tls=own) as found:
        yield found


def call(server: Server, bundle: Path | None, **options: Any) -> dict[str, Any]:
    env = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    client = LeanClient(
        "dynamodb",
        env,
        pause=lambda seconds: None,
        share=lambda: 0.0,
        **{"tls": lambda: context(str(bundle) if bundle else None), **options},
    )
    try:
        client.call("GetItem", {"a": "x" * 100_000})
        return client.call("GetItem", {})
    finally:
        client.close()


def test_server_with_a_certificate_of_the_bundle_is_trusted(server: Server, own: Path) -> None:
    server.usual = answer({"Item": {"a": {"S": "é" * 50_000}}})
    assert call(server, own) == {"Item": {"a": {"S": "é" * 50_000}}}
    assert (len(server.requests), server.connections) == (2, 1)


def test_server_that_the_system_does_not_know_gets_no_request(server: Server) -> None:
    with pytest.raises(Unanswered, match="SSLError"):
        call(server, None)
    assert server.requests == []


def test_certificate_of_another_address_gets_no_request(tmp_path: Path) -> None:
    other = certificate(tmp_path, address="127.0.0.2")
    with serving(tls=other) as server, pytest.raises(Unanswered, match="SSLError"):
        call(server, other)
    assert server.requests == []


def test_server_without_a_certificate_of_amazon_is_trusted_if_the_system_does(
    server: Server, own: Path
) -> None:
    server.usual = answer({"Item": {}})
    assert call(server, own, tls=lambda: context(AMAZON_ROOTS), wider_tls=lambda: context(str(own)))
    # The refused connection, and the one that both requests used.
    assert (len(server.requests), server.connections) == (2, 2)


def test_server_that_neither_amazon_nor_the_system_knows_gets_no_request(server: Server) -> None:
    with pytest.raises(Unanswered, match="SSLError"):
        call(server, None, tls=lambda: context(AMAZON_ROOTS), wider_tls=lambda: context(None))
    assert server.requests == []


def test_amazons_roots_are_those_of_botocores_bundle() -> None:
    usual = Path(botocore.__file__).with_name("cacert.pem").read_text()
    names = re.findall(
        r"^# Label: \"(Amazon .*|Starfield Services Root Certificate Authority - G2)\"",
        usual,
        re.MULTILINE,
    )
    text = Path(AMAZON_ROOTS).read_text()
    assert re.findall(r"^# (Amazon Root .*|Starfield .*)", text, re.MULTILINE) == names
    pems = re.findall(r"-----BEGIN.*?END CERTIFICATE-----", text, re.DOTALL)
    assert all(pem in usual for pem in pems)
    read = context(AMAZON_ROOTS).get_ca_certs()
    assert len(read) == len(pems) == len(names) == 5
    assert min(ssl.cert_time_to_seconds(str(root["notAfter"])) for root in read) > 2_100_000_000


def test_context_checks_names_and_is_made_once(own: Path) -> None:
    made = context(str(own))
    assert made.check_hostname
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context(str(own)) is made


@pytest.mark.parametrize("choice", ["lean", "boto3"])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_both_clients_trust_the_bundle_alone(
    server: Server, own: Path, monkeypatch: pytest.MonkeyPatch, choice: str, *, is_trusted: bool
) -> None:
    monkeypatch.setenv("MAYFLY_CLIENT", choice)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    if is_trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(own))
    made = resources.client_of("dynamodb", attempts=1)
    if is_trusted:
        assert as_client(made).call("GetItem", {"TableName": "t", "Key": {}}) is not None
    else:
        with pytest.raises(Unanswered, match="SSLError"):
            as_client(made).call("GetItem", {"TableName": "t", "Key": {}})
        assert server.requests == []
    made.close()


def test_bundle_that_is_gone_is_named() -> None:
    with pytest.raises(ConfigError, match=r"AWS_CA_BUNDLE 'gone\.pem' cannot be read"):
        context("gone.pem")
