"""Looks a watchtower over: its files, its machine, what it holds, its chain, and what is at risk.

Rule: as the wallet's (channels/client/doctor.py): it changes nothing and works beside the tower.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import trio

from ...channels.client import keystore
from ...channels.client.deployment_file import read_deployment
from ...channels.client.doctor import (
    Check,
    check_chain,
    check_integrity,
    check_machine,
    check_mode,
    check_port,
    is_signed,
    not_checked,
    ok,
    problem,
    warning,
)
from ...channels.client.peek import Peek, peek
from ...channels.client.ports import ChainPort
from ...channels.deployment import Deployment
from ...channels.errors import ChainError, FarthingError, LocalError
from ...channels.ids import Address, address_to_hex, to_hex
from ...channels.state import ChainStatus
from ...contracts.members import MemberStatus
from ..administration import Administrator
from ..doctor import check_certificate_files, check_data_folder
from ..sender import connect
from .config import TowerConfig
from .store import DATABASE_NAME, Held, held_from_row

ROOM_PART = 0.9
"""A tower that holds more than this part of what it may is told to be nearly full."""

_START_ANEW = "stop the tower and move its database away: wallets deposit again when they connect"


async def examine(config: TowerConfig, chain: ChainPort) -> list[Check]:
    """All checks of one watchtower; raises what `read_deployment` raises."""
    deployment = read_deployment(config.deployment_file)
    rows = [*_files(config), *check_machine()]
    content, held, seen = await trio.to_thread.run_sync(_content, config, deployment)
    watched = [one for one in held if one.is_open]
    rows += content
    rows += await check_chain(chain, [one.terms.challenge_seconds for one in watched])
    rows.append(await _membership(config, deployment))
    if config.listen_port:
        at = config.listen_host, config.listen_port
        rows.append(await check_port("listening", *at, of="watchtower"))
    else:
        rows.append(not_checked("listening", "port 0: the tower says in its ready line where"))
    rows.append(_room(config, held))
    return [*rows, *_wallets(config, watched, seen), *_closing(watched)]


def _files(config: TowerConfig) -> Iterator[Check]:
    yield check_mode("password file", config.password_file)
    yield check_mode("keystore", config.keystore)
    yield from check_certificate_files(
        config.tls_certificate_file, config.tls_key_file, of="watchtower"
    )
    database = config.data_dir / DATABASE_NAME
    yield from check_data_folder(database, ("-wal", "-shm"), of="watchtower")


# -- what it holds ------------------------------------------------------------------------------


def _content(
    config: TowerConfig, deployment: Deployment
) -> tuple[list[Check], list[Held], dict[Address, int]]:
    """What the database says of itself, every voucher, and when each wallet was last seen."""
    try:
        with peek(config.data_dir / DATABASE_NAME) as ledger:
            if ledger is None:
                return [ok("database", "there is none yet: the watchtower has not run")], [], {}
            rows = [
                ok("schema", f"version {ledger.version()}"),
                check_integrity(ledger, _START_ANEW),
                _whose(ledger, config, deployment),
            ]
            kept = list(ledger.rows("SELECT channel, payer, record FROM held"))
            seen = {Address(s): int(at) for s, at in ledger.rows("SELECT signer, at FROM seen")}
    except FarthingError as error:
        return [problem("database content", error.text, error.what_to_do)], [], {}
    try:
        held = [held_from_row(*row) for row in kept]
    except (FarthingError, ValueError, LookupError, TypeError) as error:
        text = f"a voucher in it cannot be read ({type(error).__name__})"
        return [*rows, problem("database content", text, _START_ANEW)], [], seen
    return [*rows, _vouchers(held, deployment)], held, seen


def _whose(ledger: Peek, config: TowerConfig, deployment: Deployment) -> Check:
    """Whether the database was written under this deployment and this key."""
    found = dict(ledger.rows("SELECT key, value FROM setting WHERE key IN ('deployment','signer')"))
    try:
        signer = address_to_hex(keystore.address(config.keystore))
    except LocalError as error:
        return not_checked("database owner", error.text, error.what_to_do)
    for what, ours in (("deployment", to_hex(deployment.deployment)), ("signer", signer)):
        if found.get(what, ours) != ours:
            text = f"it belongs to {what} {found[what]}, not {ours}"
            remedy = "use its own deployment record and keystore, or another data_dir"
            return problem("database owner", text, remedy)
    return ok("database owner", f"{signer}, on the deployment's chain")


def _vouchers(held: Sequence[Held], deployment: Deployment) -> Check:
    """Whether each held voucher bears its payer's signature: others would not be settled."""
    separator = deployment.domain().separator()
    bad = [h for h in held if not is_signed(h.voucher, separator, h.terms.signer(h.payer))]
    if bad:
        text = f"of {len(held)} vouchers {len(bad)} do not verify, the first on channel"
        return problem("vouchers", f"{text} {to_hex(bad[0].voucher.channel)}", _START_ANEW)
    return ok("vouchers", f"{len(held)} are held, and all signatures verify")


