"""Takes deposits from connected wallets: checks, keeps, and acknowledges after the commit.

Rule: a stranger costs one signature check, and one reading of the chain while few wait for
theirs; of a channel that the chain does not know nothing is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import trio

from ...channels.client.wire import Wire
from ...channels.deployment import Deployment
from ...channels.errors import ChainError, FarthingError, PeerError
from ...channels.events import ChannelMessage, Received
from ...channels.ids import Address, ChannelId, to_hex
from ...channels.messages import Error, Message, VoucherDeposit, VoucherKept
from ...channels.refusals import OutOfTurn
from ...channels.state import STALE_DIVISOR, ChainStatus, ChainView
from ..chain import Web3Chain
from ..desk import ChainDesk
from .book import Book
from .deposits import Deposit, check_deposit
from .store import Held

CHANNELS_OF_A_DEPOSITOR_MAX = 16
"""As many as a wallet holds with one hub, closing ones included."""

NEWCOMERS_MAX = 256
"""Deposits of channels not held yet, which wait for a reading of the chain; each is 0.5 KB."""

BURST_MAX = 64
BURST_PER_SECOND = 16
"""Messages of one connection: every channel of a wallet once a second, and four seconds at once
after a reconnection. A signature check takes 30 µs: a thousand such wallets half a core."""


class TooManyDeposits(PeerError):
    """A connection that sends more than any wallet has to say."""

    code = "too-many-deposits"
    remedy = f"send at most {BURST_PER_SECOND} a second; only the newest voucher counts"
    retryable = True


class NotKept(PeerError):
    """A deposit that fits, and is not kept; the connection goes on."""


class OlderVoucher(NotKept):
    """The lane's held voucher promises as much or more."""

    code = "older-voucher"
    remedy = "nothing is lost: what is held pays more; deposit the newest voucher"


class WatchtowerFull(NotKept):
    """The watchtower, or this depositor's share of it, is full."""

    code = "watchtower-full"
    remedy = "use another watchtower, or ask this one's operator for more channels"
    retryable = True


class ChannelNotOpen(NotKept):
    """The chain that the watchtower reads does not show the channel as open."""

    code = "channel-not-open"
    remedy = "deposit again once a confirmed block shows its opening; an ended one needs no tower"
    retryable = True


class WindowTooShort(NotKept):
    """By the time a close is confirmed for this watchtower, little of its window is left."""

    code = "window-too-short"
    remedy = "open a channel with a longer window, or use a watchtower with fewer confirmations"


class WatchtowerBusy(NotKept):
    """More new channels wait to be looked up than may."""

    code = "watchtower-busy"
    remedy = "deposit again in a minute"
    retryable = True


@dataclass(slots=True)
class _Connected:
    """A connection's allowance of messages, and how many of its deposits wait for the chain."""

    allowance: float
    at: float
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newcomer:
    wire: Wire
    depositor: Address
    deposit: Deposit


class NoChannels:
    """Stands where a hub's session has its driver: a watchtower speaks for no channel."""

    def linked(self, channel: ChannelId, wire: Wire) -> bool:
        """Never: see `session.Channels`."""
        del channel, wire
        return False

    def receive(self, events: Iterable[tuple[ChannelId, Received]]) -> None:
        """Refuse, as no channel is ever linked; raises `OutOfTurn`."""
        raise OutOfTurn(f"a watchtower takes part in no channel: {list(events)!r:.80}")

    def unlink(self, wire: Wire) -> None:
        """Do nothing: nothing was linked."""


