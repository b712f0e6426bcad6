"""Mallory's wallets against a real hub's process on a real chain: nothing is gained by lying."""

import pytest
import trio

from farthing.channels.eip712 import close_digest, withdrawal_digest
from farthing.channels.ids import to_hex
from farthing.channels.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Message,
    Reestablish,
    Update,
    WithdrawalAccept,
    WithdrawalOffer,
)
from farthing.channels.state import OFFER_SECONDS, OFFER_SECONDS_MAX
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from farthing.channels.voucher import LaneTotal, replay

from ..hub_world import FLOW_UCENT
from .hub import HonestHub, be_rewarded, rows_of
from .mallory import Mallory, errors, usage

HISTORY = 12


async def with_history(hub: HonestHub, mallory: Mallory, payments: int = HISTORY) -> None:
    """So many payments each way, each with a voucher of its own."""
    async with mallory.dialled(hub.port, hub.signer):
        await mallory.greet()
        for number in range(1, payments + 1):
            await be_rewarded(mallory)
            await mallory.pay(number * 100)


def end_windows(hub: HonestHub) -> None:
    hub.city.warp(CHALLENGE_SECONDS_MIN + 1)
    hub.city.mine(CHALLENGE_BLOCKS_MIN + 1)


def tokens(hub: HonestHub, mallory: Mallory) -> int:
    return hub.city.treasury.balance_ucent(mallory.signer.address)


# -- closes ----------------------------------------------------------------------------------------


def test_whichever_old_state_a_wallet_closes_with_the_hub_gets_all_it_is_entitled_to(
    hub: HonestHub,
) -> None:
    every = [hub.take() for _ in range(HISTORY + 1)]

    async def live() -> None:
        async with trio.open_nursery() as nursery:
            for mallory in every:
                nursery.start_soon(with_history, hub, mallory)

    trio.run(live)
    paid = sum(100 * number for number in range(1, HISTORY + 1))
    entitled = HISTORY * FLOW_UCENT - paid
    for k, mallory in enumerate(every):
        chain = hub.chain(mallory)
        rows = rows_of(mallory, HISTORY, k)  # all that the hub paid, and the k-th of her own
        assert chain.settle(rows).settled == len(rows)
        chain.start_close(mallory.terms)
    for mallory in every:
        hub.until(lambda m=mallory: hub.row(m)["settled_ucent"] == HISTORY * FLOW_UCENT + paid)  # type: ignore[misc]
    end_windows(hub)
    for mallory in every:
        hub.until_phase(mallory, "closed")
        assert tokens(hub, mallory) == entitled


def test_what_is_paid_in_one_channel_cannot_be_settled_twice_or_lowered(hub: HonestHub) -> None:
    mallory = hub.take()
    trio.run(with_history, hub, mallory, 4)
    chain = hub.chain(mallory)
    assert chain.settle(rows_of(mallory, 4, 4)).settled == 2
    older = [row for k in range(1, 5) for row in rows_of(mallory, k, k)]
    mined = chain.settle(older)
    assert (mined.settled, mined.skipped) == (0, len(older))


# -- what is withheld, and what comes late ---------------------------------------------------------


def test_a_wallet_that_acknowledges_nothing_is_paid_no_twice_and_the_hub_gets_its_own(
    hub: HonestHub,
) -> None:
    mallory = hub.take()
    mallory.acknowledges = False

    async def take_and_say_nothing() -> None:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            for _ in range(3):
                await be_rewarded(mallory)
            await mallory.pay(500)
        kept, mallory.theirs = mallory.theirs, []
        async with mallory.dialled(hub.port, hub.signer):  # as if it had never got anything
            await mallory.greet()
            await mallory.until(lambda: mallory.their_total.nonce == 3)
        assert mallory.their_total == kept[-1].total

    trio.run(take_and_say_nothing)
    row = hub.row(mallory)
    assert (row["unacknowledged"], row["rewarded_ucent"]) == (3, 3 * FLOW_UCENT)
    hub.process.ask("close", channel=to_hex(mallory.channel), unilateral=True)
    hub.until(lambda: bool(hub.row(mallory)["settled_ucent"] == 3 * FLOW_UCENT + 500))
    end_windows(hub)
    hub.until_phase(mallory, "closed")
    assert tokens(hub, mallory) == 3 * FLOW_UCENT - 500


