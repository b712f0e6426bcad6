"""The wallet's connection to its hub: dials, proves itself, takes channels up, dials again.

Rule: a channel is spoken for only after this wallet's own checks (rule 8), and it is used only
after our newest vouchers went out on this connection.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import trio

from ..errors import ChainError, FarthingError, InvariantBroken, LocalError, PeerError
from ..events import ChannelMessage, Received
from ..ids import Address, ChannelId, to_hex
from ..messages import (
    ChannelProposal,
    ChannelTerms,
    Error,
    Message,
    PaymentRefused,
    PaymentRequest,
    ReadingOutcome,
    Reestablish,
)
from ..refusals import OutOfTurn
from ..signing import Signer
from ..state import Channel, Phase
from ..terms import Terms, UnsafeTerms
from .adoption import NotConfirmed, adopt, check_terms, terms_of
from .driver import Driver
from .folder import Settings
from .follower import Follower
from .ledger import LedgerUnusable
from .pulse import Notices, Pulse
from .session import run_session
from .tls import dial
from .twin import RunningTwice, Twin
from .wire import Refused, Wire

CONNECT_SECONDS_MAX: Final = 10
BACKOFF_SECONDS_MIN: Final = 0.2
BACKOFF_SECONDS_MAX: Final = 30.0
CALM_SECONDS: Final = 5.0
"""A connection that lasted this long was a good one: the next try is soon again."""

GREETING_SECONDS_MAX: Final = 30
"""How long a hub may take to take up a channel: then a part of the greeting was lost."""

PROPOSED_SECONDS_MAX: Final = 30
"""How long a proposal may stay unanswered before it is made again."""

CHANNELS_MAX: Final = 16
"""Channels of one wallet with one hub; it needs one, and a few that are closing."""

NOT_CONFIRMED_SECONDS_MAX: Final = 120
"""How long an announced channel may be missing from the chain that we read."""

PROPOSE_AFTER_SECONDS: Final = 0.5
"""After connecting: a hub introduces the channels that exist at once."""

PROPOSE_AGAIN_SECONDS: Final = 2.0
"""After an answer that another try may change."""

TEMPORARY_ERRORS: Final = frozenset({"hub-busy", "hub-out-of-funds", "not-now", "stale-view"})
"""Answers of a hub to a proposal after which asking again helps."""


class HubUnreachable(PeerError):
    """Nothing answers at the hub's address."""

    code = "hub-unreachable"
    remedy = "check the address and that the hub runs; the wallet keeps trying"
    retryable = True


class LinkState(StrEnum):
    """What the connection does now."""

    DIALLING = "dialling"
    CONNECTED = "connected"
    WAITING = "waiting"


class Receiver(Protocol):
    """What the wallet does with the hub's messages that are not about channels."""

    def on_outcome(self, message: ReadingOutcome) -> None:
        """Take the answer to a submission."""

    def on_request(self, message: PaymentRequest) -> None:
        """Take a request to be paid."""

    def on_refused(self, message: PaymentRefused) -> None:
        """Take the refusal of a request of ours."""

    def on_speaking(self, channel: Channel) -> None:
        """A channel can be used on this connection."""

    def on_disconnected(self) -> None:
        """The connection is gone."""


async def open_wire(settings: Settings) -> Wire:
    """Connect to the hub of the settings; nobody has proven anything yet.

    Raises `HubUnreachable`.
    """
    hub = settings.hub
    try:
        with trio.fail_after(CONNECT_SECONDS_MAX):
            dialled = await dial(hub.host, hub.port, settings.trust)
            return Wire(dialled.stream, certificate=dialled.certificate)
    except (OSError, trio.TooSlowError) as error:
        cause = str(error) or f"no answer in {CONNECT_SECONDS_MAX} s"
        raise HubUnreachable(f"the hub at {hub} cannot be reached ({cause})") from None


@dataclass(slots=True, kw_only=True)
class _Announced:
    terms: Terms
    since: float
    tried_at: int = -1


