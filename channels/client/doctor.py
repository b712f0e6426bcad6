"""Looks a wallet's folder over and says what is wrong, what to do, and what is at risk.

Rule: it changes nothing and works while the wallet runs. A check that could not be made is said to
be so; none is left out.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import trio

from ..errors import ChainError, FarthingError
from ..ids import Address, to_hex
from ..receipt import Receipt, ReceiptType
from ..signing import Signer, recover, verify_voucher
from ..state import STALE_DIVISOR, ChainStatus, Channel
from ..voucher import LaneTotal, Payment, UnverifiedVoucher, Voucher, replay
from . import keystore
from .bundle import read_bundle
from .continuity import read_marker
from .folder import Folder, HubAddress, Settings
from .ledger import RECEIVED, SCHEMA_VERSION, SENT
from .peek import Peek, peek
from .ports import ChainPort
from .tls import Trust, dial, fingerprint

SPACE_BYTES_MIN: Final = 64 << 20
"""Less is a warning: a wallet writes 8 KB a commit into its log before it is taken in."""
CLOCK_SECONDS_MAX: Final = 120
"""Clock and newest block may differ by this: slow blocks, or a devnet that runs ahead."""
CONNECT_SECONDS_MAX: Final = 5.0
EARLIEST: Final = 1_735_689_600
"""1 January 2025: a clock before it was never set, as on a device without a battery."""


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row: what was looked at, what was found, and what to do about it."""

    verdict: Verdict
    what: str
    found: str
    what_to_do: str = ""

    def record(self) -> dict[str, str]:
        """As plain values."""
        return {
            "verdict": self.verdict.value,
            "what": self.what,
            "found": self.found,
            "what_to_do": self.what_to_do,
        }


def ok(what: str, found: str) -> Check:
    """A check that found nothing wrong."""
    return Check(verdict=Verdict.OK, what=what, found=found)


def warning(what: str, found: str, what_to_do: str) -> Check:
    """Something that will be trouble, or may be."""
    return Check(verdict=Verdict.WARNING, what=what, found=found, what_to_do=what_to_do)


def problem(what: str, found: str, what_to_do: str) -> Check:
    """Something that is wrong now."""
    return Check(verdict=Verdict.PROBLEM, what=what, found=found, what_to_do=what_to_do)


def not_checked(what: str, found: str, what_to_do: str = "") -> Check:
    """A check that could not be made, and why."""
    return Check(verdict=Verdict.NOT_CHECKED, what=what, found=found, what_to_do=what_to_do)


# -- files and the machine ------------------------------------------------------------------------


