"""A payment that is asked for again under its id is made once, whatever happened in between."""

from pathlib import Path

import pytest
import trio

from farthing.channels.client.blocking import Wallet as BlockingWallet
from farthing.channels.client.ledger import LedgerUnusable
from farthing.channels.client.payment_ids import MalformedPaymentId, PaymentIdConflict
from farthing.channels.client.results import SentNoAnswer, SentPayment
from farthing.channels.client.wallet import Wallet

from .small_city import PASSWORD, SmallCity, earn, until

ID, OTHER = b"\x01" * 16, b"\x02" * 16


async def test_the_same_id_again_is_the_same_payment(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        first = await wallet.pay(700, "parking", ID)
        assert await wallet.pay(700, "parking", ID) == first
        other = await wallet.pay(700, "parking", OTHER)
        assert other.nonce == first.nonce + 1
        await wallet.pay(700, "parking")  # and without an id each is one
        assert wallet.channels()[0].sent.total.transferred_ucent == 3 * 700
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        assert await wallet.pay(700, "parking", ID) == first
        assert wallet.channels()[0].sent.total.transferred_ucent == 3 * 700


async def test_an_id_that_was_used_for_something_else_pays_nothing(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.pay(700, "parking", ID)
        for amount, purpose in ((701, "parking"), (700, "charging")):
            with pytest.raises(PaymentIdConflict, match="700 µ¢ for 'parking'"):
                await wallet.pay(amount, purpose, ID)
        for wrong in (b"", ID + b"x"):
            with pytest.raises(MalformedPaymentId):
                await wallet.pay(700, "parking", wrong)
        assert wallet.channels()[0].sent.total.nonce == 1


async def test_two_at_once_under_one_id_are_one_payment(city: SmallCity) -> None:
    """The second is asked for before the first is on disk."""
    made: list[SentPayment] = []

    async def pay(wallet: Wallet) -> None:
        made.append(await wallet.pay(700, "parking", ID))

    async with city.wallet() as wallet:
        await earn(wallet)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(pay, wallet)
        assert len(set(made)) == 1
        assert wallet.channels()[0].sent.total.transferred_ucent == 700


async def test_a_payment_without_an_answer_is_waited_for_and_not_paid_again(
    city: SmallCity,
) -> None:
    """The wallet ends before the hub has it, and is asked again when it is back."""
    async with city.wallet() as wallet:
        await earn(wallet)
        receive = city.hub.driver.receive
        city.hub.driver.receive = lambda events: None  # type: ignore[method-assign]
        with pytest.raises(SentNoAnswer):
            await wallet.pay(700, "parking", ID, timeout_seconds=0.05)
        with pytest.raises(SentNoAnswer):
            await wallet.pay(700, "parking", ID, timeout_seconds=0.05)
    city.hub.driver.receive = receive  # type: ignore[method-assign]
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        paid = await wallet.pay(700, "parking", ID, timeout_seconds=10)
        assert (paid.nonce, paid.acknowledged) == (1, True)
        await until(wallet, lambda: wallet.balance().sent_unacknowledged_ucent == 0)
        assert wallet.channels()[0].sent.total.transferred_ucent == 700


async def test_an_id_is_on_disk_exactly_if_its_payment_is(city: SmallCity) -> None:
    """The commit fails: neither is kept, and the payment can be asked for again."""

    def fail(*_: object) -> None:
        raise LedgerUnusable("the disk is full", remedy="free some")

    async def pay_on_a_full_disk() -> None:
        async with city.wallet() as wallet:
            await earn(wallet)
            await wallet.wait_durable()
            wallet._ledger.commit = fail  # type: ignore[assignment,method-assign]
            await wallet.pay(700, "parking", ID)

    with pytest.raises(LedgerUnusable):
        await pay_on_a_full_disk()
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        assert wallet.channels()[0].sent.total.nonce == 0
        paid = await wallet.pay(700, "parking", ID, timeout_seconds=10)
        assert paid.acknowledged
        assert wallet.channels()[0].sent.total.transferred_ucent == 700


async def test_a_wallet_without_an_event_loop_pays_under_an_id_too(city: SmallCity) -> None:
    def pay_twice(folder: Path) -> tuple[SentPayment, SentPayment, int]:
        ports = {"chain": city.chain, "transactions": city.chain}
        with BlockingWallet(folder, PASSWORD, **ports) as wallet:
            wallet.join(timeout_seconds=10)
            first, second = (wallet.pay(7, "parking", ID) for _ in range(2))
            return first, second, wallet.channels()[0].sent.total.nonce

    async with city.wallet() as wallet:
        await earn(wallet)
    first, second, payments = await trio.to_thread.run_sync(pay_twice, city.folder)
    assert (first, payments) == (second, 1)
