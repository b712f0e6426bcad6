"""Rule 5: every boot is stale, and a database that was restored may have forgotten offers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.events import (
    AskedClose,
    AskedPay,
    AskedWithdraw,
    Elapsed,
    ObservedChannel,
    Received,
    RecognisedOwn,
    RecogniseOwn,
    Step,
    TellReceived,
    TellStopped,
    TellStored,
    Verified,
    VerifyVoucher,
    VerifyWithdrawal,
)
from farthing.channels.messages import (
    CloseOffer,
    CloseRequest,
    Reestablish,
    SignedTotal,
    Update,
    WithdrawalOffer,
)
from farthing.channels.refusals import NotNow
from farthing.channels.state import OFFER_SECONDS_MAX, Link, Settlement
from farthing.channels.terms import Side
from farthing.channels.transition import step
from farthing.channels.voucher import LaneTotal, Payment, UnverifiedVoucher, Voucher, replay

from ..nodes import Node
from ..people import (
    ALICE,
    CHANNEL,
    DEPOSIT,
    NOW,
    TERMS,
    channel,
    lane,
    moment,
    payment,
    view,
    voucher,
)
from .attacks import alice_at, queued, refused, update

RESTORED: dict[str, Any] = {"link": Link.GREETING, "fresh_boot": True}
"""A wallet from a backup that holds none of its own payments, and has just connected."""


def test_a_restored_payer_signs_nothing_before_the_peer_has_shown_its_vouchers() -> None:
    with pytest.raises(NotNow):  # it would sign another first payment under its first number
        step(channel(**RESTORED), AskedPay(payments=(payment(5),)), moment())


def test_a_restored_payer_goes_on_from_the_newest_voucher_that_the_peer_shows() -> None:
    newest = voucher(Side.A, lane(5, 7))
    shown = SignedTotal(
        total=newest.total, conditions=newest.conditions, signature=newest.signature
    )
    message = Reestablish(channel=CHANNEL, sent=None, received=shown)
    asked = step(channel(**RESTORED), Received(message=message), moment())
    assert [type(effect) for effect in asked.effects] == [RecogniseOwn]
    restored = step(asked.state, RecognisedOwn(voucher=newest), moment()).state
    assert restored.stopped is None
    assert restored.sent.promised == newest.total


# -- a database that was restored ----------------------------------------------------------------

ENDS = NOW + OFFER_SECONDS_MAX


def test_a_party_that_may_have_forgotten_an_offer_accepts_and_signs_nothing() -> None:
    state = channel(doubt_ends=ENDS)
    assert refused(step(state, Received(message=update(5)), moment()).effects) == "not-now"
    with pytest.raises(NotNow):
        step(state, AskedPay(payments=(payment(),)), moment())


def test_the_doubt_lasts_until_a_confirmed_block_after_the_longest_offer_is_dead() -> None:
    late = replace(moment(ENDS + 50), head_timestamp=ENDS)
    state = step(channel(doubt_ends=ENDS), Elapsed(), late).state
    assert state.doubt_ends == ENDS
    over = replace(late, head_timestamp=ENDS + 1)
    assert step(state, Elapsed(), over).state.doubt_ends is None


async def test_a_backup_that_forgot_a_signed_offer_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "alice.sqlite"
    with alice_at(tmp_path) as (node, _):
        await node.driver.flush()
    backup = path.read_bytes()
    with alice_at(tmp_path) as (node, wire):
        assert not node.driver.in_doubt
        node.driver.feed(CHANNEL, AskedWithdraw(amount_ucent=5))
        await node.driver.flush()
        assert isinstance(queued(wire)[-1], WithdrawalOffer)
    path.write_bytes(backup)
    restored = Node(path, ALICE)
    assert restored.driver.in_doubt
    assert restored.state().doubt_ends is not None
    restored.ledger.close()


async def test_a_new_database_in_the_place_of_a_lost_one_is_noticed(tmp_path: Path) -> None:
    with alice_at(tmp_path) as (node, _):
        await node.driver.flush()
    (tmp_path / "alice.sqlite").unlink()
    with alice_at(tmp_path) as (node, _):
        assert node.state().doubt_ends is not None


def test_a_folder_brought_whole_from_another_machine_is_noticed(tmp_path: Path) -> None:
    """Database and count agree; what the other machine signed since, they cannot show."""
    for machine, in_doubt in (("one", False), ("one", False), ("another", True)):
        node = Node(tmp_path / "alice.sqlite", ALICE, elsewhere=tmp_path / machine)
        assert node.driver.in_doubt is in_doubt
        node.ledger.close()


# -- a database that has forgotten what the chain has settled ------------------------------------

BEHIND: dict[str, Any] = {"chain": view(settled_ucent=(0, 7))}
"""Alice accepted 7 from bob, settled them, and was then restored from before that."""


def test_a_restored_party_agrees_on_no_close_below_what_the_chain_has_settled() -> None:
    asked = step(channel(**BEHIND), Received(message=CloseRequest(channel=CHANNEL)), moment())
    assert asked.effects == ()
    wishes = step(channel(**BEHIND), AskedClose(), moment())
    assert wishes.effects == ()
    offer = CloseOffer(
        channel=CHANNEL,
        transferred_a_ucent=0,
        transferred_b_ucent=0,
        expires=NOW + 90,
        signature=bytes(65),
    )
    answered = step(wishes.state, Received(message=offer), moment())
    assert refused(answered.effects) == "behind-the-chain"


def test_a_restored_party_lets_nobody_withdraw_what_the_chain_has_settled() -> None:
    offer = WithdrawalOffer(
        channel=CHANNEL,
        account=TERMS.account_b,
        total_ucent=DEPOSIT - 6,
        expires=NOW + 90,
        signature=bytes(65),
    )
    asked = step(channel(**BEHIND), Received(message=offer), moment())
    assert refused(asked.effects) == "insufficient-balance"
    less = step(
        channel(**BEHIND), Received(message=replace(offer, total_ucent=DEPOSIT - 7)), moment()
    )
    assert [type(effect) for effect in less.effects] == [VerifyWithdrawal]


def settlement(*amounts_ucent: int, before_ucent: int = 0, salt: int = 0) -> Settlement:
    """Of bob's lane after these payments; another salt makes others of the same amounts."""
    total = replay(LaneTotal(), payments(*amounts_ucent, salt=salt))[-1]
    return Settlement(
        before_ucent=before_ucent,
        transferred_ucent=total.transferred_ucent,
        nonce=total.nonce,
        history=total.history,
    )


