"""The dialling side of TLS 1.3: connect, and know the server's certificate by pins or by a CA.

Rule: what the handshake of docs/protocol.md binds is the SHA-256 of the certificate that this end
itself saw; without TLS it is 32 zero bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from ..errors import LocalError, PeerError
from ..ids import WORD_BYTES, ZERO_WORD

PINS_MAX: Final = 2
"""The certificate in use and the one that replaces it."""

SYSTEM_CA: Final = "system"
"""Trust what the machine's own list of certificate authorities vouches for."""

FINGERPRINT_PREFIX: Final = "sha256:"
CERTIFICATE_FILE_BYTES_MAX: Final = 256 << 10
"""A certificate with its chain is a few kilobytes; more is another file."""

_PEM_BEGIN = "-----BEGIN CERTIFICATE-----"
_DER_SEQUENCE = b"\x30"
_PEM_END = "-----END CERTIFICATE-----"


class MalformedTrust(LocalError):
    """A pin, certificate or CA that cannot be used."""

    code = "malformed-hub-certificate"
    remedy = "write sha256: and 64 hex digits as the server shows them, or name its PEM file"


class TlsRefused(PeerError):
    """The two ends cannot agree on TLS, or one of them does not speak it."""

    code = "tls-refused"


class CertificateRefused(PeerError):
    """The server's certificate is not one that this wallet trusts; nothing was sent to it."""

    code = "certificate-refused"
    remedy = (
        "ask the agency for its certificate's hash; if it was renewed, name the new one with"
        " `farthing wallet trust`, if not, somebody is in between"
    )


TOWER_REMEDY: Final = (
    "ask the watchtower's operator for its certificate's hash; if it was renewed, remove the tower"
    " and add it with the new one (`farthing wallet tower`), if not, somebody is in between"
)
"""What to do where the refused certificate is a watchtower's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How a server is known: by up to two pinned certificates, or by a CA and its host name.

    `pins` are SHA-256 hashes of the DER certificate, `ca` is "system" or the path of a PEM file.
    Raises `MalformedTrust` unless it is exactly one of them.
    """

    pins: tuple[bytes, ...] = ()
    ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.pins) == bool(self.ca):
            raise MalformedTrust("a server is known either by its certificate or by a CA")
        if len(self.pins) > PINS_MAX or any(len(pin) != WORD_BYTES for pin in self.pins):
            raise MalformedTrust(f"{len(self.pins)} pins, or pins of another length, were given")

    def context(self) -> ssl.SSLContext:
        """A client's context, TLS 1.3 and nothing older; raises `MalformedTrust`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.pins:  # names and dates say nothing beyond the hash, which is compared after it
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        try:
            if self.ca == SYSTEM_CA:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            else:
                context.load_verify_locations(cafile=self.ca)
        except OSError as error:  # an ssl.SSLError is one
            what = error.strerror or "it holds no certificate"
            raise MalformedTrust(
                f"the CA file {self.ca} cannot be used ({what})", remedy="name a PEM file"
            ) from None
        return context


def certificate_hash(certificate: bytes) -> bytes:
    """Return the SHA-256 of a certificate's DER."""
    return hashlib.sha256(certificate).digest()


def fingerprint(digest: bytes) -> str:
    """Write a certificate's hash as people exchange it."""
    return FINGERPRINT_PREFIX + digest.hex()


def parse_fingerprint(text: str) -> bytes:
    """Read what `fingerprint` writes, colons between the bytes allowed; raises `MalformedTrust`."""
    digits = text.strip().lower().removeprefix(FINGERPRINT_PREFIX).replace(":", "")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if not text.lower().startswith(FINGERPRINT_PREFIX) or len(digest) != WORD_BYTES:
        raise MalformedTrust(f"{text[:80]!r} is no hash of a certificate")
    return digest


def read_certificate(path: Path) -> bytes:
    """Return the DER of the first certificate in a PEM file; raises `MalformedTrust`."""
    try:
        with path.open("rb") as file:
            text = file.read(CERTIFICATE_FILE_BYTES_MAX + 1).decode("ascii", errors="replace")
    except OSError as error:
        raise MalformedTrust(f"{path} cannot be read ({error.strerror})") from None
    _, begin, rest = text.partition(_PEM_BEGIN)
    body, end, _ = rest.partition(_PEM_END)
    der = b""
    if begin and end:
        with contextlib.suppress(ValueError):  # what stands between them is no base64
            der = ssl.PEM_cert_to_DER_cert(begin + body + end)
    if der[:1] != _DER_SEQUENCE:
        raise MalformedTrust(f"{path} holds no certificate")
    return der


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """A stream to a server, and the hash of the certificate that it showed (zeros: no TLS)."""

    stream: trio.abc.Stream
    certificate: bytes


async def dial(host: str, port: int, trust: Trust | None, *, of: str = "hub") -> Dialled:
    """Connect, with TLS where there is trust in a certificate; the caller sets the time limit.

    `of` is whose server it is in the errors' words: "hub" or "tower".
    Raises `OSError`, `TlsRefused`, `CertificateRefused` and `MalformedTrust`, with nothing open.
    """
    plain = await trio.open_tcp_stream(host, port)
    if trust is None:
        return Dialled(stream=plain, certificate=ZERO_WORD)
    try:
        return await _secure(plain, host, trust, of)
    except BaseException:
        await trio.aclose_forcefully(plain)
        raise


async def _secure(plain: trio.SocketStream, host: str, trust: Trust, of: str) -> Dialled:
    stream = trio.SSLStream(plain, trust.context(), server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        raise refusal_of(error, f"the {of}") from None
    seen = certificate_hash(stream.getpeercert(binary_form=True))
    if trust.pins and seen not in trust.pins:
        pins = " or ".join(map(fingerprint, trust.pins))
        text = f"the {of}'s certificate is {fingerprint(seen)}, not the pinned {pins}"
        raise CertificateRefused(text, remedy=_remedy(f"the {of}"))
    return Dialled(stream=stream, certificate=seen)


def refusal_of(error: trio.BrokenResourceError, peer: str) -> PeerError:
    """Say in words why a TLS handshake failed."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"{peer}'s certificate is refused: {cause.verify_message}"
        return CertificateRefused(text, remedy=_remedy(peer))
    reason = cause.reason if isinstance(cause, ssl.SSLError) else None
    if reason in _NO_TLS:
        return TlsRefused(
            f"{peer} does not speak TLS", remedy="use TLS on both ends, or on neither on loopback"
        )
    if reason in _OLD_TLS:
        return TlsRefused(f"{peer} does not speak TLS 1.3", remedy="update the older of the two")
    if reason is not None and "ALERT" in reason:
        return TlsRefused(
            f"{peer} refused the TLS handshake ({reason})",
            remedy="check that both ends mean the same certificate",
        )
    what = f" ({reason})" if reason else ""
    return TlsRefused(
        f"the TLS handshake with {peer} broke off{what}", remedy="check address and certificate"
    )


def _remedy(peer: str) -> str:
    return TOWER_REMEDY if peer == "the tower" else CertificateRefused.remedy


_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_OLD_TLS = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "NO_PROTOCOLS_AVAILABLE",
        "VERSION_TOO_LOW",
    }
)