def _room(config: TowerConfig, held: Sequence[Held]) -> Check:
    watched = sum(one.is_open for one in held)
    text = f"{watched} of {config.channels_max} channels are watched, {len(held) - watched} ended"
    if watched > ROOM_PART * config.channels_max:
        return warning("room", text, "raise channels_max, or let wallets use another watchtower")
    return ok("room", text)


def _wallets(
    config: TowerConfig, watched: Sequence[Held], seen: dict[Address, int]
) -> Iterator[Check]:
    """When the wallet of each watched channel was last here; those in order as one row."""
    now = int(time.time())
    present = 0
    for one in watched:
        at = seen.get(one.depositor, 0)
        if now - at <= config.silence_seconds:
            present += 1
            continue
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) + " UTC" if at else "never"
        yield warning(
            f"channel {to_hex(one.voucher.channel)} of {address_to_hex(one.depositor)}",
            f"its wallet was last seen {when}; {one.unsettled_ucent} µ¢ are held",
            "what it was paid since is not covered: ask its owner",
        )
    hours = config.silence_seconds / 3600
    yield ok("wallets", f"those of {present} channels were seen within {hours:g} h")


def _closing(watched: Sequence[Held]) -> Iterator[Check]:
    """Closes that are under way: what of it is not on the chain yet is what is at risk."""
    closing = [one for one in watched if one.view.status is ChainStatus.CLOSING]
    for one in closing:
        if not one.unsettled_ucent:
            continue
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.view.deadline_seconds))
        yield problem(
            f"close of {to_hex(one.voucher.channel)}",
            f"{one.unsettled_ucent} µ¢ are not settled; its window ends {until} UTC of the chain",
            "let the tower run: it answers as soon as it follows the chain",
        )
    settled = sum(not one.unsettled_ucent for one in closing)
    unsettled = sum(one.unsettled_ucent for one in watched)
    yield ok(
        "at risk",
        f"{unsettled} µ¢ of {len(watched)} channels are not on the chain yet;"
        f" {settled} closes are answered",
    )


# -- the chain's word ---------------------------------------------------------------------------


async def _membership(config: TowerConfig, deployment: Deployment) -> Check:
    """Whether the chain takes this tower's transactions."""
    try:
        address = keystore.address(config.keystore)
        web3 = connect(config.rpc_url, timeout_seconds=config.rpc_timeout_seconds)
        registry = Administrator(web3, deployment, None)
        member = await trio.to_thread.run_sync(partial(registry.member, address))
    except (ChainError, LocalError) as error:
        return not_checked("membership", error.text, error.what_to_do)
    remedy = "register it: `farthing member set` with role relayer"
    if member is None or member.status is not MemberStatus.ACTIVE:
        text = f"{address_to_hex(address)} is no active member: the chain takes no answer of it"
        return problem("membership", text, remedy)
    if member.valid_until and member.valid_until <= time.time():
        return problem("membership", "it has expired: the chain takes no answer", remedy)
    return ok("membership", f"active, as {member.role.name.lower()}")
