"""Mallory's hub against a real wallet's process on a real chain: nothing is gained by lying."""

from dataclasses import replace
from typing import Any

import pytest
import trio

from farthing.channels.client.control import RemoteUncertainty
from farthing.channels.events import ChannelMessage
from farthing.channels.ids import Address, to_hex
from farthing.channels.messages import (
    Ack,
    ChannelTerms,
    CloseRequest,
    Error,
    Hello,
    Message,
    PaymentRefused,
    PaymentRequest,
    Ping,
    Pong,
    ReadingOutcome,
    Reestablish,
)
from farthing.channels.state import Phase
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from farthing.channels.voucher import LaneTotal, replay

from .hub import rows_of
from .mallory import EVERY_MESSAGE, Mallory, errors, flipped, some, usage
from .wallet import HonestWallet

HISTORY, PAID_BACK = 12, 4
"""Payments of the hub, whose every state is tried, and of the wallet: each is a command."""


async def wallet_pays(wallet: HonestWallet, mallory: Mallory, amount_ucent: int) -> None:
    """A person at the wallet pays, and the hub takes it."""
    before = mallory.their_total.nonce
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            trio.to_thread.run_sync,
            lambda: wallet.process.ask("pay", amount_ucent=amount_ucent, purpose="parking"),
        )
        await mallory.until(lambda: mallory.their_total.nonce == before + 1)
        if mallory.acknowledges:
            await mallory.answers()


async def with_history(wallet: HonestWallet, mallory: Mallory, payments: int = HISTORY) -> None:
    async with wallet.called(mallory):
        await wallet.greet(mallory)
        for number in range(1, payments + 1):
            await mallory.pay(1000)
            if number <= PAID_BACK:
                await wallet_pays(wallet, mallory, number)


def end_windows(wallet: HonestWallet) -> None:
    wallet.city.warp(CHALLENGE_SECONDS_MIN + 1)
    wallet.city.mine(CHALLENGE_BLOCKS_MIN + 1)


def tokens(wallet: HonestWallet) -> int:
    return wallet.city.treasury.balance_ucent(wallet.account)


def test_whichever_old_state_a_hub_closes_with_the_wallet_gets_all_it_is_entitled_to(
    wallet: HonestWallet,
) -> None:
    every = [wallet.take() for _ in range(HISTORY + 1)]

    async def live() -> None:
        for mallory in every:
            await with_history(wallet, mallory)

    trio.run(live)
    paid = sum(range(1, PAID_BACK + 1))
    before = tokens(wallet)
    for k, mallory in enumerate(every):
        # All that the wallet paid, and the k-th of its own: which pays the wallet least.
        rows = rows_of(mallory, PAID_BACK, k)
        assert wallet.chain.settle(rows).settled == len(rows)
        wallet.chain.start_close(mallory.terms)
    for mallory in every:
        wallet.until(
            lambda m=mallory: wallet.row(m)["settled_received_ucent"] == HISTORY * 1000  # type: ignore[misc]
        )
    end_windows(wallet)
    for mallory in every:
        wallet.chain.finish_close(mallory.terms)
    for mallory in every:
        wallet.until_phase(mallory, "closed")
    assert tokens(wallet) - before == len(every) * (HISTORY * 1000 - paid)


# -- every message at every moment --------------------------------------------------------------

SILENT: dict[type[Any], str] = {
    Ping: "it is answered by a Pong",
    Pong: "an answer to nothing is nothing",
    Error: "what a hub complains of is shown to the person",
    ReadingOutcome: "the outcome of what was never submitted decides nothing",
    PaymentRequest: "it waits for the person, who decides whether to pay",
    PaymentRefused: "a refusal of what was never asked refuses nothing",
    ChannelTerms: "terms that are not this wallet's are told to the person and not taken up",
}
"""What no error answers, and why; everything else is refused aloud."""

NOT_HERE = {
    Phase.UNCONFIRMED: "a wallet takes a channel up once it has read it on the chain",
    Phase.DOWN: "whoever speaks is connected",
    Phase.RESTORED: "tests/end_to_end/test_restored_processes.py puts a database back",
    Phase.FROZEN: "a wallet that has signed a close holds both signatures, and submits it at once",
}
PHASES = [phase for phase in Phase if phase not in NOT_HERE]


async def reach(wallet: HonestWallet, mallory: Mallory, phase: Phase) -> None:
    """On a new connection; what lasts was prepared before."""
    if phase is Phase.STOPPED:
        await mallory.answers()
        return
    await mallory.until(lambda: any(isinstance(m, Reestablish) for m in mallory.heard))
    if phase is Phase.LIVE:
        await mallory.greet()
    if phase is Phase.DRAINING:  # as if nothing of the wallet's had come: it is not quiet
        await mallory.say(Reestablish(channel=mallory.channel, sent=None, received=None))
    await mallory.answers()
    await trio.to_thread.run_sync(wallet.until_phase, mallory, phase.value)


