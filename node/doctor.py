"""Looks a hub over: its files, its machine, its database, its chain, and what is at risk.

Rule: as the wallet's (channels/client/doctor.py): it changes nothing and works while the hub runs.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio
from cryptography import x509

from ..channels.client import keystore
from ..channels.client.continuity import elsewhere
from ..channels.client.deployment_file import read_deployment
from ..channels.client.doctor import (
    Check,
    Verdict,
    check_chain,
    check_continuity,
    check_ledger,
    check_machine,
    check_mode,
    check_port,
    check_space,
    check_writes,
    not_checked,
    ok,
    problem,
    warning,
)
from ..channels.client.peek import peek
from ..channels.client.ports import ChainPort
from ..channels.client.tls import certificate_hash, fingerprint, read_certificate
from ..channels.deployment import Deployment
from ..channels.errors import FarthingError
from ..channels.ids import to_hex
from ..channels.state import ChainStatus, Channel
from .config import HubConfig
from .home import CONTROL_NAME, DATABASE_NAME, LOCK_NAME, OUTBOX_NAME

RENEW_BEFORE = timedelta(days=30)
"""A certificate that ends sooner is told: a CA's are made anew every few weeks, by hand or not."""


async def examine(config: HubConfig, chain: ChainPort) -> list[Check]:
    """All checks of one hub; raises what `read_deployment` raises."""
    deployment = read_deployment(config.deployment_file)
    database = config.data_dir / DATABASE_NAME
    separator = deployment.domain().separator()
    rows = [*_files(config), *check_machine()]
    rows += await trio.to_thread.run_sync(
        lambda: list(_gathered(check_ledger(database, separator)))
    )
    rows.append(_continuity(config, deployment))
    channels = _known(config)
    open_ones = [c for c in channels if c.chain is None or c.chain.status is ChainStatus.OPEN]
    rows += await check_chain(chain, [c.terms.challenge_seconds for c in open_ones])
    if config.listen_port:
        rows.append(await check_port("listening", config.listen_host, config.listen_port))
    else:
        rows.append(not_checked("listening", "port 0: the hub says in its ready line where"))
    return [*rows, *at_risk(channels)]


def _files(config: HubConfig) -> Iterator[Check]:
    yield check_mode("password file", config.password_file)
    yield check_mode("account keystore", config.account_keystore)
    yield check_mode("signer keystore", config.signer_keystore)
    yield from check_certificate_files(config.tls_certificate_file, config.tls_key_file, of="hub")
    database = config.data_dir / DATABASE_NAME
    yield from check_data_folder(database, ("-wal", "-shm", ".continuity"), of="hub")


def check_certificate_files(
    certificate: Path | None, key: Path | None, *, of: str
) -> Iterator[Check]:
    """The certificate of a hub or a watchtower (`of`), if it has one."""
    if certificate is None or key is None:
        yield not_checked("certificate", f"none is configured: the {of} serves this machine alone")
        return
    yield check_mode("certificate key", key)
    yield check_certificate(certificate, key)


def check_data_folder(database: Path, ends: Sequence[str], *, of: str) -> Iterator[Check]:
    """Modes of a server's folder and of what is in it, with the database's files; its disk."""
    folder = database.parent
    if not folder.exists():
        yield ok("data folder", f"there is none yet: the {of} has not run")
        return
    yield check_mode("data folder", folder)
    for what, path in (
        ("database file", database),
        *((f"database file {end}", database.with_name(database.name + end)) for end in ends),
        ("transactions", folder / OUTBOX_NAME),
        ("control socket", folder / CONTROL_NAME),
        ("lock", folder / LOCK_NAME),
    ):
        yield check_mode(what, path, must_exist=False)
    yield check_space("disk space", folder)
    yield check_writes("disk writes", folder)


def check_certificate(certificate: Path, key: Path) -> Check:
    """Whether certificate and key can be read and belong together, and how long it is valid."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        found = f"{certificate} and its key cannot be used ({error})"
        return problem("certificate", found, "make another: `farthing hub certificate`")
    found = fingerprint(certificate_hash(read_certificate(certificate)))
    shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    begins, ends = shown.not_valid_before_utc, shown.not_valid_after_utc
    now = datetime.now(UTC)
    remedy = "renew it: wallets that verify it by a CA refuse it; those that pin it do not look"
    if not begins <= now < ends:
        text = f"{found} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, and not now"
        told = warning if shown.issuer == shown.subject else problem
        return told("certificate", text, remedy)
    if ends - now < RENEW_BEFORE:
        return warning("certificate", f"{found} is valid to {ends:%Y-%m-%d} only", remedy)
    return ok("certificate", f"{found}, valid to {ends:%Y-%m-%d}")


def _gathered(rows: Iterable[Check]) -> Iterator[Check]:
    """Lanes that are fine as one row: a hub has thousands."""
    lanes = 0
    for row in rows:
        if row.verdict is Verdict.OK and row.what.startswith(("sent on", "received on")):
            lanes += 1
        else:
            yield row
    yield ok("lanes", f"{lanes} add up to their vouchers, whose signatures verify")


def _continuity(config: HubConfig, deployment: Deployment) -> Check:
    database = config.data_dir / DATABASE_NAME
    place = config.marker_dir
    try:
        signer = keystore.address(config.signer_keystore)
        return check_continuity(
            database,
            database.with_name(database.name + ".continuity"),
            None if place is None else elsewhere(place, signer, deployment.deployment),
        )
    except FarthingError as error:
        return not_checked("continuity", error.text, error.what_to_do)


def _known(config: HubConfig) -> list[Channel]:
    """The channels; none where they are unreadable, which the check of the database reports."""
    try:
        with peek(config.data_dir / DATABASE_NAME) as ledger:
            return [] if ledger is None else ledger.channels()
    except FarthingError:
        return []


def at_risk(channels: Iterable[Channel]) -> Iterator[Check]:
    """What the wallets have paid and the chain does not know yet, and channels that stopped."""
    unsettled = offers = open_ones = 0
    for channel in channels:
        chain = channel.chain
        if channel.stopped is not None:
            yield problem(
                f"channel {to_hex(channel.id)}",
                f"it has stopped: {channel.stopped}",
                "close it: `farthing hub close --unilateral`",
            )
        if chain is not None and chain.status is not ChainStatus.CLOSED:
            open_ones += 1
            received = channel.received.total.transferred_ucent
            unsettled += max(received - chain.settled_ucent[channel.side.other], 0)
            offers += channel.has_offers
    yield ok(
        "at risk",
        f"{unsettled} µ¢ received on {open_ones} channels are not on the chain yet; {offers} offers"
        " are under way",
    )