def check_mode(what: str, path: Path, *, must_exist: bool = True) -> Check:
    """Whether a file or folder is there, is ours, and is for nobody else."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if must_exist:
            return problem(what, f"{path} is missing", "restore it, or recover the wallet")
        return ok(what, f"{path} is not there, and need not be")
    except OSError as error:
        return not_checked(what, f"{path}: {error.strerror}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        right = "700" if stat.S_ISDIR(status.st_mode) else "600"
        return problem(
            what, f"{path} has mode {mode:04o}: others have access", f"run: chmod {right} {path}"
        )
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        return problem(what, f"{path} belongs to another user", f"run: chown $USER {path}")
    return ok(what, f"mode {mode:04o}")


def check_space(what: str, folder: Path) -> Check:
    """How much more can be written."""
    try:
        free = os.statvfs(folder)
    except OSError as error:
        return not_checked(what, f"{folder}: {error.strerror}")
    free_bytes = free.f_bavail * free.f_frsize
    if free_bytes < SPACE_BYTES_MIN or free.f_favail == 0:
        found = f"{free_bytes >> 20} MiB and {free.f_favail} files are free"
        return warning(what, found, "free some space: a full disk stops the wallet")
    return ok(what, f"{free_bytes >> 20} MiB are free")


def check_writes(what: str, folder: Path) -> Check:
    """Whether a file can be made in the folder and made durable, and how long that takes."""
    started = time.perf_counter()
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        found = f"a file in {folder} could not be made durable ({error.strerror})"
        return problem(what, found, "free space, or check the mount and the disk")
    return ok(what, f"written and synced in {1000 * (time.perf_counter() - started):.1f} ms")


def check_machine() -> Iterator[Check]:
    """Clock, Python, SQLite and the curve library."""
    now = time.time()
    if now < EARLIEST:
        yield problem("clock", f"it says {time.ctime(now)}", "set the clock: use NTP")
    else:
        before, passed = time.monotonic(), time.time()
        after, later = time.monotonic(), time.time()
        if after < before or abs((later - passed) - (after - before)) > 1:
            yield warning("clock", "it jumped while it was looked at", "let NTP slew, not step")
        else:
            yield ok("clock", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} UTC")
    yield ok("python", platform.python_version())
    yield ok("sqlite", f"{sqlite3.sqlite_version}, schema {SCHEMA_VERSION}")
    yield check_curve()


def check_curve() -> Check:
    """Whether the library signs and verifies, with a key that guards nothing."""
    try:
        signer = Signer(b"\x01" * 32)
        digest = b"\x02" * 32
        sound = recover(digest, signer.sign_digest(digest)) == signer.address
    except (FarthingError, ImportError, OSError) as error:
        return problem("libsecp256k1", f"it does not work ({error})", "install coincurve again")
    if not sound:
        return problem("libsecp256k1", "it recovers another key", "install coincurve again")
    return ok("libsecp256k1", "signs and verifies")


# -- the ledger -----------------------------------------------------------------------------------


def check_ledger(path: Path, separator: bytes) -> Iterator[Check]:
    """Whether the database is whole, and says the same of each lane twice."""
    try:
        with peek(path) as ledger:
            if ledger is None:
                found = "there is none yet: the wallet has not run"
                yield ok("database", found)
                return
            yield ok("schema", f"version {ledger.version()}")
            remedy = "stop the wallet, keep the file, and recover: see docs/recovery.md"
            yield check_integrity(ledger, remedy)
            for channel in ledger.channels():
                for direction in (SENT, RECEIVED):
                    yield check_lane(ledger, channel, direction, separator)
    except FarthingError as error:
        yield problem("database content", error.text, error.what_to_do)


def check_integrity(ledger: Peek, remedy: str) -> Check:
    """Whether SQLite finds the file whole."""
    found = [str(row[0]) for row in ledger.rows("PRAGMA integrity_check(10)")]
    if found == ["ok"]:
        return ok("database", "sound")
    return problem("database", "; ".join(found)[:300], remedy)


def check_lane(ledger: Peek, channel: Channel, direction: int, separator: bytes) -> Check:
    """Whether a lane's payments add up to its voucher, and the voucher's signature is good."""
    name = "sent" if direction == SENT else "received"
    what = f"{name} on {to_hex(channel.id)}"
    voucher = (channel.sent if direction == SENT else channel.received).voucher
    side = channel.side if direction == SENT else channel.side.other
    total = LaneTotal() if voucher is None else voucher.total
    remedy = "stop the wallet, keep the folder, and recover: see docs/recovery.md"
    if voucher is not None and not is_signed(voucher, separator, channel.terms.signer(side)):
        return problem(what, "the newest voucher's signature does not verify", remedy)
    payments, reached, first = _replayed(ledger, channel, direction)
    if payments == 0 and total.nonce > 0:
        return ok(what, f"{total.transferred_ucent} µ¢; receipts of it are not here: restored")
    if payments and (reached.nonce, reached.transferred_ucent) != (
        total.nonce,
        total.transferred_ucent,
    ):
        found = (
            f"the payments end at {reached.nonce} with {reached.transferred_ucent} µ¢, the voucher"
            f" at {total.nonce} with {total.transferred_ucent} µ¢"
        )
        return problem(what, found, remedy)
    if payments and reached.history != total.history:
        return problem(what, "the payments do not give the voucher's history", remedy)
    since = f", receipts from payment {first} on" if first > 1 else ""
    return ok(what, f"{payments} payments add up to {total.transferred_ucent} µ¢{since}")


def _replayed(ledger: Peek, channel: Channel, direction: int) -> tuple[int, LaneTotal, int]:
    """How many payments are stored, the total that they come to, and the first one's number.

    Where the first are missing the first stored total is taken as it stands, the rest replayed.
    """
    count, first, reached = 0, 1, LaneTotal()
    for nonce, amount, kind, cbor, salt, transferred, history in ledger.rows(
        "SELECT nonce, amount_ucent, type, receipt, salt, transferred_ucent, history FROM payment"
        " WHERE channel=? AND direction=? ORDER BY nonce",
        (channel.id, direction),
    ):
        count += 1
        if count == 1 and nonce > 1:
            first = nonce
            reached = LaneTotal(nonce=nonce, transferred_ucent=int(transferred), history=history)
            continue
        receipt = Receipt(type=ReceiptType(kind), cbor=cbor, salt=salt)
        payment = Payment(amount_ucent=int(amount), receipt=receipt)
        (after,) = replay(reached, (payment,))
        stored = LaneTotal(nonce=nonce, transferred_ucent=int(transferred), history=history)
        if after != stored:  # the first that differs says it; what follows would only repeat it
            return count, after, first
        reached = after
    return count, reached, first


def is_signed(voucher: Voucher, separator: bytes, signer: Address) -> bool:
    """Whether a stored voucher bears the signature of its lane's payer."""
    unverified = UnverifiedVoucher(
        channel=voucher.channel,
        payer=voucher.payer,
        total=voucher.total,
        conditions=voucher.conditions,
        signature=voucher.signature,
    )
    try:
        verify_voucher(separator, unverified, signer)
    except FarthingError:
        return False
    return True