def ask_for_close(wallet: HonestWallet, mallory: Mallory) -> None:
    with pytest.raises(RemoteUncertainty):  # the hub does not answer, so it goes on waiting
        wallet.process.ask("close", channel=to_hex(mallory.channel), timeout_seconds=0.2)


async def prepare(wallet: HonestWallet, mallory: Mallory, phase: Phase) -> None:
    async with wallet.called(mallory):
        await wallet.greet(mallory)
        await mallory.pay(1000)
        if phase in (Phase.DRAINING, Phase.STOPPED):
            mallory.acknowledges = False
        if phase is not Phase.STOPPED:
            pay = {"amount_ucent": 10, "purpose": "parking", "timeout_seconds": 0.05}
            await trio.to_thread.run_sync(lambda: wallet.process.ask("pay", **pay))
            await mallory.until(lambda: mallory.their_total.nonce == 1)
            await mallory.answers()
        if phase is Phase.DRAINING:
            mallory.theirs.clear()
            await trio.to_thread.run_sync(ask_for_close, wallet, mallory)
        if phase is Phase.STOPPED:
            pay = {"amount_ucent": 10, "purpose": "parking", "timeout_seconds": 0.05}
            await trio.to_thread.run_sync(lambda: wallet.process.ask("pay", **pay))
            await mallory.until(lambda: mallory.their_total.nonce == 1)
            await mallory.say(Ack(channel=mallory.channel, nonce=1, history=b"\x5a" * 32))
            await mallory.until(lambda: "channel-stopped" in errors(mallory.heard))
    if phase in (Phase.CLOSING, Phase.CLOSED):
        await trio.to_thread.run_sync(close_on_chain, wallet, mallory, phase)


def close_on_chain(wallet: HonestWallet, mallory: Mallory, phase: Phase) -> None:
    wallet.chain.start_close(mallory.terms)
    wallet.until(lambda: bool(wallet.row(mallory)["settled_received_ucent"] == 1000))
    if phase is Phase.CLOSED:
        end_windows(wallet)
        wallet.chain.finish_close(mallory.terms)
    wallet.until_phase(mallory, phase.value)


def is_silent(kind: type[Any], phase: Phase) -> bool:
    """A stopped channel is not spoken for any more: what is said of it is dropped."""
    return kind in SILENT or (phase is Phase.STOPPED and issubclass(kind, ChannelMessage))


def until_rests(wallet: HonestWallet, mallory: Mallory, phase: Phase) -> None:
    wallet.until(lambda: wallet.row(mallory)["phase"] in (phase.value, "down"))


async def send_each(wallet: HonestWallet, mallory: Mallory, phase: Phase) -> int:
    before: dict[str, Any] | None = None
    kinds = [k for k in EVERY_MESSAGE if k is not CloseRequest or phase not in AGREES]
    for kind in kinds:
        async with wallet.called(mallory):
            await reach(wallet, mallory, phase)
            before = before or await trio.to_thread.run_sync(wallet.money, mallory)
            start = len(mallory.heard)
            await mallory.say(some(kind, mallory))
            if is_silent(kind, phase):
                heard = await mallory.answers()
                assert not mallory.ended, kind
                assert errors(heard) == [], kind
            else:
                await mallory.until(
                    lambda start=start: mallory.ended or bool(errors(mallory.heard[start:]))  # type: ignore[misc]
                )
                assert errors(mallory.heard[start:]), kind
        after = await trio.to_thread.run_sync(wallet.row, mallory)
        assert before == {key: after[key] for key in before or {}}, kind
        if phase not in (Phase.GREETING, Phase.LIVE):  # which end with their connection
            await trio.to_thread.run_sync(until_rests, wallet, mallory, phase)
    return len(kinds)


AGREES = {Phase.LIVE, Phase.DRAINING}
"""Where a hub that asks for a close asks for what it may."""


@pytest.mark.parametrize("phase", PHASES, ids=[phase.value for phase in PHASES])
def test_no_message_at_a_wrong_moment_changes_anything(wallet: HonestWallet, phase: Phase) -> None:
    mallory = wallet.take()
    trio.run(prepare, wallet, mallory, phase)
    assert trio.run(send_each, wallet, mallory, phase) >= len(EVERY_MESSAGE) - 1
    if phase is Phase.LIVE:
        trio.run(still_works, wallet, mallory)


async def still_works(wallet: HonestWallet, mallory: Mallory) -> None:
    """An honest connection after all that: paid in both directions."""
    mallory.acknowledges = True
    async with wallet.called(mallory):
        await wallet.greet(mallory)
        await mallory.pay(1000)
        await wallet_pays(wallet, mallory, 5)
        row = await trio.to_thread.run_sync(wallet.row, mallory)
        assert row["received_ucent"] == mallory.total.transferred_ucent
        assert row["sent_ucent"] == mallory.their_total.transferred_ucent


