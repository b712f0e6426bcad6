"""Whatever a payee forgets and its payer makes of it: it believes in no more than it is paid.

Real core, real contract. The payee forgets nothing that was not settled: what nobody knows but a
lying payer is lost, and no rule of the core's can change that.
"""

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

from farthing.channels.messages import Update
from farthing.channels.state import Link, Phase
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, Payment, replay

from ..adversary import SIGNERS, Battle
from ..contract.city import City
from ..contract.evm import Evm
from ..cores import Durable

AMOUNTS = st.lists(st.integers(1, 9), max_size=3)
RECENT = st.integers(1, 4)
DEPOSIT = 1_000


class RestoredPayee(RuleBasedStateMachine):
    """Mallory signs as many histories of her lane as she likes, and settles any of them herself."""

    built: City | None = None

    def __init__(self) -> None:
        super().__init__()
        if RestoredPayee.built is None:
            RestoredPayee.built = City.built(Evm())
        self.city = RestoredPayee.built
        self.beginning = self.city.evm.checkpoint()

    @initialize(honest=st.sampled_from(Side))
    def open(self, honest: Side) -> None:
        deposits = (0, DEPOSIT) if honest is Side.A else (DEPOSIT, 0)
        self.battle = Battle(self.city, honest, *deposits)
        self.battle.mallory_greets(None)
        self.histories: list[tuple[Payment, ...]] = [()]
        self.backups: list[Durable] = [self.battle.party.durable]

    # -- mallory ----------------------------------------------------------------------------

    @rule(of=RECENT, keeps=st.integers(0, 6), amounts=AMOUNTS, at_once=st.integers(1, 4))
    def mallory_pays(self, of: int, keeps: int, amounts: list[int], at_once: int) -> None:
        """By a history that goes on from some part of an old one, from what the payee holds on."""
        battle, old = self.battle, self.histories[-of:][0]
        history = old[:keeps] + battle.payments(amounts)
        self.histories.append(history)
        self.backups.append(battle.party.durable)
        for start in range(battle.party.state.received.total.nonce, len(history), at_once):
            made = history[start : start + at_once]
            total = replay(LaneTotal(), history[: start + len(made)])[-1]
            signature = battle.signed(total).signature
            battle.hear(
                Update(channel=battle.id, first_nonce=start + 1, signature=signature, payments=made)
            )
            self._greet()

    @rule(of=RECENT, upto=st.integers(1, 9))
    def mallory_settles_a_history(self, of: int, upto: int) -> None:
        history = self.histories[-of:][0][:upto]
        if history:
            total = replay(LaneTotal(), history)[-1]
            self._settle(total, self.battle.signed(total).signature)

    # -- the payee --------------------------------------------------------------------------

    @rule()
    def the_payee_looks(self) -> None:
        self.battle.look()

    @rule(of=st.sampled_from([0, 0, 0, 1, 2, 5]))
    @precondition(lambda self: self.battle.party.state.phase is not Phase.STOPPED)
    def the_payee_settles_and_is_restored(self, of: int) -> None:
        """It notices nothing itself: no doubt holds it up."""
        held = self.battle.party.state.received.voucher
        if held is not None:
            self._settle(held.total, held.signature)
            if not any(one.is_of(held.total) for one in self.battle.settlements()):
                return  # mallory settled more, of another history
        self.battle.party.crash(self.backups[of % len(self.backups)])
        self.battle.look()
        self.battle.connect()
        self.battle.mallory_greets(None)

    @rule()
    def they_meet_again(self) -> None:
        self.battle.party.crash()
        self.battle.look()
        self.battle.connect()
        self.battle.mallory_greets(None)

    def _settle(self, total: LaneTotal, signature: bytes) -> None:
        lane = self.battle.honest.other
        self.battle.settle(SIGNERS[lane], lane, total, signature)

    def _greet(self) -> None:
        """After a quarrel they connect anew."""
        if self.battle.party.state.link is Link.DOWN:
            self.battle.connect()
            self.battle.mallory_greets(None)

    @invariant()
    def the_payee_believes_in_no_more_than_it_is_paid(self) -> None:
        if not hasattr(self, "battle"):
            return
        battle = self.battle
        held_ucent = battle.party.state.received.total.transferred_ucent
        settled_ucent = battle.view().settled_ucent[battle.honest.other]
        assert sum(battle.party.believed.values()) <= max(held_ucent, settled_ucent)

    @invariant()
    def each_life_is_told_of_each_payment_in_order(self) -> None:
        if hasattr(self, "battle"):
            state = self.battle.party.state
            assert 0 <= state.told_nonce <= state.received.total.nonce

    def teardown(self) -> None:
        self.city.evm.restore(self.beginning)


def test_a_restored_payee_believes_in_no_more_than_it_is_paid() -> None:
    run_state_machine_as_test(RestoredPayee, settings=settings(stateful_step_count=30))