class NotGreeted(PeerError):
    """The hub is connected and takes up no channel; what it says is not what it has to say."""

    code = "not-greeted"
    remedy = "the wallet dials again; if it stays so, tell the agency"
    retryable = True


class Connection:
    """One connection at a time, for as long as the wallet runs; see `session.Handler`."""

    def __init__(
        self,
        settings: Settings,
        signer: Signer,
        follower: Follower,
        pulse: Pulse,
        notices: Notices,
    ) -> None:
        self.state = LinkState.DIALLING
        self.trouble: FarthingError | None = None
        self.failures = 0
        """Tries that brought no channel that can be used, since the last one that did."""
        self.answers = 0
        """How often a channel came to be usable; a connection without one is no answer."""
        self._connected_at = 0.0
        self.refusal: Refused | None = None
        self.joining = 0
        self._settings = settings
        self._signer = signer
        self._follower = follower
        self._pulse = pulse
        self._notices = notices
        self._wire: Wire | None = None
        self._announced: dict[ChannelId, _Announced] = {}
        self._early: dict[ChannelId, Reestablish] = {}
        self._propose_at = float("-inf")
        self.twin = Twin()
        self.refused: dict[ChannelId, Error] = {}
        """The hub's newest error about each channel; what it was about ended or goes on."""
        self._speaking: set[ChannelId] = set()
        self._told: set[ChannelId] = set()
        self._linked_at: dict[ChannelId, float] = {}
        self._proposed = False
        self._was_good = False
        """Whether a channel was usable on the last connection, however short that was."""

    def attach(self, driver: Driver, receiver: Receiver) -> None:
        """Give the connection what it serves; they need each other."""
        self._driver = driver
        self._receiver = receiver

    # -- for the wallet ---------------------------------------------------------------------

    def usable(self) -> Channel | None:
        """The channel to use now: live on this connection, the one with most to spend."""
        live = [
            channel
            for channel in self._driver.channels.values()
            if channel.id in self._speaking and channel.phase is Phase.LIVE
        ]
        return max(live, key=lambda channel: channel.our_balance_ucent(), default=None)

    def send(self, message: Message) -> bool:
        """Queue a message if a channel is usable; says whether it was."""
        if self._wire is None or self.usable() is None:
            return False
        try:
            self._wire.send(message)
        except PeerError:
            return False  # the session notices by itself
        return True

    @property
    def fruitless(self) -> int:
        """How often the hub was asked for a channel in vain, while there is none to use."""
        return self.failures if self.usable() is None else 0

    def _is_waiting(self) -> bool:
        """Whether there is a channel that the hub could make usable, and has to for an answer."""
        waiting = (Phase.DOWN, Phase.GREETING)
        return any(channel.phase in waiting for channel in self._driver.channels.values())

    def held(self) -> Channel | None:
        """A channel that is neither closed nor stopped, connected or not."""
        ended = (Phase.CLOSED, Phase.STOPPED)
        return next((c for c in self._driver.channels.values() if c.phase not in ended), None)

    # -- dialling ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, serve, and connect again until cancelled."""
        delay_seconds = BACKOFF_SECONDS_MIN
        while True:
            started = trio.current_time()
            self._set(LinkState.DIALLING)
            try:
                await self._once()
            except FarthingError as error:
                if isinstance(error, InvariantBroken | LedgerUnusable):
                    raise
                self.failures += 1
                self._lost(error)
            if self._was_good or trio.current_time() - started > CALM_SECONDS:
                delay_seconds = BACKOFF_SECONDS_MIN
            self._set(LinkState.WAITING)
            await trio.sleep(self.twin.rested())
            # Half of it at random, so that a hub that comes back is not asked by all at once.
            await trio.sleep(delay_seconds * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            delay_seconds = min(2 * delay_seconds, BACKOFF_SECONDS_MAX)

    async def _once(self) -> None:
        self._was_good = False
        wire = await open_wire(self._settings)
        try:
            await wire.dial(self._settings.deployment.domain(), self._signer, self._hub_signer)
            self._wire = wire
            self._connected_at = trio.current_time()
            if not self._is_waiting():
                self._answered()
            self._propose_at = self._connected_at + PROPOSE_AFTER_SECONDS
            self.trouble = None
            self._set(LinkState.CONNECTED)
            self._notices.tell("connected", f"connected to the hub at {self._settings.hub}")
            complaint = self.twin.to_say()
            if complaint is not None:
                wire.send(complaint)
            await run_session(wire, self._driver, self)
        finally:
            self._forget()
            await wire.finish()

    @property
    def _hub_signer(self) -> Address:
        return self._settings.hub_signer

    def _answered(self) -> None:
        self.failures = 0
        self.answers += 1
        self._pulse.beat()

    def _set(self, state: LinkState) -> None:
        self.state = state
        self._pulse.beat()

    def _lost(self, error: FarthingError) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            kind = error.code if isinstance(error, RunningTwice) else "disconnected"
            self._notices.tell(kind, str(error), code=error.code)
        self.trouble = error

    def _forget(self) -> None:
        was_connected, self._wire = self._wire is not None, None
        self._was_good = bool(self._told)
        self._announced.clear()
        self._early.clear()
        self._speaking.clear()
        self._told.clear()
        self._linked_at.clear()
        self._proposed = False
        if was_connected:
            self._receiver.on_disconnected()

    # -- messages ---------------------------------------------------------------------------

    def on_message(self, wire: Wire, message: Message) -> None:
        """Handle a message that concerns no channel's core; raises `OutOfTurn`."""
        if wire is not self._wire:
            return  # of a connection that has been given up
        match message:
            case ChannelTerms():
                self._on_terms(message)
            case ReadingOutcome():
                self._receiver.on_outcome(message)
            case PaymentRequest():
                self._receiver.on_request(message)
            case PaymentRefused():
                self._receiver.on_refused(message)
            case Error():
                self._on_error(message)
            case _:
                raise OutOfTurn(f"{type(message).__name__} is nothing a wallet takes from a hub")

    def on_unlinked(self, wire: Wire, message: ChannelMessage) -> None:
        """Keep a greeting of a channel that is still being checked; drop everything else."""
        is_ours = wire is self._wire and message.channel in self._announced
        if isinstance(message, Reestablish) and is_ours:
            self._early[message.channel] = message

    def _on_terms(self, message: ChannelTerms) -> None:
        try:
            terms = terms_of(message)
            channel = check_terms(terms, self._settings, self._signer.address)
        except UnsafeTerms as error:
            self._notices.tell("terms-refused", str(error), code=error.code)
            return
        for ended in [c for c in self._announced if self._has_ended(c)]:
            del self._announced[ended]
        if len(self._announced) >= CHANNELS_MAX:
            raise OutOfTurn(f"the hub announces more than {CHANNELS_MAX} channels")
        self._announced.setdefault(channel, _Announced(terms=terms, since=trio.current_time()))
        self._pulse.beat()

    def _has_ended(self, channel: ChannelId) -> bool:
        held = self._driver.channels.get(channel)
        return held is not None and held.phase is Phase.CLOSED

    def _on_error(self, message: Error) -> None:
        if self.twin.hear(message):
            error = RunningTwice("another process uses this wallet's key at the same time")
            self._notices.tell(error.code, str(error), code=error.code)
        if message.code == RunningTwice.code:
            return
        self._notices.tell(
            "hub-error", f"the hub says: {message.text}: {message.what_to_do}", code=message.code
        )
        channel = ChannelId(message.channel)
        if channel in self._driver.channels:
            self.refused[channel] = message
            self._pulse.beat()
        if self._proposed and not message.channel and self.joining:
            self._proposed = False
            self._propose_at = trio.current_time() + PROPOSE_AGAIN_SECONDS
            if message.code not in TEMPORARY_ERRORS:
                self.refusal = Refused(message.text, remedy=message.what_to_do)
            self._pulse.beat()

    # -- taking channels up -----------------------------------------------------------------

    async def adopt_announced(self) -> None:
        """Check what the hub announces and start speaking for it, until cancelled."""
        while True:
            for channel, announced in list(self._announced.items()):
                wire = self._wire
                if wire is not None and not self._driver.linked(channel, wire):
                    await self._adopt(channel, announced, wire)
            self._propose()
            self._tell_usable()
            self._give_up_greeting()
            await self._pulse.wait()

    def _tell_usable(self) -> None:
        for channel_id in self._speaking - self._told:
            channel = self._driver.get(channel_id)
            if channel.phase is Phase.LIVE:
                self._told.add(channel_id)
                self._answered()
                self._receiver.on_speaking(channel)

    def _give_up_greeting(self) -> None:
        """Dial again where a channel is not taken up in time: both sides then begin anew."""
        if self._wire is None:
            return
        latest = trio.current_time() - GREETING_SECONDS_MAX
        for channel in self._driver.channels.values():
            match channel.phase:
                case Phase.GREETING:
                    since = self._linked_at.get(channel.id, self._connected_at)
                # A hub need not introduce every channel that we hold, if it introduces one.
                case Phase.DOWN if not self._linked_at and channel.id not in self.refused:
                    since = self._connected_at
                case _:
                    continue
            if since < latest:
                self._lost(NotGreeted(f"channel {to_hex(channel.id)} was not taken up"))
                self._wire.close_soon()
                return

    async def _adopt(self, channel_id: ChannelId, announced: _Announced, wire: Wire) -> None:
        if channel_id not in self._driver.channels:
            if announced.tried_at == self._follower.looks:
                return  # nothing can have changed
            announced.tried_at = self._follower.looks
            try:
                await self._confirm(channel_id, announced)
            except NotConfirmed as error:
                if trio.current_time() - announced.since > NOT_CONFIRMED_SECONDS_MAX:
                    self._drop(channel_id, error)
                return
            except UnsafeTerms as error:
                self._drop(channel_id, error)
                return
            except ChainError:
                return  # the follower reports it; every head is another try
        if wire is self._wire and self._driver.get(channel_id).stopped is None:
            self._link(channel_id, wire)

    def _drop(self, channel: ChannelId, error: LocalError) -> None:
        self._announced.pop(channel, None)
        self._notices.tell("terms-refused", str(error), code=error.code)

    async def _confirm(self, channel_id: ChannelId, announced: _Announced) -> None:
        """Read the chain ourselves before the first signature or acceptance."""
        chain = self._follower.chain
        if not self._follower.identified:
            await chain.check_identity()
        head = await chain.head()
        view = await chain.channel_state(channel_id, head)
        channel = adopt(announced.terms, self._settings, self._signer.address, view)
        self._driver.add(channel)
        self._follower.observe(self._driver, channel, view)
        self._follower.poke()

    def _link(self, channel_id: ChannelId, wire: Wire) -> None:
        self._driver.link(channel_id, wire)
        self._linked_at[channel_id] = trio.current_time()
        early = self._early.pop(channel_id, None)
        if early is not None:
            try:
                self._driver.feed(channel_id, Received(message=early))
            except PeerError as error:
                self._lost(error)
                wire.close_soon()
                return

        def speak() -> None:
            if wire is self._wire:
                self._speaking.add(channel_id)
                if self._proposed:  # answered: after a close it may be asked for another
                    self._proposed, self._propose_at = False, trio.current_time()
                self._pulse.beat()

        self._driver.store((), then=speak)

    def _propose(self) -> None:
        """Ask for a channel if somebody waits for one and there is none."""
        if self._wire is None or not self.joining:
            return
        being_checked = self._announced.keys() - self._driver.channels.keys()
        if self.refusal is not None or being_checked or self.held() is not None:
            return
        if trio.current_time() < self._propose_at:
            return  # or it is being answered; the follower's polls wake us again
        policy = self._settings.policy
        proposal = ChannelProposal(
            account=self._settings.account,
            challenge_seconds=policy.challenge_seconds_min,
            challenge_blocks=policy.challenge_blocks_min,
        )
        try:
            self._wire.send(proposal)
        except PeerError:
            return  # the session notices by itself
        self._proposed = True
        self._propose_at = trio.current_time() + PROPOSED_SECONDS_MAX