class Reception:
    """Serves every authenticated connection; see `server.Host`."""

    def __init__(
        self,
        book: Book,
        desk: ChainDesk,
        deployment: Deployment,
        *,
        channels_max: int,
        confirmations: int,
    ) -> None:
        self._book = book
        self._desk = desk
        self._deployment = deployment
        self._separator = deployment.domain().separator()
        self._channels_max = channels_max
        self._confirmations = confirmations
        self._wires: dict[Address, Wire] = {}
        self._connected: dict[Wire, _Connected] = {}
        self._enter, self._newcomers = trio.open_memory_channel[_Newcomer](NEWCOMERS_MAX)
        self.on_new: Callable[[ChannelId], None] = lambda _: None
        """Called with each channel that is held from now on."""
        self.on_grown: Callable[[], None] = lambda: None
        """Called when a voucher has come that may answer a close."""

    @property
    def connected(self) -> set[Address]:
        """The signers of all connections."""
        return set(self._wires)

    def is_member(self, signer: Address) -> bool:
        """Whether something of a wallet is held here: who has nothing here yet is a guest."""
        return self._book.open_lanes(signer) > 0

    def is_connected(self, signer: Address) -> bool:
        """Whether a wallet has a connection now."""
        return signer in self._wires

    # -- connections ------------------------------------------------------------------------

    def on_connected(self, wire: Wire, signer: Address) -> None:
        """Serve a wallet on its newest connection; an older one of the same key ends."""
        older, self._wires[signer] = self._wires.get(signer), wire
        self._connected[wire] = _Connected(allowance=BURST_MAX, at=trio.current_time())
        if older is not None:
            text = "another connection with this wallet's key took over"
            self._say(older, Error(code="replaced", channel=b"", text=text, what_to_do=""))
            older.close_soon()
        self._book.note_seen(signer, _now())

    def on_disconnected(self, wire: Wire, signer: Address) -> None:
        """Forget a connection."""
        del self._connected[wire]
        if self._wires.get(signer) is wire:
            del self._wires[signer]
        self._book.note_seen(signer, _now())

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Refuse what belongs between the parties of a channel; raises `OutOfTurn`."""
        self.on_message(wire, message)

    def on_message(self, wire: Wire, message: Message) -> None:
        """Take a deposit; raises the `PeerError` that ends the connection."""
        self._count(wire)
        match message:
            case VoucherDeposit():
                self._on_deposit(wire, message)
            case Error():
                pass  # a wallet's last word; the connection's end follows by itself
            case _:
                raise OutOfTurn(f"{type(message).__name__} is nothing a watchtower takes")

    def _count(self, wire: Wire) -> None:
        here, now = self._connected[wire], trio.current_time()
        gained = (now - here.at) * BURST_PER_SECOND
        here.allowance, here.at = min(BURST_MAX, here.allowance + gained) - 1, now
        if here.allowance < 0:
            raise TooManyDeposits(f"over {BURST_MAX} messages came at once")

    # -- deposits ---------------------------------------------------------------------------

    def _on_deposit(self, wire: Wire, message: VoucherDeposit) -> None:
        depositor = wire.peer
        if depositor is None:
            raise OutOfTurn("a deposit came before the connection was authenticated")
        deposit = check_deposit(message, depositor, self._deployment, self._separator)
        self._book.note_seen(depositor, _now())
        held = self._book.get(deposit.lane)
        newcomer = _Newcomer(wire=wire, depositor=depositor, deposit=deposit)
        try:
            if held is None:
                self._queue(newcomer)
            else:
                self._keep(newcomer, held.view)
        except NotKept as error:
            self._refuse(wire, deposit, error)

    def _queue(self, newcomer: _Newcomer) -> None:
        """Let a deposit of a channel that is not held wait for a reading of the chain."""
        here, terms = self._connected[newcomer.wire], newcomer.deposit.terms
        if self._confirmations > terms.challenge_blocks // STALE_DIVISOR:
            raise WindowTooShort(f"a window of {terms.challenge_blocks} blocks is too short here")
        self._check_room(newcomer)
        if here.waiting >= CHANNELS_OF_A_DEPOSITOR_MAX:
            raise WatchtowerBusy(f"{here.waiting} deposits of this connection wait already")
        try:
            self._enter.send_nowait(newcomer)
        except trio.WouldBlock:
            raise WatchtowerBusy(f"{NEWCOMERS_MAX} deposits wait already") from None
        here.waiting += 1

    def _check_room(self, newcomer: _Newcomer) -> None:
        if self._book.get(newcomer.deposit.lane) is not None:
            return
        if len(self._book) >= self._channels_max and not self._book.has_ended:
            raise WatchtowerFull(f"this watchtower holds {self._channels_max} channels")
        if self._book.open_lanes(newcomer.depositor) >= CHANNELS_OF_A_DEPOSITOR_MAX:
            raise WatchtowerFull(f"you have {CHANNELS_OF_A_DEPOSITOR_MAX} channels here")

    async def run(self) -> None:
        """Look up the channels of new deposits, one after the other, until cancelled."""
        async for newcomer in self._newcomers:
            here = self._connected.get(newcomer.wire)
            if here is None:
                continue  # the wallet has gone, and deposits again when it is back
            here.waiting -= 1
            try:
                view = await self._desk.read(partial(_view, newcomer.deposit.lane[0]))
                self._check_room(newcomer)
                self._keep(newcomer, view)
            except (NotKept, ChainError) as error:
                self._refuse(newcomer.wire, newcomer.deposit, error)

    def _keep(self, newcomer: _Newcomer, view: ChainView) -> None:
        """Keep a verified deposit of a channel that the chain shows; raises `NotKept`."""
        deposit, voucher = newcomer.deposit, newcomer.deposit.voucher
        if view.status not in (ChainStatus.OPEN, ChainStatus.CLOSING):
            raise ChannelNotOpen(f"channel {to_hex(voucher.channel)} is not open on the chain")
        is_new = self._book.get(deposit.lane) is None
        if is_new and len(self._book) >= self._channels_max:
            self._book.forget_longest_ended()
        new = Held(
            terms=deposit.terms,
            payer=deposit.payer,
            depositor=newcomer.depositor,
            voucher=voucher,
            view=view,
        )
        if not self._book.keep(new):
            raise OlderVoucher(
                f"another voucher of {new.transferred_ucent} µ¢ or more is held already"
            )
        self._book.note_seen(newcomer.depositor, _now())
        self._book.when_durable(
            partial(
                self._say,
                newcomer.wire,
                VoucherKept(
                    channel=voucher.channel,
                    nonce=voucher.total.nonce,
                    transferred_ucent=voucher.total.transferred_ucent,
                ),
            )
        )
        if is_new:
            self.on_new(voucher.channel)
        self.on_grown()

    def _refuse(self, wire: Wire, deposit: Deposit, error: FarthingError) -> None:
        self._say(
            wire,
            Error(
                code=error.code,
                channel=deposit.voucher.channel,
                text=error.text,
                what_to_do=error.what_to_do,
            ),
        )

    def _say(self, wire: Wire, message: Message) -> None:
        """Answer a wallet that still listens; one that does not read is left."""
        try:
            wire.send(message)
        except PeerError:
            wire.close_soon()


def _view(channel: ChannelId, chain: Web3Chain) -> ChainView:
    """Read a channel at the newest confirmed head."""
    return chain.view(channel, chain.head())


def _now() -> int:
    return int(time.time())
