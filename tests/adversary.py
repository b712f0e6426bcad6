"""An honest core against a counterparty that does anything its keys allow, on the real contract.

The contract runs on the in-process EVM. The honest party is a core in its shell; mallory has no
core, only her two keys, everything that was ever said to her, and anything she cares to sign.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from eth_utils.address import to_canonical_address

from farthing.channels.codecs import decode_message, encode_message
from farthing.channels.eip712 import Domain
from farthing.channels.errors import LocalError, PeerError
from farthing.channels.events import Elapsed, Linked, ObservedChannel, Unlinked
from farthing.channels.ids import ZERO_WORD, Address, ChannelId, address_to_hex
from farthing.channels.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    Message,
    Reestablish,
    SignedTotal,
    Update,
    WithdrawalAccept,
    WithdrawalOffer,
)
from farthing.channels.restoring import above, needs_settlements
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.state import (
    STALE_DIVISOR,
    ChainStatus,
    ChainView,
    Channel,
    CloseTerms,
    Moment,
    Settlement,
    WithdrawalTerms,
)
from farthing.channels.terms import Side, Terms
from farthing.channels.voucher import LaneTotal, Payment, Voucher, replay

from .contract import city as cities
from .contract import conservation
from .contract.city import City, SettleRow, State
from .contract.evm import Outcome, Person, Reverted
from .cores import Durable, Party
from .people import payment

WINDOW_SECONDS, WINDOW_BLOCKS = 3600, 20
BLIND_SECONDS_MAX = WINDOW_SECONDS - WINDOW_SECONDS // STALE_DIVISOR - 1
"""How long the honest party may not look: it accepts on views up to a quarter of the window old,
and must still look once, and settle, before the window ends (rule 4)."""

ACCOUNTS = {Side.A: cities.hub, Side.B: cities.alice}
SIGNERS = {Side.A: cities.hub_signer, Side.B: cities.alice_signer}


@dataclass(slots=True)
class Heard:
    """What mallory holds with the honest party's signature on it."""

    vouchers: list[tuple[LaneTotal, bytes]] = field(default_factory=list)
    closes: dict[CloseTerms, bytes] = field(default_factory=dict)
    withdrawals: dict[WithdrawalTerms, bytes] = field(default_factory=dict)

    def offers(self) -> list[CloseTerms | WithdrawalTerms]:
        """All of them, oldest first of each kind."""
        return [*self.closes, *self.withdrawals]


