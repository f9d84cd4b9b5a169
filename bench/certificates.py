"""Certificates for a store with TLS on loopback, and bundles of roots that trust it."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import botocore
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["Certificates", "make_certificates"]

#: The roots of AWS's services: https://www.amazontrust.com/repository/
_AMAZON: Final = (b"Amazon Root CA ", b"Starfield Services Root Certificate Authority - G2")
_LIFE: Final = timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """Files of certificates.

    `server` has the server's certificate and key. Both bundles trust the server: `all_roots` has
    those of botocore's bundle besides, and `amazon_roots` those of Amazon.
    """

    server: Path
    all_roots: Path
    amazon_roots: Path


def make_certificates(folder: Path) -> Certificates:
    """Makes a root, and a certificate of it for 127.0.0.1; writes them with the bundles."""
    root_key, server_key = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)
    )
    root = (
        _named("bench root", "bench root", root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = (
        _named("127.0.0.1", "bench root", server_key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    usual = Path(botocore.__file__).with_name("cacert.pem").read_bytes()
    amazon = [block for block in usual.split(b"\n\n") if any(name in block for name in _AMAZON)]
    own = root.public_bytes(Encoding.PEM)
    made = Certificates(folder / "server.pem", folder / "all.pem", folder / "amazon.pem")
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made.server.write_bytes(server.public_bytes(Encoding.PEM) + key)
    made.all_roots.write_bytes(usual + own)
    made.amazon_roots.write_bytes(b"\n".join([*amazon, own]))
    return made


def _named(subject: str, issuer: str, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
