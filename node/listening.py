"""What a hub or watchtower may be told to listen on: other machines are served with TLS alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

from .settings import Misconfigured, Place


class NotLoopback(Misconfigured):
    """An address that other machines could reach, and no TLS."""

    code = "not-loopback"
    remedy = (
        "make a certificate (`farthing hub certificate`) and name it in tls_certificate_file and"
        " tls_key_file, or listen on 127.0.0.1"
    )


class HalfTls(Misconfigured):
    """A certificate without its key, or a key without its certificate."""

    code = "half-tls"
    remedy = "give both tls_certificate_file and tls_key_file, or neither"


def check_tls(
    listen_host: str, certificate: Path | None, key: Path | None, places: Mapping[str, Place]
) -> None:
    """Demand both files or neither, and both but on loopback; raises `HalfTls`, `NotLoopback`."""
    if (certificate is None) is not (key is None):
        missing = "tls_key_file" if key is None else "tls_certificate_file"
        raise HalfTls(places[missing], "it is missing, the other one is given")
    if certificate is None and not ipaddress.ip_address(listen_host).is_loopback:
        raise NotLoopback(
            places["listen_host"], f"{listen_host} can be reached from other machines"
        )