def check_continuity(path: Path, beside: Path, elsewhere: Path | None) -> Check:
    """Whether the database is the newest there was, as far as its counts show."""
    what = "continuity"
    with peek(path) as ledger:
        if ledger is None:
            return ok(what, "there is no database yet")
        settings = ledger.settings()
    if "doubt" in settings:
        found = "the database was restored: nothing is signed until two minutes of chain time"
        return warning(what, found, "let the wallet run; it goes on by itself")
    if "database" not in settings:
        return ok(what, "the database has never been used")
    offers = int(settings.get("offers", "0"))
    places = [(beside, True), (elsewhere, "elsewhere" in settings)]
    for place, is_missed in places:
        if place is None or not (is_missed or place.exists()):
            continue
        marker = read_marker(place)
        if marker is None or marker.database != settings["database"] or marker.offers > offers:
            found = f"{place} does not say what the database says: one of the two was put back"
            return warning(what, found, "start the wallet: it waits until that is safe")
    return ok(what, f"{offers} offers signed, and the counts agree")


# -- hub and chain --------------------------------------------------------------------------------


async def check_chain(chain: ChainPort, windows: Iterable[int]) -> list[Check]:
    """Whether the endpoint serves our chain, and how its newest block stands to our clock."""
    try:
        with trio.fail_after(CONNECT_SECONDS_MAX):
            await chain.check_identity()
            head = await chain.head()
    except ChainError as error:
        return [problem("chain", error.text, error.what_to_do), _no_clock()]
    except trio.TooSlowError:
        found = f"no answer in {CONNECT_SECONDS_MAX:g} s"
        return [problem("chain", found, "check the endpoint"), _no_clock()]
    rows = [ok("chain", f"block {head.block} of the deployment's chain")]
    behind = int(time.time()) - head.timestamp
    stale = min(windows, default=0) // STALE_DIVISOR
    remedy = "check the clock (NTP), and that the chain makes blocks"
    if stale and behind > stale:
        found = f"the newest block is {behind} s old: nothing is accepted on a view so old"
        rows.append(problem("clock and chain", found, remedy))
    elif abs(behind) > CLOCK_SECONDS_MAX:
        found = f"the newest block is {behind} s older than the clock"
        rows.append(warning("clock and chain", found, remedy))
    else:
        rows.append(ok("clock and chain", f"{behind} s apart"))
    return rows


