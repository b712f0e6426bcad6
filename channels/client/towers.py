"""The wallet's watchtowers: one connection each, the newest received vouchers handed over.

Rule: a voucher pays nobody but this wallet, so handing it over gives nothing away; what a tower
says changes nothing but the memory of what it holds, and only where it names what was deposited.
A tower that is away, full or lying never holds up the wallet.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import trio

from ..eip712 import Domain
from ..errors import FarthingError, InvariantBroken, LocalError, PeerError
from ..events import ChannelMessage
from ..ids import Address, ChannelId, address_to_hex, to_hex
from ..messages import Error, Message, VoucherDeposit, VoucherKept
from ..refusals import OutOfTurn
from ..signing import Signer
from ..state import Channel
from ..units import UCENT_PER_CENT
from ..voucher import Voucher
from .covered import (
    NONE_SHOWN,
    Kept,
    forget,
    load_kept,
    remember,
    tower_row,
    uncovered_ucent,
)
from .driver import Driver
from .evidence import load_shown, newest
from .folder import TOWERS_MAX, Folder, Settings, TowerPlace, write_settings
from .ledger import Ledger, LedgerUnusable
from .pulse import Notices, Pulse
from .session import first_of, run_session
from .tls import dial
from .wire import Wire

DEPOSIT_SECONDS: Final = 30.0
"""At most one deposit of a channel in this time: a payment a second would cost the tower a
signature check and a commit each, and what is at risk meanwhile is below `DEPOSIT_UCENT`."""

DEPOSIT_UCENT: Final = 10 * UCENT_PER_CENT
"""This much uncovered is deposited without waiting that long; a hub settles by the same amount."""

DEPOSIT_SECONDS_MIN: Final = 1.0
"""Even then: large payments may come many a second, and only the newest voucher counts."""

REFUSED_SECONDS: Final = 60.0
"""After a refusal: the tower is full or its chain lags, which a minute may change."""

ANSWER_SECONDS_MAX: Final = 60.0
"""A tower that acknowledges nothing for this long is dialled anew."""

HAND_OVER_SECONDS_MAX: Final = 3.0
"""What an orderly end waits for the towers: a commit takes milliseconds, and a person waits."""

CONNECT_SECONDS_MAX: Final = 10
BACKOFF_SECONDS_MIN: Final = 0.2
BACKOFF_SECONDS_MAX: Final = 60.0
CALM_SECONDS: Final = 5.0
"""A connection that lasted this long was a good one: the next try is soon again."""


class TowerUnreachable(PeerError):
    """Nothing answers at the tower's address."""

    code = "tower-unreachable"
    remedy = "check the address and that the watchtower runs; the wallet keeps trying"
    retryable = True


class TowerSilent(PeerError):
    """A deposit got no answer."""

    code = "tower-silent"
    remedy = "ask the watchtower's operator; the wallet keeps trying"
    retryable = True


class TowerKnown(LocalError):
    """A tower with that signer is on the list already."""

    code = "tower-known"
    remedy = "if it has moved or has another certificate, first: `farthing wallet tower remove`"


class TowerUnknown(LocalError):
    """No tower with that signer is on the list."""

    code = "tower-unknown"
    remedy = "see `farthing wallet tower list`"


class TowerIsTheHub(LocalError):
    """The hub's own signer was given as a tower's."""

    code = "tower-is-the-hub"
    remedy = "use a watchtower that somebody else runs: it guards against the hub"


class TooManyTowers(LocalError):
    """The list is full."""

    code = "too-many-towers"
    remedy = "remove one that you do not need"


def with_tower(settings: Settings, place: TowerPlace) -> Settings:
    """Add a tower; raises `TowerIsTheHub`, `TowerKnown`, `TooManyTowers`."""
    if place.signer == settings.hub_signer:
        raise TowerIsTheHub(f"{address_to_hex(place.signer)} is the hub's signer")
    if any(known.signer == place.signer for known in settings.towers):
        raise TowerKnown(f"the tower {address_to_hex(place.signer)} is on the list")
    if len(settings.towers) >= TOWERS_MAX:
        raise TooManyTowers(f"the wallet has {TOWERS_MAX} towers")
    return replace(settings, towers=(*settings.towers, place))


def without_tower(settings: Settings, signer: Address) -> Settings:
    """Remove a tower; raises `TowerUnknown`."""
    left = tuple(known for known in settings.towers if known.signer != signer)
    if len(left) == len(settings.towers):
        raise TowerUnknown(f"there is no tower {address_to_hex(signer)}")
    return replace(settings, towers=left)