# -- forged, imposed, out of order --------------------------------------------------------------


def test_one_bit_of_a_payment_changed_is_no_payment(wallet: HonestWallet) -> None:
    mallory = wallet.take()

    async def forge() -> int:
        async with wallet.called(mallory):
            await wallet.greet(mallory)
            await mallory.pay(1000)
        update, tried = mallory.update(usage(7)), 0
        for payload in list(flipped(update))[::3]:
            async with wallet.called(mallory):
                await wallet.greet(mallory)
                await mallory.say_bytes(payload)
                await mallory.answers()
                tried += 1
        assert wallet.row(mallory)["received_ucent"] == 1000
        return tried

    assert trio.run(forge) > 60
    trio.run(still_works, wallet, mallory)


def test_terms_that_are_not_the_wallet_s_own_are_never_spoken_for(wallet: HonestWallet) -> None:
    mallory = wallet.take()
    terms = mallory.terms
    imposed = [
        replace(terms, account_b=Address(b"\x5a" * 20)),
        replace(terms, signer_b=Address(b"\x5a" * 20)),
        replace(terms, signer_a=Address(b"\x5a" * 20)),
        replace(terms, sequence=terms.sequence + 1000),  # well formed, and nowhere on the chain
        replace(terms, challenge_blocks=terms.challenge_blocks + 1),
    ]

    async def impose() -> None:
        known = len(wallet.process.ask("channels"))
        for bad in imposed:
            liar = replace(mallory, terms=bad, heard=[])
            liar.channel = wallet.city.deployment.channel_id(bad)
            async with wallet.called(liar):
                await liar.say(Reestablish(channel=liar.channel, sent=None, received=None))
                await liar.say(liar.update(usage(9)))
                heard = await liar.answers()
                assert not any(isinstance(m, Reestablish | Ack) for m in heard), bad
        assert len(wallet.process.ask("channels")) == known

    trio.run(impose)
    trio.run(still_works, wallet, mallory)


def test_payments_that_are_doubled_swapped_or_cut_are_counted_once_or_not_at_all(
    wallet: HonestWallet,
) -> None:
    mallory = wallet.take()
    one, two, three = usage(11), usage(22), usage(33)
    first = mallory.update(one)
    second = mallory.update(two, after=replay(LaneTotal(), [one])[-1])
    third = mallory.update(three, after=replay(LaneTotal(), [one, two])[-1])

    async def acknowledged(nonce: int) -> None:
        await mallory.until(
            lambda: any(isinstance(m, Ack) and m.nonce == nonce for m in mallory.heard)
        )

    async def disorder() -> None:
        async with wallet.called(mallory):
            await wallet.greet(mallory)
            await mallory.say(first, first, first)
            await acknowledged(1)
        async with wallet.called(mallory):
            await wallet.greet(mallory)
            await mallory.say(third)
            await mallory.until(lambda: mallory.ended or bool(errors(mallory.heard)))
            assert errors(mallory.heard) == ["out-of-turn"]
        assert wallet.row(mallory)["received_ucent"] == 11
        async with wallet.called(mallory):
            await wallet.greet(mallory)
            await mallory.say(first, second, first, third, second)
            await acknowledged(3)

    trio.run(disorder)
    assert wallet.row(mallory)["received_ucent"] == 66


def test_a_hub_that_acknowledges_nothing_is_not_paid_twice(wallet: HonestWallet) -> None:
    mallory = wallet.take()
    mallory.acknowledges = False

    async def take_and_say_nothing() -> list[Message]:
        async with wallet.called(mallory):
            await wallet.greet(mallory)
            await mallory.pay(1_000_000)  # so that this is the channel that the wallet pays on
            pay = {"amount_ucent": 70, "purpose": "parking", "timeout_seconds": 0.05}
            for count in (1, 2):
                await trio.to_thread.run_sync(lambda: wallet.process.ask("pay", **pay))
                await mallory.until(lambda count=count: mallory.their_total.nonce == count)  # type: ignore[misc]
        kept, mallory.theirs = mallory.theirs, []
        async with wallet.called(mallory):
            await wallet.greet(mallory)
            await mallory.until(lambda: mallory.their_total.nonce == 2)
        assert mallory.their_total == kept[-1].total
        return mallory.heard

    trio.run(take_and_say_nothing)
    row = wallet.row(mallory)
    assert (row["sent_ucent"], row["acknowledged_payments"]) == (140, 0)
    assert row["balance_ucent"] == 1_000_000 - 140


def test_what_is_sent_here_is_all_that_the_protocol_has() -> None:
    assert {Hello} | SILENT.keys() <= {*EVERY_MESSAGE}
    assert set(Phase) == {*PHASES} | NOT_HERE.keys()
    assert not any(issubclass(kind, ChannelMessage) for kind in SILENT)