def payments(*amounts_ucent: int, salt: int = 0) -> list[Payment]:
    return [payment(amount, number=n + salt) for n, amount in enumerate(amounts_ucent, 1)]


def pays_otherwise(*settlements: Settlement, amounts: tuple[int, ...] = (4, 3)) -> Step:
    """Bob pays a restored alice 4 and 3, under his own signature, and not what was settled."""
    made = payments(*amounts, salt=50)
    signed = voucher(Side.B, replay(LaneTotal(), made)[-1])
    other = Update(channel=CHANNEL, first_nonce=1, signature=signed.signature, payments=tuple(made))
    settled = (0, settlements[-1].transferred_ucent) if settlements else (0, 7)
    seen = ObservedChannel(view=view(settled_ucent=settled), settlements=settlements)
    state = step(channel(), seen, moment()).state
    asked = step(state, Received(message=other), moment())
    if VerifyVoucher(voucher=unverified(signed)) not in asked.effects:
        return asked
    return step(asked.state, Verified(voucher=signed), moment())


def unverified(signed: Voucher) -> UnverifiedVoucher:
    return UnverifiedVoucher(
        channel=signed.channel, payer=signed.payer, total=signed.total, signature=signed.signature
    )


def told(result: Step) -> list[type]:
    kinds = TellReceived | TellStored | TellStopped
    return [type(effect) for effect in result.effects if isinstance(effect, kinds)]


def test_a_restored_payee_is_told_of_no_payments_in_the_place_of_those_that_were_settled() -> None:
    """All of it is settled already: it would deliver for it, and be paid nothing."""
    result = pays_otherwise(settlement(7))
    assert told(result) == [TellStopped]
    assert result.state.stopped is not None
    assert result.state.received.total.transferred_ucent == 7  # the evidence, for a person


def test_a_restored_payee_takes_nothing_before_it_has_read_what_was_settled() -> None:
    assert refused(pays_otherwise().effects) == "settlements-unread"


def test_a_payer_hides_no_settlement_behind_one_of_its_own() -> None:
    """An endpoint, or bob's second settlement, leaves out the one that alice has forgotten."""
    hidden = settlement(4, 3, salt=50, before_ucent=6)
    assert refused(pays_otherwise(hidden).effects) == "settlements-unread"


def test_a_settlement_of_its_own_vouches_for_nothing_before_the_one_that_was_forgotten() -> None:
    """Bob settles another history's first payment before alice settles what she forgets then."""
    rows = settlement(4, salt=50), settlement(3, 4, before_ucent=4)
    assert told(pays_otherwise(*rows, amounts=(4,))) == []


def test_part_of_what_was_settled_is_told_to_nobody() -> None:
    """Bob never pays the rest, which would show that it is another history."""
    result = pays_otherwise(settlement(4, 3, 1))
    assert told(result) == []
    assert result.state.told_nonce == 0