def test_a_wallet_that_never_shows_what_it_holds_is_sent_nothing_and_takes_nothing(
    hub: HonestHub,
) -> None:
    mallory = hub.take()

    async def never() -> list[Message]:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.answers()
            await mallory.say(mallory.update(usage(1)))
            await mallory.until(lambda: bool(errors(mallory.heard)))
            await mallory.say(CloseRequest(channel=mallory.channel))
            await mallory.until(lambda: len(errors(mallory.heard)) == 2)
            return list(mallory.heard)

    heard = trio.run(never)
    assert errors(heard) == ["not-now", "not-now"]
    assert not any(isinstance(message, Update | CloseOffer) for message in heard)
    assert hub.row(mallory)["received_ucent"] == 0


def test_a_second_signature_on_a_withdrawal_that_comes_after_its_time_takes_nothing(
    hub: HonestHub,
) -> None:
    mallory = hub.take()
    hub.city.warp(1)
    hub.caught_up()

    async def offered() -> WithdrawalOffer:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await mallory.answers()
            asked = {"channel": to_hex(mallory.channel), "amount_ucent": 1000}
            await trio.to_thread.run_sync(lambda: hub.process.ask("withdraw", **asked))
            await mallory.until(lambda: any(isinstance(m, WithdrawalOffer) for m in mallory.heard))
            return next(m for m in mallory.heard if isinstance(m, WithdrawalOffer))

    offer = trio.run(offered)
    before = hub.row(mallory)["available_ucent"]
    hub.city.warp(OFFER_SECONDS_MAX)
    hub.until(lambda: bool(hub.row(mallory)["available_ucent"] == before + 1000))

    async def answer_late() -> list[str]:
        signature = mallory.signer.sign_digest(
            withdrawal_digest(
                mallory.domain.separator(),
                channel=offer.channel,
                account=offer.account,
                total_ucent=offer.total_ucent,
                expires=offer.expires,
            )
        )
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            values = {name: getattr(offer, name) for name in offer.__dataclass_fields__}
            await mallory.say(WithdrawalAccept(**{**values, "signature": signature}))
            await mallory.until(lambda: bool(errors(mallory.heard)))
            return errors(mallory.heard)

    assert trio.run(answer_late) == ["not-now"]
    row = hub.row(mallory)
    assert (row["available_ucent"], row["withdrawn_ucent"]) == (before + 1000, 0)
    assert row["phase"] != "stopped"


def test_a_second_signature_on_a_close_that_comes_after_its_time_closes_nothing(
    hub: HonestHub,
) -> None:
    mallory = hub.take()

    async def offered() -> CloseOffer:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)
            await mallory.say(CloseRequest(channel=mallory.channel))
            await mallory.until(lambda: any(isinstance(m, CloseOffer) for m in mallory.heard))
            return next(m for m in mallory.heard if isinstance(m, CloseOffer))

    offer = trio.run(offered)
    hub.until_phase(mallory, "frozen")
    hub.city.warp(OFFER_SECONDS + 1)
    hub.until_phase(mallory, "down")

    async def answer_late() -> None:
        digest = close_digest(
            mallory.domain.separator(),
            channel=offer.channel,
            transferred_a_ucent=offer.transferred_a_ucent,
            transferred_b_ucent=offer.transferred_b_ucent,
            expires=offer.expires,
        )
        values = {name: getattr(offer, name) for name in offer.__dataclass_fields__}
        signature = mallory.signer.sign_digest(digest)
        late = CloseAccept(**{**values, "signature": signature})
        with pytest.raises(Exception, match="expired"):
            hub.chain(mallory).close(
                mallory.terms,
                totals_ucent=(offer.transferred_a_ucent, offer.transferred_b_ucent),
                expires=offer.expires,
                signatures=(offer.signature, signature),
            )
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await mallory.say(late)
            await mallory.until(lambda: "not-now" in errors(mallory.heard))
            await be_rewarded(mallory)  # and the channel goes on
            await mallory.pay(3)

    trio.run(answer_late)
    row = hub.row(mallory)
    assert (row["rewarded_ucent"], row["received_ucent"]) == (2 * FLOW_UCENT, 3)


