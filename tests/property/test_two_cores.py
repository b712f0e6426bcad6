"""Two cores on one wire: whatever is lost and whoever crashes, both agree on every payment."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farthing.channels.errors import LocalError
from farthing.channels.events import AskedClose, AskedWithdraw
from farthing.channels.refusals import InsufficientBalance
from farthing.channels.signing import BadSignature
from farthing.channels.state import OFFER_SECONDS, ChainStatus, Phase
from farthing.channels.terms import Side

from ..cores import Party, World
from ..cores_checks import agree, peaceful, sound

SIDES = st.sampled_from(Side)


class TwoCores(RuleBasedStateMachine):
    """Honest parties on a bad wire, with crashes, stale views and closes that may not be mined."""

    @initialize(deposit_a=st.integers(0, 200), deposit_b=st.integers(0, 200))
    def open(self, deposit_a: int, deposit_b: int) -> None:
        self.world = World(deposit_a, deposit_b)
        self.world.run()

    def party(self, side: Side) -> Party:
        return self.world.parties[side]

    @rule(
        side=SIDES,
        amounts=st.lists(st.integers(1, 30), min_size=1, max_size=3),
        durable=st.booleans(),
    )
    def pay(self, side: Side, amounts: list[int], durable: bool) -> None:
        party = self.party(side)
        before = party.state
        try:
            self.world.pay(party, *amounts)
        except InsufficientBalance:
            assert sum(amounts) > before.our_balance_ucent()
        except LocalError:
            assert before.phase is not Phase.LIVE
            assert party.state == before
        if durable:
            self.world.commit(party)

    @rule(side=SIDES, count=st.integers(1, 4), durable=st.booleans())
    def deliver(self, side: Side, count: int, durable: bool) -> None:
        self.world.deliver(self.party(side), count)
        if durable:
            self.world.commit(self.party(side))

    @rule()
    def go_on_until_quiet(self) -> None:
        self.world.run()

    @rule(greetings=st.integers(0, 4))
    def reconnect(self, greetings: int) -> None:
        self.world.connect()
        for _ in range(greetings):
            for party in self.world.parties:
                self.world.commit(party)
                self.world.deliver(party, 1)

    @rule(side=SIDES, boots=st.booleans())
    def crash(self, side: Side, boots: bool) -> None:
        self.world.crash(self.party(side))
        if boots:
            self.world.connect()

    @rule(side=SIDES)
    def lose_sight_of_the_chain(self, side: Side) -> None:
        self.world.blind.add(side)

    @rule(seconds=st.sampled_from([1, 20, OFFER_SECONDS + 1]))
    def tick(self, seconds: int) -> None:
        self.world.tick(seconds)

    @rule(side=SIDES, seen_first_by=SIDES, amount=st.integers(1, 50))
    @precondition(lambda self: self.world.view.status is ChainStatus.OPEN)
    def top_up(self, side: Side, seen_first_by: Side, amount: int) -> None:
        self.world.top_up(side, amount)
        self.world.look(self.party(seen_first_by))

    @rule(side=SIDES, seen=st.booleans(), deaf=st.booleans())
    @precondition(lambda self: self.world.view.status is ChainStatus.OPEN)
    def settle_own_lane(self, side: Side, seen: bool, deaf: bool) -> None:
        """Before the peer has acknowledged it, or has it at all."""
        self.world.settle(self.party(side))
        payee = self.party(side.other)
        if deaf:
            self.world.deaf.add(payee.side)
        if seen:
            self.world.look(payee)

    @rule(side=SIDES)
    def ask_to_close(self, side: Side) -> None:
        party = self.party(side)
        try:
            party.feed(AskedClose())
        except LocalError:
            assert party.state.phase in (Phase.FROZEN, Phase.CLOSED)

    @rule(side=SIDES)
    def mine(self, side: Side) -> None:
        for close in self.party(side).submitted:
            self.world.mine(close)

    @rule(side=SIDES)
    def pay_everything(self, side: Side) -> None:
        balance = self.party(side).state.our_balance_ucent()
        if balance > 0:
            self.pay(side, [balance], durable=True)

    @rule(side=SIDES)
    def agree_on_withdrawing_everything(self, side: Side) -> None:
        balance = self.party(side).state.our_balance_ucent()
        if balance > 0:
            self.ask_to_withdraw(side, balance)
            self.world.run()

    @rule(side=SIDES, amount=st.integers(1, 60))
    def ask_to_withdraw(self, side: Side, amount: int) -> None:
        party = self.party(side)
        before = party.state
        try:
            party.feed(AskedWithdraw(amount_ucent=amount))
        except InsufficientBalance:
            assert amount > before.our_balance_ucent()
        except LocalError:
            unable = before.phase is not Phase.LIVE or side in self.world.blind
            assert unable or before.withdrawals[side] is not None
            assert party.state == before

    @rule(side=SIDES)
    def mine_withdrawals(self, side: Side) -> None:
        for withdrawal in self.party(side).withdrawing:
            self.world.take_out(withdrawal)

    @invariant()
    def nothing_is_lost_and_nothing_counted_twice(self) -> None:
        sound(self.world)

    @invariant()
    def nobody_quarrels(self) -> None:
        peaceful(self.world)

    @invariant()
    def a_close_that_was_mined_is_what_both_sides_hold(self) -> None:
        if self.world.view.status is ChainStatus.CLOSED:
            for party in self.world.parties:
                assert party.state.totals_ab() == self.world.view.settled_ucent

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for seconds in (1, OFFER_SECONDS + 1, 1):  # heals views, and what is frozen for nothing
            world.tick(seconds)
            world.run()
        self.nobody_quarrels()
        sound(world)
        if world.view.status is ChainStatus.OPEN:
            agree(world)


class TwoCoresOnABadWire(TwoCores):
    """The same where single messages are dropped, doubled, swapped, and come again much later.

    A gap or a message out of turn makes a party hang up: what counts is said anew on the next
    connection.
    """

    @rule(side=SIDES, place=st.integers(0, 5))
    def drop(self, side: Side, place: int) -> None:
        out = self.party(side).out
        if place < len(out):
            del out[place]

    @rule(side=SIDES, place=st.integers(0, 5))
    def double(self, side: Side, place: int) -> None:
        out = self.party(side).out
        if place < len(out):
            out.insert(place, out[place])

    @rule(side=SIDES, first=st.integers(0, 5), second=st.integers(0, 5))
    def swap(self, side: Side, first: int, second: int) -> None:
        out = self.party(side).out
        if max(first, second) < len(out):
            out[first], out[second] = out[second], out[first]

    @rule(side=SIDES, age=st.integers(1, 40))
    @precondition(lambda self: self.world.connected)
    def repeat_what_was_said_before(self, side: Side, age: int) -> None:
        said = self.party(side).said
        if age <= len(said):
            self.party(side).out.append(said[-age])

    @invariant()
    def nobody_quarrels(self) -> None:
        """They may: each time they hang up, and nothing is lost by it."""
        assert not any(isinstance(error, BadSignature) for error in self.world.quarrels)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.disconnect()  # the wire is a good one from here on
        super().teardown()


def test_two_cores_agree_on_every_payment_whatever_happens_to_the_connection() -> None:
    run_state_machine_as_test(TwoCores, settings=settings(stateful_step_count=60))


def test_two_cores_agree_on_every_payment_whatever_happens_to_the_wire() -> None:
    run_state_machine_as_test(TwoCoresOnABadWire, settings=settings(stateful_step_count=60))
