"""Contract and core together against mallory: whatever she does, the honest party gets its own.

From every state that is reached each party alone can end the channel, payouts and withdrawals equal
the deposits, and the honest party gets at least what its newest vouchers entitle it to.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from farthing.channels.events import AskedClose, AskedPay, AskedWithdraw
from farthing.channels.messages import CloseRequest
from farthing.channels.state import OFFER_SECONDS_MAX, CloseTerms, WithdrawalTerms
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal

from ..adversary import ACCOUNTS, SIGNERS, WINDOW_BLOCKS, WINDOW_SECONDS, Battle
from ..contract import city as cities
from ..contract.city import City
from ..contract.evm import Evm

SIDES = st.sampled_from(Side)
AMOUNTS = st.integers(1, 60)
EVERYTHING, NEWEST = 0, -1
LIVES = st.sampled_from([OFFER_SECONDS_MAX] * 3 + [1, OFFER_SECONDS_MAX + 1, WINDOW_SECONDS])


class Adversary(RuleBasedStateMachine):
    """Mallory's rules are what her keys allow; the honest party does what its core and shell do."""

    built: City | None = None

    def __init__(self) -> None:
        super().__init__()
        if Adversary.built is None:
            Adversary.built = City.built(Evm())
        self.city = Adversary.built
        self.beginning = self.city.evm.checkpoint()

    @initialize(honest=SIDES, deposit_a=st.integers(0, 200), deposit_b=st.integers(0, 200))
    def open(self, honest: Side, deposit_a: int, deposit_b: int) -> None:
        self.battle = Battle(self.city, honest, deposit_a, deposit_b)
        self.battle.mallory_greets(None)

    # -- what the honest party does ---------------------------------------------------------

    @rule(amounts=st.lists(AMOUNTS, min_size=1, max_size=3))
    def honest_pays(self, amounts: list[int]) -> None:
        self.battle.ask(AskedPay(payments=self.battle.payments(amounts)))

    @rule(amount=AMOUNTS | st.just(EVERYTHING))
    def honest_asks_to_withdraw(self, amount: int) -> None:
        if amount == EVERYTHING:
            amount = self.battle.party.state.our_balance_ucent()
        self.battle.ask(AskedWithdraw(amount_ucent=amount))

    @rule()
    def honest_asks_to_close(self) -> None:
        self.battle.ask(AskedClose())

    @rule(crashes=st.booleans(), shown=st.none() | st.integers(0, 8) | st.just(NEWEST))
    def they_meet_again(self, crashes: bool, shown: int | None) -> None:
        """On a new connection mallory shows what she likes of what she holds."""
        battle = self.battle
        if crashes:
            battle.party.crash()
        battle.connect()
        newest = len(battle.heard.vouchers) - 1 if battle.heard.vouchers else None
        battle.mallory_greets(newest if shown == NEWEST else shown)

    @rule(seconds=st.sampled_from([0, 1, 15, 121, 900, WINDOW_SECONDS]), looks=st.booleans())
    def wait(self, seconds: int, looks: bool) -> None:
        self.battle.wait(seconds, min(seconds, WINDOW_BLOCKS), looks=looks)

    # -- what mallory says ------------------------------------------------------------------

    @rule(
        amounts=st.lists(AMOUNTS, min_size=1, max_size=3) | st.just([EVERYTHING]),
        forged=st.sampled_from([False, False, False, True]),
        skips=st.sampled_from([0, 0, 0, 0, 1, -1]),
    )
    def mallory_pays(self, amounts: list[int], forged: bool, skips: int) -> None:
        state = self.battle.party.state
        claimed = state.received.claimed
        if amounts == [EVERYTHING]:
            amounts = [max(state.peer_balance_ucent(claimed.transferred_ucent), 1)]
        if claimed.nonce + skips >= 0:
            self.battle.mallory_pays(amounts, forged=forged, skips=skips)

    @rule(back=st.integers(0, 4), lies=st.sampled_from([False, False, False, False, True]))
    def mallory_acknowledges(self, back: int, lies: bool) -> None:
        self.battle.mallory_acknowledges(back, lies=lies)

    @rule()
    def mallory_asks_to_close(self) -> None:
        self.battle.hear(CloseRequest(channel=self.battle.id))

    @rule(totals=st.none() | st.tuples(AMOUNTS, AMOUNTS), lives=LIVES, accepts=st.booleans())
    def mallory_signs_a_close(
        self, totals: tuple[int, int] | None, lives: int, accepts: bool
    ) -> None:
        total_a, total_b = totals or self.battle.party.state.totals_ab()
        close = CloseTerms(
            transferred_a_ucent=total_a,
            transferred_b_ucent=total_b,
            expires=self.battle.city.evm.time + lives,
        )
        self.battle.mallory_says_offer(close, accepts=accepts)

    @rule(
        side=SIDES,
        total=st.just(EVERYTHING) | AMOUNTS,
        lives=LIVES,
        accepts=st.sampled_from([False, False, True]),
    )
    def mallory_signs_a_withdrawal(self, side: Side, total: int, lives: int, accepts: bool) -> None:
        state = self.battle.party.state
        expires = self.battle.city.evm.time + lives
        if total == EVERYTHING:
            side = state.side.other
            claimed_ucent = state.received.claimed.transferred_ucent
            total = max(state.withdrawn_ucent(side) + state.peer_balance_ucent(claimed_ucent), 0)
        wish = WithdrawalTerms(side=side, total_ucent=total, expires=expires)
        self.battle.mallory_says_offer(wish, accepts=accepts)

    @rule()
    def mallory_accepts_what_is_offered(self) -> None:
        for offer in self.battle.heard.offers():
            self.battle.mallory_says_offer(offer, accepts=True)

    @rule(age=st.integers(1, 20))
    def mallory_repeats_herself(self, age: int) -> None:
        if age <= len(self.battle.said):
            self.battle.hear_bytes([self.battle.said[-age]])

    # -- what mallory does on the chain -----------------------------------------------------

    @rule(place=st.integers(0, 8))
    def mallory_settles_what_she_was_given(self, place: int) -> None:
        battle = self.battle
        if place < len(battle.heard.vouchers):
            battle.settle(cities.mallory, battle.honest, *battle.heard.vouchers[place])

    @rule(total=st.integers(1, 400), signs=st.booleans())
    def mallory_settles_her_own_lane(self, total: int, signs: bool) -> None:
        battle = self.battle
        made = LaneTotal(nonce=1, transferred_ucent=total, history=b"\x77" * 32)
        signature = battle.signed(made).signature if signs else b""
        battle.settle(ACCOUNTS[battle.honest.other], battle.honest.other, made, signature)

    @rule(finishes=st.booleans())
    def mallory_closes(self, finishes: bool) -> None:
        battle = self.battle
        if finishes:
            battle.send(cities.mallory, "finish_close", battle.opened)
        else:
            battle.send(SIGNERS[battle.honest.other], "start_close", battle.opened, 0, b"")

    @rule()
    def mallory_submits_all_that_was_ever_signed(self) -> None:
        for offer in reversed(self.battle.heard.offers()):
            self.battle.mallory_submits(offer)

    @rule(side=SIDES, amount=AMOUNTS)
    def somebody_tops_up(self, side: Side, amount: int) -> None:
        self.battle.top_up(side, amount)

    # -- what must hold ---------------------------------------------------------------------

    @invariant()
    def the_honest_party_never_promises_more_than_it_owns(self) -> None:
        assert self.battle.party.state.our_balance_ucent() >= 0

    def teardown(self) -> None:
        """Wherever the run has come to, each party alone can end the channel."""
        if hasattr(self, "battle"):
            for side in Side:
                with self.battle.what_if():
                    self.battle.finish_alone(side)
        self.city.evm.restore(self.beginning)


def test_whatever_mallory_does_the_honest_party_gets_its_own() -> None:
    # A step here is a transaction or two on a real EVM: half as many examples as elsewhere.
    profile = settings.default
    assert profile is not None
    examples = profile.max_examples // 2
    run_state_machine_as_test(
        Adversary, settings=settings(max_examples=examples, stateful_step_count=50)
    )