class Battle:
    """One channel: the honest party on one side of it, mallory on the other."""

    def __init__(self, city: City, honest: Side, deposit_a: int, deposit_b: int) -> None:
        self.city = city
        self._state: State | None = None  # what the contract holds, until the next transaction
        self.honest = honest
        self.keys = {side: Signer(SIGNERS[side].key) for side in Side}
        self.opened = city.open(
            deposit=deposit_a, challenge_seconds=WINDOW_SECONDS, challenge_blocks=WINDOW_BLOCKS
        )
        self.id = ChannelId(city.channel(self.opened))
        if deposit_b:
            self.deposit(Side.B, deposit_b)
        contract = Address(to_canonical_address(city.channels.address))
        self.separator = Domain(chain_id=city.evm.chain_id, contract=contract).separator()
        self.terms = _core_terms(self.opened)
        self.head = self.view()
        state = Channel(id=self.id, terms=self.terms, side=honest, chain=self.head)
        self.party = Party(
            side=honest,
            moment=self.moment,
            state=state,
            durable=Durable(record="{}"),
            separator=self.separator,
            signers=self.keys,
        )
        self.heard = Heard()
        self.said: list[bytes] = []
        self.lane = LaneTotal()
        self._number = 0
        self._topped_up = 0
        self._before = {side: city.balance(ACCOUNTS[side].address) for side in Side}
        self.party.commit()
        self.connect()

    # -- the chain --------------------------------------------------------------------------

    def view(self) -> ChainView:
        """What the contract says now."""
        if self._state is None:
            self._state = State(*self.city.channels.read("channel_state", self.id))
        state = self._state
        return ChainView(
            block=self.city.evm.block,
            timestamp=self.city.evm.time,
            status=ChainStatus(state.status),
            deposit_ucent=(state.deposit_a, state.deposit_b),
            withdrawn_ucent=(state.withdrawn_a, state.withdrawn_b),
            settled_ucent=(state.transferred_a, state.transferred_b),
            deadline_seconds=state.deadline_seconds,
            deadline_block=state.deadline_block,
        )

    def settlements(self) -> tuple[Settlement, ...]:
        """By which payments mallory's lane was settled, as the contract's events say."""
        payer = ACCOUNTS[self.honest.other].address
        return tuple(
            Settlement(
                before_ucent=event.fields["transferred_before"],
                transferred_ucent=event.fields["transferred"],
                nonce=event.fields["nonce"],
                history=event.fields["history"],
            )
            for _, event in self.city.evm.log
            if event.name == "Settled"
            and (event.fields["channel"], event.fields["payer"]) == (self.id, payer)
        )

    def moment(self) -> Moment:
        """Now, and the head that the honest party has last seen."""
        head = self.head
        return Moment(
            now=self.city.evm.time,
            head_block=head.block,
            head_timestamp=head.timestamp,
            head_seen=head.timestamp,
        )

    def send(self, sender: Person, name: str, *arguments: Any) -> Outcome | None:
        """A transaction; None where the contract refuses it."""
        self.city.evm.pass_time(blocks=1)
        self._state = None
        try:
            return self.city.channels.send(sender, name, *arguments)
        except Reverted:
            return None

    def deposit(self, side: Side, amount: int) -> None:
        account = ACCOUNTS[side].address
        self.send(cities.hub, "deposit", self.opened, account, amount)

    def settle(self, sender: Person, lane: Side, total: LaneTotal, signature: bytes) -> None:
        row = SettleRow(
            self.opened,
            int(lane),
            total.nonce,
            total.transferred_ucent,
            history=total.history,
            signature=signature,
        )
        self.send(sender, "settle", [row])

    def submit(self, sender: Person, terms: CloseTerms | WithdrawalTerms, *both: bytes) -> None:
        """Bring a co-signed offer to the chain; the honest party's signature comes first."""
        signatures = both if self.honest is Side.A else both[::-1]
        if isinstance(terms, CloseTerms):
            totals = (terms.transferred_a_ucent, terms.transferred_b_ucent)
            self.send(sender, "close", self.opened, *totals, terms.expires, *signatures)
        else:
            account = ACCOUNTS[terms.side].address
            what = (self.opened, account, terms.total_ucent, terms.expires)
            self.send(sender, "withdraw", *what, *signatures)

    # -- the honest party -------------------------------------------------------------------

    def connect(self) -> None:
        self.disconnect()
        try:
            self.party.feed(Linked())
        except LocalError:
            return  # it has stopped
        self.speak()

    def disconnect(self) -> None:
        self.party.feed(Unlinked())
        self.party.hangs_up = False
        self.speak()

    def speak(self) -> None:
        """Let it commit, then speak; mallory notes every signature and hears all."""
        self.party.commit()
        for payload in self.party.out:
            self._note(decode_message(payload))
        self.party.out.clear()

    def _note(self, message: Message) -> None:
        heard = self.heard
        match message:
            case Update(first_nonce=first_nonce, signature=signature, payments=payments):
                start = LaneTotal()
                stored = self.party.durable.payments[0]
                if first_nonce > 1:
                    start = stored[first_nonce - 2].total
                heard.vouchers.append((replay(start, payments)[-1], signature))
            case CloseOffer() | CloseAccept():
                close = CloseTerms(
                    transferred_a_ucent=message.transferred_a_ucent,
                    transferred_b_ucent=message.transferred_b_ucent,
                    expires=message.expires,
                )
                heard.closes[close] = message.signature
            case WithdrawalOffer() | WithdrawalAccept():
                side = Side.A if message.account == self.terms.account_a else Side.B
                wish = WithdrawalTerms(
                    side=side, total_ucent=message.total_ucent, expires=message.expires
                )
                heard.withdrawals[wish] = message.signature
            case _:
                pass

    def hear(self, *messages: Message) -> None:
        """Let mallory say something; the honest party hangs up where it may not be said."""
        payloads = [encode_message(message) for message in messages]
        self.said += payloads
        self.hear_bytes(payloads)

    def hear_bytes(self, payloads: Iterable[bytes]) -> None:
        try:
            self.party.receive(payloads)
        except PeerError:
            self.party.hangs_up = True
        self.speak()
        if self.party.hangs_up:
            self.disconnect()

    def ask(self, event: Any) -> None:
        """Let the honest party want something; it may be refused."""
        try:
            self.party.feed(event)
        except LocalError:
            return
        self.speak()

    def look(self) -> None:
        """Let it read the chain and do what its watcher does: answer a close, submit, settle."""
        self.head = self.view()
        settlements = above(self.settlements(), self.party.state.received.total.transferred_ucent)
        if not needs_settlements(self.party.state, self.head):
            settlements = ()
        self.party.feed(ObservedChannel(view=self.head, settlements=settlements))
        self.party.feed(Elapsed())
        self.speak()
        self.act()
        received = self.party.state.received.voucher
        if self.head.status is ChainStatus.CLOSING and received is not None:
            settled = self.head.settled_ucent[self.honest.other]
            if received.total.transferred_ucent > settled:
                sender = SIGNERS[self.honest]
                self.settle(sender, self.honest.other, received.total, received.signature)

    def act(self) -> None:
        """Bring to the chain what its core wanted there."""
        sender = SIGNERS[self.honest]
        for close in self.party.submitted:
            if close.theirs is not None:
                self.submit(sender, close.terms, close.ours, close.theirs)
        for withdrawal in self.party.withdrawing:
            if withdrawal.ours is not None and withdrawal.theirs is not None:
                self.submit(sender, withdrawal.terms, withdrawal.ours, withdrawal.theirs)
        self.party.submitted.clear()
        self.party.withdrawing.clear()

    def wait(self, seconds: int, blocks: int, *, looks: bool) -> None:
        """Let time pass; the honest party looks in time, whatever else it does."""
        blind = self.city.evm.time + seconds - self.head.timestamp
        if blind > BLIND_SECONDS_MAX:
            self.look()
        self.city.evm.pass_time(seconds=min(seconds, BLIND_SECONDS_MAX), blocks=blocks)
        if looks:
            self.look()

    # -- mallory ----------------------------------------------------------------------------

    @property
    def mallory(self) -> Signer:
        return self.keys[self.honest.other]

    def payments(self, amounts: Iterable[int]) -> tuple[Payment, ...]:
        made = []
        for amount in amounts:
            self._number += 1
            made.append(payment(amount, number=self._number))
        return tuple(made)

    def signed(self, total: LaneTotal) -> Voucher:
        """Mallory's voucher on any total of her lane."""
        return sign_voucher(
            self.separator,
            self.mallory,
            channel=self.id,
            payer=self.terms.account(self.honest.other),
            total=total,
        )

    def mallory_pays(self, amounts: list[int], *, forged: bool, skips: int) -> None:
        """Pay on from what the honest party holds, or leave a gap, or under a wrong signature."""
        before = self.party.state.received.claimed
        payments = self.payments(amounts)
        total = replay(before, payments)[-1]
        if forged:
            total = replace(total, transferred_ucent=total.transferred_ucent + 1)
        update = Update(
            channel=self.id,
            first_nonce=before.nonce + 1 + skips,
            signature=self.signed(total).signature,
            payments=payments,
        )
        self.hear(update)

    def mallory_signs(self, offer: CloseTerms | WithdrawalTerms) -> bytes:
        return self.mallory.sign_digest(self.party.digest_of(offer))

    def mallory_says_offer(self, offer: CloseTerms | WithdrawalTerms, *, accepts: bool) -> None:
        signature = self.mallory_signs(offer)
        if isinstance(offer, CloseTerms):
            close = CloseAccept if accepts else CloseOffer
            message: Message = close(
                channel=self.id,
                transferred_a_ucent=offer.transferred_a_ucent,
                transferred_b_ucent=offer.transferred_b_ucent,
                expires=offer.expires,
                signature=signature,
            )
        else:
            withdrawal = WithdrawalAccept if accepts else WithdrawalOffer
            message = withdrawal(
                channel=self.id,
                account=self.terms.account(offer.side),
                total_ucent=offer.total_ucent,
                expires=offer.expires,
                signature=signature,
            )
        self.hear(message)

    def mallory_greets(self, shown: int | None) -> None:
        """Show any of the honest party's vouchers, or none, as what she holds."""
        received = None
        if shown is not None and shown < len(self.heard.vouchers):
            total, signature = self.heard.vouchers[shown]
            received = SignedTotal(total=total, conditions=ZERO_WORD, signature=signature)
        self.hear(Reestablish(channel=self.id, sent=None, received=received))

    def mallory_acknowledges(self, back: int, *, lies: bool) -> None:
        if back < len(self.heard.vouchers):
            total, _ = self.heard.vouchers[-1 - back]
            history = b"\x66" * 32 if lies else total.history
            self.hear(Ack(channel=self.id, nonce=total.nonce, history=history))

    def mallory_submits(self, offer: CloseTerms | WithdrawalTerms) -> None:
        """Sign what the honest party has signed, and bring it to the chain."""
        heard = self.heard
        ours = heard.closes[offer] if isinstance(offer, CloseTerms) else heard.withdrawals[offer]
        self.submit(SIGNERS[self.honest.other], offer, ours, self.mallory_signs(offer))

    def mallory_settles_all(self) -> None:
        """The best she can do for herself: the newest voucher she was ever given."""
        if self.heard.vouchers:
            best = max(self.heard.vouchers, key=lambda one: one[0].transferred_ucent)
            self.settle(SIGNERS[self.honest.other], self.honest, *best)

    # -- the end ----------------------------------------------------------------------------

    def finish_alone(self, side: Side) -> None:
        """One party ends the channel and the other does nothing, but for an honest watcher."""
        sender = SIGNERS[side]
        if side is self.honest:
            self.look()
        status = self.view().status
        if status is ChainStatus.OPEN:
            assert self.send(sender, "start_close", self.opened, 0, b"") is not None
        self.look()
        if side is not self.honest:
            self.mallory_settles_all()
        self.city.evm.pass_time(seconds=WINDOW_SECONDS + 1, blocks=WINDOW_BLOCKS + 1)
        if self.view().status is not ChainStatus.CLOSED:
            assert self.send(sender, "finish_close", self.opened) is not None
        self.check_end()

    def check_end(self) -> None:
        """All money is where it belongs: conserved, and the honest party's at least its own."""
        assert self.view().status is ChainStatus.CLOSED
        conservation.check(self.city)
        deposits = self.view().deposit_ucent
        gained = {
            side: self.city.balance(ACCOUNTS[side].address) - self._before[side] for side in Side
        }
        # Everything was deposited by the hub's account: what it put in since is not a loss.
        gained[Side.A] += self._topped_up
        assert sum(gained.values()) == sum(deposits)
        party = self.party.state
        entitled = (
            deposits[self.honest]
            + party.received.total.transferred_ucent
            - party.sent.total.transferred_ucent
        )
        assert gained[self.honest] >= entitled

    def top_up(self, side: Side, amount: int) -> None:
        before = self.city.balance(cities.hub.address)
        self.deposit(side, amount)
        self._topped_up += before - self.city.balance(cities.hub.address)

    @contextmanager
    def what_if(self) -> Iterator[None]:
        """Try something, then come back to this moment."""
        place = self.city.evm.checkpoint()
        party, head = replace(self.party), self.head
        heard = replace(self.heard, vouchers=list(self.heard.vouchers))
        topped_up = self._topped_up
        kept = (list(party.submitted), list(party.withdrawing), list(party.told))
        try:
            yield
        finally:
            self.city.evm.restore(place)
            self._state = None
            self.party, self.head, self.heard = party, head, heard
            self._topped_up = topped_up
            party.submitted[:], party.withdrawing[:], party.told[:] = kept


def _core_terms(terms: cities.Terms) -> Terms:
    def address(text: str) -> Address:
        raw = Address(to_canonical_address(text))
        assert address_to_hex(raw) == text
        return raw

    return Terms(
        account_a=address(terms.account_a),
        signer_a=address(terms.signer_a),
        account_b=address(terms.account_b),
        signer_b=address(terms.signer_b),
        challenge_seconds=terms.challenge_seconds,
        challenge_blocks=terms.challenge_blocks,
        sequence=terms.sequence,
    )