class Towers:
    """All towers of a running wallet; each has a task of its own."""

    def __init__(
        self,
        folder: Folder,
        signer: Signer,
        driver: Driver,
        ledger: Ledger,
        pulse: Pulse,
        notices: Notices,
    ) -> None:
        self._folder = folder
        self._signer = signer
        self._driver = driver
        self._pulse = pulse
        self._notices = notices
        settings = folder.settings()
        self._domain = settings.deployment.domain()
        self._links: dict[Address, Link] = {}
        self._writing = trio.Lock()
        self._shown = load_shown(ledger)
        kept = load_kept(ledger)
        for place in settings.towers:
            self._hold(place, kept.get(place.signer, {}))

    def _hold(self, place: TowerPlace, kept: dict[ChannelId, Kept]) -> Link:
        link = Link(place, kept, self._domain, self._signer, self._driver)
        link.shown = self._shown
        link.attach(self._pulse, self._notices)
        self._links[place.signer] = link
        return link

    def rows(self) -> list[dict[str, Any]]:
        """Every tower as plain values; see `tower_row`."""
        return [link.row() for link in self._links.values()]

    async def add(self, place: TowerPlace) -> dict[str, Any]:
        """Put a tower on the list and connect; raises what `with_tower` raises."""
        await self._change(lambda settings: with_tower(settings, place))
        link = self._hold(place, {})
        self._pulse.beat()
        return link.row()

    async def remove(self, signer: Address) -> None:
        """Take a tower off the list and disconnect; raises `TowerUnknown`."""
        await self._change(lambda settings: without_tower(settings, signer))
        self._links.pop(signer).scope.cancel()
        self._driver.store([forget(signer)])

    async def _change(self, change: Callable[[Settings], Settings]) -> None:
        async with self._writing:
            settings = change(self._folder.settings())
            await trio.to_thread.run_sync(write_settings, self._folder, settings)

    async def run(self) -> None:
        """Keep a connection to each tower, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                for link in self._links.values():
                    if not link.started:
                        link.started = True
                        nursery.start_soon(link.run)
                await self._pulse.wait()

    async def hand_over(self) -> None:
        """Deposit what is uncovered with every tower that can be reached, at an orderly end."""
        links = list(self._links.values())
        for link in links:
            link.hurried = True
        self._pulse.beat()
        with trio.move_on_after(HAND_OVER_SECONDS_MAX):
            await self._pulse.until(lambda: not any(link.has_more for link in links))


class Link:
    """One tower's connection: dials, deposits, takes acknowledgements; a `session.Handler`."""

    def __init__(
        self,
        place: TowerPlace,
        kept: dict[ChannelId, Kept],
        domain: Domain,
        signer: Signer,
        driver: Driver,
    ) -> None:
        self.place = place
        self.scope = trio.CancelScope()
        self.started = False
        self.connected = False
        self.hurried = False
        """Whether everything uncovered is to be deposited now: the wallet is about to end."""
        self.trouble: FarthingError | None = None
        self._domain = domain
        self._signer = signer
        self._driver = driver
        self.shown: Mapping[ChannelId, Voucher] = NONE_SHOWN
        """What the hub has shown to a recovered wallet: deposited like what was accepted."""
        self._kept = kept
        self._confirmed: set[ChannelId] = set()
        """What the tower has acknowledged on this connection: it may have lost its database."""
        self._sent: dict[ChannelId, VoucherDeposit] = {}
        self._sent_at: dict[ChannelId, float] = {}
        self._refused_at: dict[ChannelId, float] = {}

    def attach(self, pulse: Pulse, notices: Notices) -> None:
        """Give it whom it wakes and tells."""
        self._pulse = pulse
        self._notices = notices

    def row(self) -> dict[str, Any]:
        """As plain values."""
        channels = self._driver.channels.values()
        return tower_row(
            self.place,
            self._kept,
            channels,
            self.shown,
            connected=self.connected,
            trouble=self.trouble,
        )

    @property
    def has_more(self) -> bool:
        """Whether a deposit is to be made or acknowledged, and may be: no trouble is known."""
        return (self.connected or self.trouble is None) and any(
            self._to_deposit_ucent(channel) > 0 and channel.id not in self._refused_at
            for channel in self._driver.channels.values()
        )

    def _to_deposit_ucent(self, channel: Channel) -> int:
        kept = self._kept.get(channel.id) if channel.id in self._confirmed else None
        return uncovered_ucent(channel, kept, self.shown)

    # -- connecting -------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, deposit, and connect again until cancelled or removed from the list."""
        delay_seconds = BACKOFF_SECONDS_MIN
        with self.scope:
            while True:
                started = trio.current_time()
                try:
                    await self._once()
                except FarthingError as error:
                    if isinstance(error, InvariantBroken | LedgerUnusable):
                        raise
                    self._lost(error)
                if trio.current_time() - started > CALM_SECONDS:
                    delay_seconds = BACKOFF_SECONDS_MIN
                await trio.sleep(delay_seconds * (0.5 + random.random() / 2))  # noqa: S311 - no secret
                delay_seconds = min(2 * delay_seconds, BACKOFF_SECONDS_MAX)

    async def _once(self) -> None:
        wire = await self._dial()
        try:
            await wire.dial(self._domain, self._signer, self.place.signer)
            self.connected, self.trouble = True, None
            self._notices.tell("tower-connected", f"connected to the tower at {self.place.address}")
            self._pulse.beat()
            await self._serve(wire)
        finally:
            self.connected = False
            self._confirmed.clear()
            self._sent.clear()
            self._sent_at.clear()
            self._refused_at.clear()
            await wire.finish()
            self._pulse.beat()

    async def _serve(self, wire: Wire) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deposit_forever, wire)
                await run_session(wire, self._driver, self)
        except* FarthingError as group:
            raise first_of(group) from None

    async def _dial(self) -> Wire:
        place = self.place.address
        try:
            with trio.fail_after(CONNECT_SECONDS_MAX):
                dialled = await dial(place.host, place.port, self.place.trust, of="tower")
        except (OSError, trio.TooSlowError) as error:
            cause = str(error) or f"no answer in {CONNECT_SECONDS_MAX} s"
            raise TowerUnreachable(f"the tower at {place} cannot be reached ({cause})") from None
        return Wire(dialled.stream, certificate=dialled.certificate)

    def _lost(self, error: FarthingError) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            self._notices.tell("tower-disconnected", str(error), code=error.code)
        self.trouble = error
        self._pulse.beat()

    # -- depositing -------------------------------------------------------------------------

    async def _deposit_forever(self, wire: Wire) -> None:
        while True:
            pause_seconds = self._deposit_due(wire)
            with trio.move_on_after(pause_seconds):
                await self._pulse.wait()

    def _deposit_due(self, wire: Wire) -> float:
        """Deposit what is due now; how long to wait for the rest. Raises `PeerError`."""
        pauses = [self._deposit(wire, c) for c in list(self._driver.channels.values())]
        return min(pauses, default=float("inf"))

    def _deposit(self, wire: Wire, channel: Channel) -> float:
        uncovered = self._to_deposit_ucent(channel)
        if uncovered == 0:
            return float("inf")
        due = self._due_at(channel.id, uncovered)
        now = trio.current_time()
        if now < due:
            return due - now
        if channel.id in self._sent:
            raise TowerSilent(f"a deposit was not answered within {ANSWER_SECONDS_MAX:g} s")
        message = _deposit_of(channel, self.shown)
        wire.send(message)
        self._refused_at.pop(channel.id, None)
        self._sent[channel.id], self._sent_at[channel.id] = message, now
        return ANSWER_SECONDS_MAX

    def _due_at(self, channel: ChannelId, uncovered: int) -> float:
        """When something is to be done for a channel: a deposit, or giving up on an answer."""
        sent_at = self._sent_at.get(channel, float("-inf"))
        if channel in self._sent:
            return sent_at + ANSWER_SECONDS_MAX
        if channel in self._refused_at:
            return self._refused_at[channel] + REFUSED_SECONDS
        if self.hurried:
            return sent_at
        return sent_at + (DEPOSIT_SECONDS_MIN if uncovered >= DEPOSIT_UCENT else DEPOSIT_SECONDS)

    # -- messages ---------------------------------------------------------------------------

    def on_message(self, wire: Wire, message: Message) -> None:
        """Take an acknowledgement or a refusal; raises `OutOfTurn`."""
        del wire
        match message:
            case VoucherKept():
                self._on_kept(message)
            case Error():
                self._on_error(message)
            case _:
                raise OutOfTurn(f"{type(message).__name__} is nothing a wallet takes from a tower")

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Refuse what belongs between the parties of a channel; raises `OutOfTurn`."""
        self.on_message(wire, message)

    def _on_kept(self, message: VoucherKept) -> None:
        """Believe the tower only where it names what we deposited and it has not answered yet."""
        sent = self._sent.get(message.channel)
        if sent is None or (sent.nonce, sent.transferred_ucent) != (
            message.nonce,
            message.transferred_ucent,
        ):
            raise OutOfTurn("the tower acknowledges a voucher that was not deposited")
        del self._sent[message.channel]
        kept = Kept(
            nonce=message.nonce, transferred_ucent=message.transferred_ucent, at=int(time.time())
        )
        self._kept[message.channel] = kept
        self._confirmed.add(message.channel)
        self._driver.store([remember(self.place.signer, message.channel, kept)])
        self._pulse.beat()

    def _on_error(self, message: Error) -> None:
        channel = ChannelId(message.channel)
        text = f"the tower says: {message.text}: {message.what_to_do}"
        if self._sent.pop(channel, None) is not None:
            self._refused_at[channel] = trio.current_time()
            self._notices.tell("tower-refused", text, code=message.code, channel=to_hex(channel))
            self._pulse.beat()
        elif not message.channel:
            self._notices.tell("tower-error", text, code=message.code)


def _deposit_of(channel: Channel, shown: Mapping[ChannelId, Voucher]) -> VoucherDeposit:
    """The newest voucher of a channel that was received or shown, with its terms."""
    voucher, terms = newest(channel, shown), channel.terms
    if voucher is None:
        raise InvariantBroken("a lane with a total has no voucher")
    return VoucherDeposit(
        channel=channel.id,
        account_a=terms.account_a,
        signer_a=terms.signer_a,
        account_b=terms.account_b,
        signer_b=terms.signer_b,
        challenge_seconds=terms.challenge_seconds,
        challenge_blocks=terms.challenge_blocks,
        sequence=terms.sequence,
        nonce=voucher.total.nonce,
        transferred_ucent=voucher.total.transferred_ucent,
        history=voucher.total.history,
        conditions=voucher.conditions,
        signature=voucher.signature,
    )
