"""Makes a self-signed certificate for a hub whose wallets pin it.

Imported by the commands that make one and by nothing that serves: the running hub and the wallets
use the standard library's TLS alone.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..channels.client.durable_file import sync_folder
from ..channels.errors import LocalError

DAYS = 3650
"""Who pins a certificate compares its hash: the date matters to those alone who use it as a CA."""

CERTIFICATE_NAME = "certificate.pem"
KEY_NAME = "certificate-key.pem"
NAME_CHARACTERS_MAX = 64
"""Of a common name (RFC 5280, appendix A.1); the name that counts is the alternative one."""


class CertificateExists(LocalError):
    """A certificate was to be made where one is; nothing was changed."""

    code = "certificate-exists"
    remedy = "give --out another folder; wallets must know the new one before the old one goes"


class BadHostName(LocalError):
    """A name that no certificate can carry."""

    code = "bad-host-name"
    remedy = "give the name or address that wallets dial, such as hub.city.example"


def make_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Write certificate and key (mode 600) into a folder; returns both paths.

    Raises `CertificateExists`, `BadHostName`, `OSError`.
    """
    certificate_file, key_file = folder / CERTIFICATE_NAME, folder / KEY_NAME
    for path in (certificate_file, key_file):
        if path.exists():
            raise CertificateExists(f"{path} is there already")
    if not host:
        raise BadHostName("the name is empty")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = _self_signed(key, host).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key_file, secret, 0o600)
    _write(certificate_file, pem, 0o644)
    return certificate_file, key_file


def _self_signed(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:NAME_CHARACTERS_MAX])])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of devices lag
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise BadHostName(f"{host[:80]!r} is no host name") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
