"""The listening side of TLS 1.3: certificate and key, and each accepted connection."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import trio

from ..channels.client.tls import (
    MalformedTrust,
    TlsRefused,
    certificate_hash,
    fingerprint,
    read_certificate,
    refusal_of,
)
from ..channels.errors import LocalError
from ..channels.ids import ZERO_WORD

TLS_HANDSHAKE_BYTE = 0x16
"""The first byte of every TLS connection (RFC 8446, section 5.1), and of no greeting of ours."""


class UnusableCertificate(LocalError):
    """The certificate or its key cannot be served."""

    code = "unusable-certificate"
    remedy = (
        "name a PEM certificate and its own unencrypted PEM key; see `farthing hub certificate`"
    )


class SpeaksOtherwise(TlsRefused):
    """One end speaks TLS and the other plainly; said plainly, either end understands it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """A server's TLS: its context, and the SHA-256 of the certificate that it shows."""

    context: ssl.SSLContext
    certificate: bytes

    @property
    def fingerprint(self) -> str:
        """The hash as people exchange it."""
        return fingerprint(self.certificate)


def load_tls(certificate_file: Path, key_file: Path) -> ServerTls:
    """Read a certificate (its chain may follow it) and its key; raises `UnusableCertificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a wallet stays connected for days: nothing is resumed

    def no_password() -> str:
        raise UnusableCertificate(f"the key {key_file} is encrypted")

    try:
        certificate = certificate_hash(read_certificate(certificate_file))
        context.load_cert_chain(certificate_file, key_file, password=no_password)
    except MalformedTrust as error:
        raise UnusableCertificate(error.text) from None
    except ssl.SSLError as error:
        raise UnusableCertificate(
            f"{certificate_file} and {key_file} are no certificate and its key"
            f" ({error.reason or 'unreadable'})"
        ) from None
    except OSError as error:
        raise UnusableCertificate(f"{key_file} cannot be read ({error.strerror})") from None
    return ServerTls(context=context, certificate=certificate)


def load_configured(
    certificate_file: Path | None, key_file: Path | None, log: logging.Logger
) -> ServerTls | None:
    """Read what a configuration names, None where that is nothing, and log what wallets see."""
    if certificate_file is None or key_file is None:
        return None
    tls = load_tls(certificate_file, key_file)
    log.info("wallets see the certificate %s", tls.fingerprint)
    return tls


async def accept(stream: trio.SocketStream, tls: ServerTls | None) -> tuple[trio.abc.Stream, bytes]:
    """Begin TLS on an accepted connection where we have it; the caller sets the time limit.

    Returns the stream to speak on and the hash of our certificate (zeros: no TLS). Raises
    `SpeaksOtherwise`, which can still be said on the stream itself, and `TlsRefused`.
    """
    first = await stream.socket.recv(1, trio.socket.MSG_PEEK)
    speaks_tls = first == bytes([TLS_HANDSHAKE_BYTE])
    if tls is None:
        if speaks_tls:
            raise SpeaksOtherwise(
                "the peer speaks TLS and this side has none", remedy="dial plainly"
            )
        return stream, ZERO_WORD
    if first and not speaks_tls:
        raise SpeaksOtherwise(
            "this side speaks nothing but TLS",
            remedy="give the wallet this certificate: a hub's with `farthing wallet trust`,"
            " a tower's with `farthing wallet tower add`",
        )
    secured = trio.SSLStream(stream, tls.context, server_side=True, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        raise refusal_of(error, "the peer") from None
    return secured, tls.certificate
