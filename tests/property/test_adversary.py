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
    precondition,
    rule,
    run_state_machine_as_test,
)

from farthing.channels.events import AskedClose, AskedPay, AskedWithdraw
from farthing.channels.messages import CloseRequest
from farthing.channels.state import OFFER_SECONDS_MAX, ChainStatus, CloseTerms, WithdrawalTerms
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal

from ..adversary import SIGNERS, WINDOW_BLOCKS, WINDOW_SECONDS, Battle
from ..contract import city as cities
from ..contract.city import City
from ..contract.evm import Evm

SIDES = st.sampled_from(Side)
AMOUNTS = st.integers(1, 60)
LIVES = st.sampled_from([1, OFFER_SECONDS_MAX, OFFER_SECONDS_MAX + 1, WINDOW_SECONDS])


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

    @rule()
    def honest_asks_to_close(self) -> None:
        self.battle.ask(AskedClose())

    @rule(amount=AMOUNTS)
    def honest_asks_to_withdraw(self, amount: int) -> None:
        self.battle.ask(AskedWithdraw(amount_ucent=amount))

    @rule()
    def honest_withdraws_everything(self) -> None:
        balance = self.battle.party.state.our_balance_ucent()
        self.battle.ask(AskedWithdraw(amount_ucent=balance))

    @rule()
    def honest_looks(self) -> None:
        self.battle.look()

    @rule()
    def honest_crashes_and_boots(self) -> None:
        self.battle.party.crash()
        self.battle.connect()

    @rule(seconds=st.sampled_from([1, 15, 121, 900, WINDOW_SECONDS]), looks=st.booleans())
    def wait(self, seconds: int, looks: bool) -> None:
        self.battle.wait(seconds, min(seconds, WINDOW_BLOCKS), looks=looks)

    @rule()
    def reconnect(self) -> None:
        self.battle.connect()

    # -- what mallory says ------------------------------------------------------------------

    @rule(
        amounts=st.lists(AMOUNTS, min_size=1, max_size=3),
        forged=st.sampled_from([False, False, False, True]),
        skips=st.sampled_from([0, 0, 0, 0, 1, -1]),
    )
    def mallory_pays(self, amounts: list[int], forged: bool, skips: int) -> None:
        if self.battle.party.state.received.claimed.nonce + skips >= 0:
            self.battle.mallory_pays(amounts, forged=forged, skips=skips)

    @rule()
    def mallory_pays_all_she_has(self) -> None:
        state = self.battle.party.state
        left = state.peer_balance_ucent(state.received.claimed.transferred_ucent)
        if left > 0:
            self.battle.mallory_pays([left], forged=False, skips=0)

    @rule(shown=st.none() | st.integers(0, 8))
    def mallory_greets(self, shown: int | None) -> None:
        self.battle.mallory_greets(shown)

    @rule()
    def mallory_greets_with_the_newest(self) -> None:
        vouchers = self.battle.heard.vouchers
        self.battle.mallory_greets(len(vouchers) - 1 if vouchers else None)

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

    @rule(side=SIDES, total=AMOUNTS, lives=LIVES, accepts=st.booleans())
    def mallory_signs_a_withdrawal(self, side: Side, total: int, lives: int, accepts: bool) -> None:
        expires = self.battle.city.evm.time + lives
        wish = WithdrawalTerms(side=side, total_ucent=total, expires=expires)
        self.battle.mallory_says_offer(wish, accepts=accepts)

    @rule()
    def mallory_offers_to_withdraw_all_she_has(self) -> None:
        state = self.battle.party.state
        side = state.side.other
        left = state.peer_balance_ucent(state.received.claimed.transferred_ucent)
        if left > 0:
            wish = WithdrawalTerms(
                side=side,
                total_ucent=state.withdrawn_ucent(side) + left,
                expires=state.chain.timestamp + OFFER_SECONDS_MAX if state.chain else 0,
            )
            self.battle.mallory_says_offer(wish, accepts=False)

    @rule()
    def mallory_accepts_what_is_offered(self) -> None:
        heard = self.battle.heard
        offers: list[CloseTerms | WithdrawalTerms] = [*heard.closes, *heard.withdrawals]
        for offer in offers:
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

    @rule(total=st.integers(1, 400), nonce=st.integers(0, 9), signs=st.booleans())
    def mallory_settles_her_own_lane(self, total: int, nonce: int, signs: bool) -> None:
        battle = self.battle
        made = LaneTotal(nonce=1, transferred_ucent=total, history=b"\x77" * 32)
        signature = battle.signed(made).signature if signs and nonce == 1 else b""
        sender = cities.hub if battle.honest is Side.B else cities.alice
        battle.settle(sender, battle.honest.other, made, signature)

    @rule()
    def mallory_starts_to_close(self) -> None:
        sender = SIGNERS[self.battle.honest.other]
        self.battle.send(sender, "start_close", self.battle.opened, 0, b"")

    @rule()
    def mallory_finishes(self) -> None:
        self.battle.send(cities.mallory, "finish_close", self.battle.opened)

    @rule(place=st.integers(0, 4))
    def mallory_submits_a_close(self, place: int) -> None:
        closes = list(self.battle.heard.closes)
        if place < len(closes):
            self.battle.mallory_submits(closes[-1 - place])

    @rule(place=st.integers(0, 4))
    def mallory_submits_a_withdrawal(self, place: int) -> None:
        withdrawals = list(self.battle.heard.withdrawals)
        if place < len(withdrawals):
            self.battle.mallory_submits(withdrawals[-1 - place])

    @rule(side=SIDES, amount=AMOUNTS)
    def somebody_tops_up(self, side: Side, amount: int) -> None:
        self.battle.top_up(side, amount)

    # -- what must hold ---------------------------------------------------------------------

    @rule()
    @precondition(lambda self: self.battle.view().status is not ChainStatus.CLOSED)
    def each_alone_could_finish_now(self) -> None:
        for side in Side:
            with self.battle.what_if():
                self.battle.finish_alone(side)

    @invariant()
    def the_honest_party_never_promises_more_than_it_owns(self) -> None:
        assert self.battle.party.state.our_balance_ucent() >= 0

    def teardown(self) -> None:
        if hasattr(self, "battle"):
            if self.battle.view().status is ChainStatus.CLOSED:
                self.battle.check_end()
            else:
                self.each_alone_could_finish_now()
        self.city.evm.restore(self.beginning)


def test_whatever_mallory_does_the_honest_party_gets_its_own() -> None:
    # A step here is a transaction or two on a real EVM: half as many examples as elsewhere.
    profile = settings.default
    assert profile is not None
    examples = profile.max_examples // 2
    run_state_machine_as_test(
        Adversary, settings=settings(max_examples=examples, stateful_step_count=50)
    )
