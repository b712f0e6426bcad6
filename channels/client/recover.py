"""A wallet's folder made again: from its key, its bundle, its hub and the chain.

Rule: nothing is signed here and no folder that exists is touched. What is made starts in doubt, for
it cannot show that it is the newest there was (rule 5); its lanes come from the hub when it runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from ..errors import ChainError, FarthingError, LocalError
from ..ids import Address, ChannelId, address_to_hex, to_hex
from ..messages import ChannelTerms, Reestablish, SignedTotal
from ..signing import BadSignature, Signer, verify_voucher
from ..state import DOUBT_UNKNOWN, ChainStatus, ChainView, Channel
from ..terms import Side, Terms, UnsafeTerms
from ..voucher import LaneTotal, UnverifiedVoucher, Voucher
from . import keystore
from .adoption import check_terms, terms_of
from .bundle import Bundle
from .connection import open_wire
from .durable_file import make_folder, sync_folder, write_whole
from .evidence import keep_shown
from .folder import Folder, FolderExists, FolderUnusable, Settings, write_settings
from .ledger import Ledger
from .logs import OpenedLog
from .ports import ChainPort
from .schema import SCHEMA
from .wire import Wire

SHOW_SECONDS_MAX: Final = 5.0
"""A hub shows what it holds at once; of a channel that has stopped it shows nothing."""
QUIET_SECONDS: Final = 1.0
"""A hub that has introduced a channel introduces the next one within this."""
CHANNELS_MAX: Final = 1024
"""Channels of one signer in all its life; more are a chain's or a hub's lie."""


class OtherKey(LocalError):
    """The keystore is not the wallet's."""

    code = "other-key"
    remedy = "give the keystore of this wallet: its address is in the bundle"


class NoKeystore(LocalError):
    """There is no key to recover with."""

    code = "no-keystore"
    remedy = "give --keystore FILE; without its key nobody can use the wallet's money"


class OpenedPort(Protocol):
    """Reads which channels there are; raises `ChainError`."""

    async def channels_of(self, account: Address) -> tuple[OpenedLog, ...]:
        """All confirmed channels that ever had this account as a party."""


class RecoveryChain(ChainPort, OpenedPort, Protocol):
    """What a recovery reads of the chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the hub holds of a channel, each under its payer's verified signature.

    None where nothing was paid, or what was shown is not believed: `is_whole` tells.
    """

    ours: Voucher | None = None
    theirs: Voucher | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAnswer:
    """What a hub said of our channels, and in words what of it is not believed."""

    introduced: dict[ChannelId, Terms]
    shown: dict[ChannelId, Shown]
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A channel, and where it was found: `view` is the chain's, `shown` the hub's; None unasked."""

    channel: ChannelId
    terms: Terms
    in_bundle: bool
    view: ChainView | None
    shown: Shown | None
    problem: str = ""

    @property
    def status(self) -> str:
        """What the chain says of it, in a word."""
        return "unknown" if self.view is None else self.view.status.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was found, and why the hub or the chain did not answer, or is not believed."""

    found: tuple[Found, ...]
    chain_trouble: str = ""
    hub_trouble: str = ""


# -- asking ---------------------------------------------------------------------------------------


async def look(
    bundle: Bundle, signer: Signer, chain: RecoveryChain, *, offline: bool = False
) -> Recovery:
    """Ask the chain and, unless `offline`, the hub; changes nothing, raises nothing of theirs."""
    settings = bundle.settings
    known = {settings.deployment.channel_id(terms): terms for terms in bundle.channels}
    views: dict[ChannelId, ChainView] = {}
    chain_trouble = hub_trouble = ""
    terms_by_id = dict(known)
    try:
        terms_by_id |= await _opened(chain, settings, signer.address)
        views = await _views(chain, terms_by_id)
    except ChainError as error:
        chain_trouble = str(error)
    shown: dict[ChannelId, Shown] = {}
    if not offline:
        try:
            answer = await ask_hub(settings, signer)
            terms_by_id |= answer.introduced
            shown, hub_trouble = answer.shown, "; ".join(answer.problems)
        except FarthingError as error:
            hub_trouble = str(error)
    return Recovery(
        found=tuple(
            Found(
                channel=channel,
                terms=terms,
                in_bundle=channel in known,
                view=views.get(channel),
                shown=shown.get(channel),
                problem=_problem(terms, settings, signer.address),
            )
            for channel, terms in sorted(terms_by_id.items(), key=lambda one: one[1].sequence)
        ),
        chain_trouble=chain_trouble,
        hub_trouble=hub_trouble,
    )


async def _opened(
    chain: RecoveryChain, settings: Settings, signer: Address
) -> dict[ChannelId, Terms]:
    """The channels of our account and signer that the chain's logs name; raises `ChainError`."""
    await chain.check_identity()
    logs = await chain.channels_of(settings.account)
    ours = [log for log in logs if log.terms.signer_b == signer]
    return {
        log.channel: log.terms
        for log in ours[-CHANNELS_MAX:]
        if log.channel == settings.deployment.channel_id(log.terms)
    }


