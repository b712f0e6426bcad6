"""Small parts of the wallet: polling, notices, balances, and the calls it makes on the contract."""

from dataclasses import replace
from typing import Any, cast

import pytest
import trio
import trio.testing

from farthing.channels.client.abi import SettleRow
from farthing.channels.client.balance import balance_of
from farthing.channels.client.follower import Funds, poll_seconds
from farthing.channels.client.payments import PaymentAsk, RequestState
from farthing.channels.client.ports import SignerTransactions
from farthing.channels.client.pulse import NOTICES_MAX, Notices, Pulse
from farthing.channels.client.results import chain_status, channel_record
from farthing.channels.client.transaction import Call, ContractCalls, TransactionSender
from farthing.channels.deployment import Deployment
from farthing.channels.hashing import keccak256
from farthing.channels.ids import ZERO_WORD, Address
from farthing.channels.state import (
    ChainStatus,
    ChainView,
    Channel,
    CloseTerms,
    ReceivedLane,
    SentLane,
    SignedClose,
)
from farthing.channels.terms import Side, Terms
from farthing.channels.voucher import LaneTotal, Voucher


def address(name: str) -> Address:
    return Address(keccak256(name.encode())[12:])


TERMS = Terms(
    account_a=address("hub"),
    signer_a=address("hub signer"),
    account_b=address("alice"),
    signer_b=address("alice signer"),
    challenge_seconds=86_400,
    challenge_blocks=1000,
    sequence=1,
)
DEPLOYMENT = Deployment(
    chain_id=7,
    genesis_hash=bytes(32),
    block=1,
    city_credit=address("token"),
    member_registry=address("registry"),
    payment_channels=address("channels"),
    deployment=keccak256(b"deployment"),
)
CHANNEL = DEPLOYMENT.channel_id(TERMS)


def voucher(payer: Address, transferred_ucent: int) -> Voucher:
    total = LaneTotal(nonce=1, transferred_ucent=transferred_ucent, history=keccak256(b"1"))
    return Voucher(
        channel=CHANNEL, payer=payer, total=total, conditions=ZERO_WORD, signature=bytes(65)
    )


def channel(**changes: Any) -> Channel:
    view = ChainView(
        block=5,
        timestamp=50,
        status=ChainStatus.OPEN,
        deposit_ucent=(1000, 10),
        settled_ucent=(300, 20),
    )
    return replace(
        Channel(
            id=CHANNEL,
            terms=TERMS,
            side=Side.B,
            chain=view,
            sent=SentLane(voucher=voucher(TERMS.account_b, 50), acknowledged_nonce=1),
            received=ReceivedLane(voucher=voucher(TERMS.account_a, 400)),
        ),
        **changes,
    )


def closed() -> Channel:
    chain = channel().chain
    assert chain is not None
    return channel(chain=replace(chain, status=ChainStatus.CLOSED))


def test_the_chain_is_looked_at_a_hundred_times_before_a_view_is_stale() -> None:
    day = channel()
    short = channel(terms=replace(TERMS, challenge_seconds=1200))
    shortest = channel(terms=replace(TERMS, challenge_seconds=600))
    assert poll_seconds([day]) == 15
    assert poll_seconds([day, short]) == 3
    assert poll_seconds([shortest]) == 1.5
    assert poll_seconds([]) == 1
    assert poll_seconds([closed()]) == 1


def test_a_balance_adds_up() -> None:
    ask = PaymentAsk(
        id=bytes(16),
        ours=True,
        channel=CHANNEL,
        amount_ucent=7,
        purpose="refund",
        expires=1,
        state=RequestState.OPEN,
    )
    asks = [ask, replace(ask, ours=False, amount_ucent=5), replace(ask, state=RequestState.PAID)]
    balance = balance_of(
        [channel(), closed(), channel(chain=None)],
        requests=asks,
        submissions_waiting=3,
        sent_unacknowledged_ucent=2,
        funds=Funds(block=9, token_ucent=11, claimable_ucent=13),
    )
    assert balance.record() == {
        "in_channel_ucent": 10 + 400 - 50,
        "settled_ucent": 10 + 300 - 20,
        "unsettled_ucent": 70,
        "sent_unacknowledged_ucent": 2,
        "withdrawing_ucent": 0,
        "requested_ucent": 7,
        "asked_ucent": 5,
        "submissions_waiting": 3,
        "token_ucent": 11,
        "claimable_ucent": 13,
        "block": 9,
    }


def test_a_channel_is_shown_from_our_side() -> None:
    record = channel_record(channel())
    assert (record["received_ucent"], record["sent_ucent"]) == (400, 50)
    assert (record["settled_received_ucent"], record["settled_sent_ucent"]) == (300, 20)
    unseen = channel(chain=None)
    assert channel_record(unseen)["settled_sent_ucent"] == 0
    assert chain_status(unseen) is ChainStatus.NEVER


async def test_everybody_hears_a_notice_and_nobody_who_left() -> None:
    notices = Notices()
    first, second = notices.listen(), notices.listen()
    notices.tell("joined", "a channel is there", channel="0x1")
    assert (await first.receive()).values == {"channel": "0x1"}
    assert (await second.receive()).kind == "joined"
    second.close()
    notices.tell("joined", "again")
    assert (await first.receive()).text == "again"


async def test_an_owner_who_does_not_listen_costs_bounded_memory() -> None:
    notices = Notices()
    listener = notices.listen()
    for _ in range(NOTICES_MAX + 10):
        notices.tell("received", "money")
    assert listener.statistics().current_buffer_used == NOTICES_MAX


async def test_a_beat_wakes_everybody_who_waits() -> None:
    pulse, seen = Pulse(), []

    async def wait(number: int) -> None:
        await pulse.until(lambda: number in seen)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, 2)
        for number in (1, 2):
            await trio.testing.wait_all_tasks_blocked()
            seen.append(number)
            pulse.beat()


# -- transactions -------------------------------------------------------------------------------


class Recorder:
    """Stands where the sender of transactions stands, and sends nothing."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def execute(self, call: Call) -> None:
        self.calls.append(call)


@pytest.mark.parametrize("ours_is_a", [True, False])
async def test_the_signatures_of_a_close_go_to_their_sides(ours_is_a: bool) -> None:
    recorder, calls = Recorder(), ContractCalls(DEPLOYMENT)
    transactions = SignerTransactions(cast("TransactionSender", recorder), calls)
    content = CloseTerms(transferred_a_ucent=400, transferred_b_ucent=50, expires=99)
    close = SignedClose(terms=content, ours=b"o" * 65, theirs=b"t" * 65)
    await transactions.close(TERMS, close, ours_is_a=ours_is_a)
    first, second = (b"o" * 65, b"t" * 65) if ours_is_a else (b"t" * 65, b"o" * 65)
    assert recorder.calls == [calls.close(TERMS, content, signature_a=first, signature_b=second)]
    with pytest.raises(ValueError, match="one side"):
        await transactions.close(TERMS, replace(close, theirs=None), ours_is_a=ours_is_a)


async def test_the_wallets_other_calls_are_the_contracts() -> None:
    recorder, calls = Recorder(), ContractCalls(DEPLOYMENT)
    transactions = SignerTransactions(cast("TransactionSender", recorder), calls)
    received = voucher(TERMS.account_a, 400)
    await transactions.settle(TERMS, received)
    await transactions.start_close(TERMS)
    await transactions.finish_close(TERMS)
    assert recorder.calls == [
        calls.settle([SettleRow(terms=TERMS, voucher=received)]),
        calls.start_close(TERMS),
        calls.finish_close(TERMS),
    ]