def _no_clock() -> Check:
    return not_checked("clock and chain", "the chain was not read")


async def check_port(what: str, host: str, port: int, *, of: str = "hub") -> Check:
    """Whether something answers at an address; it is not spoken to, so that no session is ended."""
    try:
        with trio.fail_after(CONNECT_SECONDS_MAX):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        cause = str(error) or f"no answer in {CONNECT_SECONDS_MAX:g} s"
        return warning(
            what, f"nothing answers at {host} port {port} ({cause})", f"check that the {of} runs"
        )
    await trio.aclose_forcefully(stream)
    return ok(what, f"answers at {host} port {port}")


async def check_hub(settings: Settings) -> list[Check]:
    """Whether the hub answers, and shows the certificate that the settings trust."""
    return await _check_server("hub", "", settings.hub, settings.trust)


async def check_towers(settings: Settings) -> list[Check]:
    """The same of each watchtower on the wallet's list."""
    rows: list[Check] = []
    for place in settings.towers:
        rows += await _check_server("tower", f" {place.address}", place.address, place.trust)
    return rows


async def _check_server(of: str, name: str, at: HubAddress, trust: Trust | None) -> list[Check]:
    """Two rows, `of` and its certificate; `name` tells one of several from the others."""
    what = of + name
    certificate = f"certificate of {what}" if name else "certificate"
    try:
        with trio.fail_after(CONNECT_SECONDS_MAX):
            dialled = await dial(at.host, at.port, trust, of=of)
    except (OSError, trio.TooSlowError) as error:
        cause = str(error) or f"no answer in {CONNECT_SECONDS_MAX:g} s"
        found = f"nothing answers at {at} ({cause})"
        unknown = not_checked(certificate, f"the {of} does not answer")
        return [warning(what, found, f"check that the {of} runs"), unknown]
    except FarthingError as error:
        refused = problem(certificate, error.text, error.what_to_do)
        return [ok(what, f"answers at {at}"), refused]
    await trio.aclose_forcefully(dialled.stream)
    if trust is None:
        shown = not_checked(certificate, f"the {of} is on this machine: the wire has none")
    else:
        shown = ok(certificate, f"{fingerprint(dialled.certificate)}, which is trusted")
    return [ok(what, f"answers at {at}"), shown]


# -- what is at risk ------------------------------------------------------------------------------


def at_risk(channels: Iterable[Channel], unacknowledged_ucent: Mapping[bytes, int]) -> list[Check]:
    """What would be lost with this folder, or by a hub that lies, in µ¢ and words."""
    rows = []
    for channel in channels:
        what = f"at risk on {to_hex(channel.id)}"
        chain = channel.chain
        if chain is not None and chain.status is ChainStatus.CLOSED:
            rows.append(ok(what, "nothing: it is closed"))
            continue
        settled = 0 if chain is None else chain.settled_ucent[channel.side.other]
        unsettled = max(channel.received.total.transferred_ucent - settled, 0)
        found = [f"{unsettled} µ¢ received and not on the chain"]
        if unacknowledged_ucent.get(channel.id, 0):
            found.append(f"{unacknowledged_ucent[channel.id]} µ¢ sent and not acknowledged")
        for name, offer in (("close", channel.close), *_withdrawals(channel)):
            if offer is not None:
                found.append(f"a signed {name} under way")
        if channel.stopped is not None:
            text = f"it has stopped: {channel.stopped}"
            rows.append(problem(what, f"{', '.join(found)}; {text}", "close it without the hub"))
        elif chain is not None and chain.status is ChainStatus.CLOSING:
            text = f"{', '.join(found)}; it is closing"
            rows.append(warning(what, text, "keep the wallet running until the window is over"))
        else:
            rows.append(ok(what, ", ".join(found)))
    return rows


def _withdrawals(channel: Channel) -> list[tuple[str, object]]:
    return [("withdrawal", one) for one in channel.withdrawals]