async def _views(chain: RecoveryChain, channels: Iterable[ChannelId]) -> dict[ChannelId, ChainView]:
    head = await chain.head()
    return {channel: await chain.channel_state(channel, head) for channel in channels}


def _problem(terms: Terms, settings: Settings, signer: Address) -> str:
    """Why the wallet would not sign or accept money on a channel; it can close it all the same."""
    try:
        check_terms(terms, settings, signer)
    except UnsafeTerms as error:
        return error.text
    return ""


async def ask_hub(settings: Settings, signer: Signer) -> HubAnswer:
    """Let the hub introduce our channels and show its newest vouchers of them.

    Only what is under our own signature and the hub's is believed; what is not takes nothing from
    the rest. Raises a `PeerError` where there is no answer at all.
    """
    wire = await open_wire(settings)
    try:
        await wire.dial(settings.deployment.domain(), signer, settings.hub_signer)
        return await _introduced(wire, settings, signer.address)
    finally:
        await wire.finish()


async def _introduced(wire: Wire, settings: Settings, signer: Address) -> HubAnswer:
    answer = HubAnswer(introduced={}, shown={}, problems=[])
    introduced = answer.introduced
    quiet = trio.current_time() + SHOW_SECONDS_MAX
    with trio.move_on_after(SHOW_SECONDS_MAX):
        while trio.current_time() < quiet:
            with trio.move_on_after(quiet - trio.current_time()) as waiting:
                for message in await wire.receive():
                    match message:
                        case ChannelTerms() if len(introduced) < CHANNELS_MAX:
                            terms = terms_of(message)
                            if terms.signer_b == signer and terms.account_b == settings.account:
                                introduced[settings.deployment.channel_id(terms)] = terms
                        case Reestablish() if message.channel in introduced:
                            channel = ChannelId(message.channel)
                            _take(answer, settings, channel, message)
                        case _:
                            continue
            if waiting.cancelled_caught:
                break
            if introduced.keys() == answer.shown.keys():
                quiet = trio.current_time() + QUIET_SECONDS
    return answer


def _take(answer: HubAnswer, settings: Settings, channel: ChannelId, message: Reestablish) -> None:
    """Keep of what is shown each voucher that its payer has signed, and name the other ones.

    A channel may be shown again on the same connection: the vouchers that pay the most are kept.
    """
    terms = answer.introduced[channel]
    separator = settings.deployment.domain().separator()

    def verified(total: SignedTotal | None, payer: Side, known: Voucher | None) -> Voucher | None:
        if total is None:
            return known
        unverified = UnverifiedVoucher(
            channel=ChannelId(message.channel),
            payer=terms.account(payer),
            total=total.total,
            conditions=total.conditions,
            signature=total.signature,
        )
        try:
            voucher = verify_voucher(separator, unverified, terms.signer(payer))
        except BadSignature as error:
            whose = "our own" if payer is Side.B else "the hub's"
            answer.problems.append(
                f"what the hub shows of {whose} payments on channel {to_hex(channel)} is not"
                f" believed: {error.text}"
            )
            return known
        return max(voucher, known or voucher, key=lambda one: one.total.transferred_ucent)

    known, problems = answer.shown.get(channel, Shown()), len(answer.problems)
    ours = verified(message.received, Side.B, known.ours)
    theirs = verified(message.sent, Side.A, known.theirs)
    is_whole = known.is_whole and len(answer.problems) == problems
    answer.shown[channel] = Shown(ours=ours, theirs=theirs, is_whole=is_whole)


# -- what it comes to -----------------------------------------------------------------------------


def report(found: Found) -> dict[str, object]:
    """One row for people and programs: what was found where, in µ¢, and what is at risk."""
    view, shown = found.view, found.shown
    ours = None if shown is None else _total(shown.ours, shown)
    theirs = None if shown is None else _total(shown.theirs, shown)
    places = [
        name
        for name, is_there in (
            ("bundle", found.in_bundle),
            ("chain", view is not None and view.status is not ChainStatus.NEVER),
            ("hub", shown is not None),
        )
        if is_there
    ]
    return {
        "channel": to_hex(found.channel),
        "found": places,
        "status": found.status,
        "deposit_ucent": None if view is None else view.deposit_ucent[Side.B],
        "withdrawn_ucent": None if view is None else view.withdrawn_ucent[Side.B],
        "settled_received_ucent": None if view is None else view.settled_ucent[Side.A],
        "settled_sent_ucent": None if view is None else view.settled_ucent[Side.B],
        "received_ucent": None if theirs is None else theirs.transferred_ucent,
        "received_payments": None if theirs is None else theirs.nonce,
        "sent_ucent": None if ours is None else ours.transferred_ucent,
        "sent_payments": None if ours is None else ours.nonce,
        "at_risk": at_risk(found),
    }


def _total(voucher: Voucher | None, shown: Shown) -> LaneTotal | None:
    """A lane's total; of one that is not shown none, or what nobody can say."""
    if voucher is not None:
        return voucher.total
    return LaneTotal() if shown.is_whole else None