# -- false histories -------------------------------------------------------------------------------


def test_an_acknowledgement_of_another_history_stops_the_liar_s_own_channel_and_costs_the_hub_nothing(  # noqa: E501
    hub: HonestHub,
) -> None:
    mallory, neighbour = hub.take(), hub.take()

    async def lie() -> None:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)
            await mallory.pay(300)
            mallory.acknowledges = False
            await be_rewarded(mallory)
            nonce = mallory.their_total.nonce
            await mallory.say(Ack(channel=mallory.channel, nonce=nonce, history=b"\x5a" * 32))
            await mallory.until(lambda: "channel-stopped" in errors(mallory.heard))

    trio.run(lie)
    assert hub.row(mallory)["phase"] == "stopped"
    trio.run(with_history, hub, neighbour, 1)
    hub.process.ask("close", channel=to_hex(mallory.channel), unilateral=True)
    hub.until(lambda: bool(hub.row(mallory)["settled_ucent"] == 2 * FLOW_UCENT + 300))
    end_windows(hub)
    hub.until(lambda: tokens(hub, mallory) == 2 * FLOW_UCENT - 300)


def test_a_wallet_cannot_claim_a_voucher_that_the_hub_never_signed(hub: HonestHub) -> None:
    mallory = hub.take()

    async def claim() -> None:
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)
        true = mallory.theirs[-1]
        more = replay(true.total, [usage(10**6)])[-1]
        forged = mallory.sign(more, payer=mallory.terms.account(mallory.side.other)).signature
        for signature in (true.signature, forged, bytes(65)):
            shown = type(true)(total=more, conditions=true.conditions, signature=signature)
            async with mallory.dialled(hub.port, hub.signer):
                await mallory.say(Reestablish(channel=mallory.channel, sent=None, received=shown))
                await mallory.until(lambda: mallory.ended or bool(errors(mallory.heard)))
                assert errors(mallory.heard) == ["bad-signature"]
        async with mallory.dialled(hub.port, hub.signer):
            await mallory.greet()
            await be_rewarded(mallory)

    trio.run(claim)
    assert hub.row(mallory)["rewarded_ucent"] == 2 * FLOW_UCENT


# -- doubled, out of order, cut --------------------------------------------------------------------


def test_messages_that_are_doubled_swapped_or_cut_are_counted_once_or_not_at_all(
    hub: HonestHub,
) -> None:
    mallory = hub.take()
    one, two, three = usage(11), usage(22), usage(33)
    first = mallory.update(one)
    after_one = replay(LaneTotal(), [one])[-1]
    second = mallory.update(two, after=after_one)
    third = mallory.update(three, after=replay(LaneTotal(), [one, two])[-1])

    async def acknowledged(nonce: int) -> None:
        await mallory.until(
            lambda: any(isinstance(m, Ack) and m.nonce == nonce for m in mallory.heard)
        )

    async def disorder() -> None:
        async with mallory.dialled(hub.port, hub.signer):  # doubled
            await mallory.greet()
            await be_rewarded(mallory)
            await mallory.say(first, first, first)
            await acknowledged(1)
        assert hub.row(mallory)["received_ucent"] == 11
        async with mallory.dialled(hub.port, hub.signer):  # the later one first
            await mallory.greet()
            await mallory.say(third)
            await mallory.until(lambda: mallory.ended or bool(errors(mallory.heard)))
            assert errors(mallory.heard) == ["out-of-turn"]
        assert hub.row(mallory)["received_ucent"] == 11
        async with mallory.dialled(hub.port, hub.signer):  # cut off in the middle
            await mallory.greet()
            assert mallory.wire is not None
            await mallory.wire._send_bytes(b"\0\0\1\0" + b"\x5a" * 100)
        assert hub.row(mallory)["received_ucent"] == 11
        async with mallory.dialled(hub.port, hub.signer):  # an old one again, then the rest
            await mallory.greet()
            await mallory.say(first, second, first, third, second)
            await acknowledged(3)
            await mallory.answers()
            assert not any(isinstance(message, Error) for message in mallory.heard)

    trio.run(disorder)
    assert hub.row(mallory)["received_ucent"] == 66