# -- the wallet -----------------------------------------------------------------------------------


async def examine(
    folder: Folder, chain: ChainPort, *, password_file: Path, bundle: Path | None
) -> list[Check]:
    """All checks of one wallet; raises `FolderUnusable` where there is none."""
    settings = folder.settings()
    rows = [*_files(folder, password_file, bundle), *check_machine()]
    separator = settings.deployment.domain().separator()
    rows += await trio.to_thread.run_sync(lambda: list(check_ledger(folder.ledger_file, separator)))
    channels, unacknowledged = _known(folder)
    rows.append(_continuity(folder, settings))
    windows = [c.terms.challenge_seconds for c in channels]
    rows += await check_chain(chain, windows)
    rows += await check_hub(settings)
    rows += await check_towers(settings)
    return [*rows, *at_risk(channels, unacknowledged)]


def _files(folder: Folder, password_file: Path, bundle: Path | None) -> Iterator[Check]:
    yield check_mode("folder", folder.path)
    yield check_mode("settings", folder.settings_file)
    yield check_mode("keystore", folder.keystore_file)
    yield check_mode("password file", password_file, must_exist=False)
    yield check_mode("database file", folder.ledger_file, must_exist=False)
    for end in ("-wal", "-shm"):
        path = folder.ledger_file.with_name(folder.ledger_file.name + end)
        yield check_mode(f"database file {end}", path, must_exist=False)
    yield check_mode("count of offers", folder.continuity_file, must_exist=False)
    yield check_mode("control socket", folder.control_file, must_exist=False)
    yield check_mode("lock", folder.lock_file, must_exist=False)
    if bundle is None:
        yield not_checked("bundle", "none was named", "give --bundle FILE to check one")
    else:
        yield check_mode("bundle file", bundle)
        yield _bundle(folder, bundle)
    yield check_space("disk space", folder.path)
    yield check_writes("disk writes", folder.path)


def _bundle(folder: Folder, path: Path) -> Check:
    """Whether a bundle is sound and knows every channel."""
    try:
        known = read_bundle(path).ids()
        with peek(folder.ledger_file) as ledger:
            missing = [] if ledger is None else [c for c in ledger.channels() if c.id not in known]
    except FarthingError as error:
        return problem("bundle", error.text, error.what_to_do)
    if missing:
        found = f"{len(missing)} channels are not in it"
        return warning("bundle", found, "run `farthing wallet backup` again")
    return ok("bundle", f"it knows {len(known)} channels, and all of this wallet's")


def _known(folder: Folder) -> tuple[list[Channel], dict[bytes, int]]:
    """Channels and what of their payments is unacknowledged; nothing where they are unreadable."""
    try:
        with peek(folder.ledger_file) as ledger:
            if ledger is None:
                return [], {}
            channels = ledger.channels()
            return channels, {c.id: _unacknowledged(ledger, c) for c in channels}
    except FarthingError:  # which the check of the database reports
        return [], {}


def _unacknowledged(ledger: Peek, channel: Channel) -> int:
    rows = ledger.rows(
        "SELECT amount_ucent FROM payment WHERE channel=? AND direction=? AND nonce>?",
        (channel.id, SENT, channel.sent.acknowledged_nonce),
    )
    return sum(int(amount) for (amount,) in rows)


def _continuity(folder: Folder, settings: Settings) -> Check:
    try:
        signer = keystore.address(folder.keystore_file)
        elsewhere = folder.marker_elsewhere(settings, signer)
        return check_continuity(folder.ledger_file, folder.continuity_file, elsewhere)
    except FarthingError as error:
        return not_checked("continuity", error.text, error.what_to_do)


def is_fine(rows: Iterable[Check]) -> bool:
    """Whether nothing needs a person now: warnings are for soon, problems for now."""
    return all(row.verdict is not Verdict.PROBLEM for row in rows)


def records(rows: Iterable[Check]) -> list[dict[str, Any]]:
    """As plain values."""
    return [row.record() for row in rows]