def at_risk(found: Found) -> str:
    """What is lost, and by whose lie, in words."""
    view, shown = found.view, found.shown
    if view is not None and view.status is ChainStatus.CLOSED:
        return "nothing: the channel is closed and was paid out"
    if found.problem:
        return f"it is used for nothing but closing: {found.problem}"
    if view is None:
        return "not known: the chain was not read"
    if shown is None:
        return (
            f"the chain holds {view.settled_ucent[Side.A]} µ¢ of received payments; what was"
            " received beyond that is known to the hub and a tower alone, and lost if they keep it"
            " back"
        )
    theirs = 0 if shown.theirs is None else shown.theirs.total.transferred_ucent
    unsettled = max(theirs - view.settled_ucent[Side.A], 0)
    if not shown.is_whole:
        return (
            f"{unsettled} µ¢ of received payments are not on the chain yet; the hub has shown what"
            " is not signed, so that it may hold more: what it keeps back is lost unless a tower"
            " holds it"
        )
    return (
        f"{unsettled} µ¢ of received payments are not on the chain yet; if the hub has shown less"
        " than it paid, the rest is lost unless a tower holds it"
    )


# -- making the folder ----------------------------------------------------------------------------


async def recover(
    path: Path,
    bundle: Bundle,
    password: str,
    chain: RecoveryChain,
    *,
    keystore_file: Path | None = None,
    offline: bool = False,
) -> Recovery:
    """Make the folder of a lost wallet; it appears whole or not at all.

    Raises `FolderExists`, `NoKeystore`, `OtherKey`, `FolderUnusable` and what `keystore.unlock`
    raises. A hub or chain that does not answer is in what is returned.
    """
    key = _key_text(bundle, keystore_file)
    with _drafted(path) as draft:
        signer = await trio.to_thread.run_sync(_take_key, draft, key, password)
        if signer.address != bundle.signer:
            raise OtherKey(
                f"the keystore is of {address_to_hex(signer.address)}, the bundle of"
                f" {address_to_hex(bundle.signer)}"
            )
        recovery = await look(bundle, signer, chain, offline=offline)
        await trio.to_thread.run_sync(_fill, draft, bundle.settings, recovery)
    return recovery


def take_up(
    path: Path, password: str, keystore_file: Path, settings: Callable[[Address], Settings]
) -> Folder:
    """Make a folder for a key that was used before, with nothing but the key; raises as `recover`.

    It starts in doubt like every wallet that cannot show what it signed.
    """
    key = _read_key(keystore_file)
    with _drafted(path) as draft:
        signer = _take_key(draft, key, password)
        _fill(draft, settings(signer.address), Recovery(found=()))
    return Folder(path=path)


def _to_hold(recovery: Recovery) -> Iterator[Channel]:
    """Channels that the chain confirms, or that only the bundle can name; all of them ours."""
    for found in recovery.found:
        view = found.view
        confirmed = view is not None and view.status is not ChainStatus.NEVER
        if confirmed or (view is None and found.in_bundle):
            yield Channel(id=found.channel, terms=found.terms, side=Side.B, chain=view)


def _key_text(bundle: Bundle, file: Path | None) -> str:
    if file is not None:
        return _read_key(file)
    if bundle.keystore is None:
        raise NoKeystore("the bundle holds no keystore and none was given")
    return bundle.keystore


def _read_key(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise keystore.KeystoreUnreadable(file, error) from None
    except UnicodeDecodeError:
        raise keystore.MalformedKeystore(file, "it is not UTF-8 text") from None


@contextlib.contextmanager
def _drafted(path: Path) -> Iterator[Folder]:
    """A folder beside the wanted one, which takes its name when all of it is on disk."""
    if (path.is_dir() and any(path.iterdir())) or (os.path.lexists(path) and not path.is_dir()):
        raise FolderExists(
            f"{path} exists and is not empty",
            remedy="give a new folder: this one may hold the only key, or the newest database",
        )
    draft: Path | None = None
    try:
        make_folder(path.parent)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))  # mode 0700
        yield Folder(path=draft)
        sync_folder(draft)
        draft.rename(path)  # refused where a folder with something in it has come meanwhile
        draft = None
        sync_folder(path.parent)
    except OSError as error:
        raise FolderUnusable(f"the folder {path} cannot be made ({error.strerror})") from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _take_key(draft: Folder, key: str, password: str) -> Signer:
    write_whole(draft.keystore_file, key.encode())
    return keystore.unlock(draft.keystore_file, password)


def _fill(draft: Folder, settings: Settings, recovery: Recovery) -> None:
    """Write the ledger, in doubt and with what the hub has shown, and the settings."""
    shown = (one.shown.theirs for one in recovery.found if one.shown is not None)
    ledger = Ledger(draft.ledger_file, schema=SCHEMA)
    try:
        doubt = ("INSERT INTO setting VALUES (?, ?)", ("doubt", str(DOUBT_UNKNOWN)))
        kept = [keep_shown(voucher) for voucher in shown if voucher is not None]
        ledger.commit(_to_hold(recovery), (), [doubt, *kept])
    finally:
        ledger.close()
    write_settings(draft, settings)
