"""A wallet whose ledger was restored says so, and signs and takes nothing until it is safe."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from farthing.channels.client.folder import Folder, write_settings
from farthing.channels.client.offline import read_folder
from farthing.channels.client.results import TookTooLong
from farthing.channels.client.wallet import Wallet
from farthing.channels.refusals import NotNow
from farthing.channels.state import OFFER_SECONDS_MAX, Phase, SentLane

from .small_city import ALICE, PRICE_UCENT, SmallCity, earn, reading, until

EARNED_UCENT = 4 * PRICE_UCENT


def backup(city: SmallCity, to: Path) -> Path:
    """A copy of the ledger of a wallet that does not run."""
    folder = Folder(path=city.folder)
    shutil.copy(folder.ledger_file, to / "backup.sqlite")
    return to / "backup.sqlite"


def remove(ledger: Path) -> None:
    for end in ("", "-wal", "-shm"):
        ledger.with_name(ledger.name + end).unlink(missing_ok=True)


def restore(copy: Path, city: SmallCity) -> None:
    ledger = Folder(path=city.folder).ledger_file
    remove(ledger)
    shutil.copy(copy, ledger)


async def refresh(city: SmallCity, wallet: Wallet, *, seconds: int) -> None:
    city.chain.mine(seconds=seconds)
    for channel in list(city.hub.driver.channels):
        city.hub.hold(channel)
    await wallet._follower.refresh()


async def is_linked(city: SmallCity, wallet: Wallet) -> None:
    """Wait until both sides have shown their vouchers on the restored channel."""
    await until(wallet, lambda: any(not c.fresh_boot for c in wallet.channels()))
    hub = city.hub.driver
    hub.on_change = city.hub.heard.beat
    with trio.fail_after(10):
        await city.hub.heard.until(
            lambda: any(c.phase is Phase.LIVE for c in hub.channels.values())
        )


async def forget_a_withdrawal(city: SmallCity, tmp_path: Path, amount_ucent: int) -> None:
    """Withdraw, and put back the ledger from before."""
    async with city.wallet() as wallet:
        await earn(wallet)
    copy = backup(city, tmp_path)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await wallet.withdraw(amount_ucent, timeout_seconds=10)
    restore(copy, city)


async def test_a_restored_wallet_says_so_and_takes_nothing_for_two_minutes(
    city: SmallCity, tmp_path: Path
) -> None:
    await forget_a_withdrawal(city, tmp_path, 20_000)
    async with city.wallet() as wallet:
        notices = wallet.listen()
        with trio.fail_after(10):
            notice = await notices.receive()
        assert (notice.kind, f"{OFFER_SECONDS_MAX} s of chain time" in notice.text) == (
            "restored",
            True,
        )
        await wallet._follower.refresh()  # the first block that it sees
        await is_linked(city, wallet)
        status = wallet.status()
        assert (status["restored"], status["channels"][0]["phase"]) == (True, "restored")
        assert wallet.balance().in_channel_ucent == EARNED_UCENT - 20_000  # the chain says so
        for attempt in (wallet.pay(1, "parking"), wallet.withdraw(1)):
            with pytest.raises(NotNow, match="restored"):
                await attempt
        city.hub.pay(7)
        city.hub.pay(8)
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX)
        assert wallet.channels()[0].phase.value == "restored"
        assert wallet.channels()[0].received.total.transferred_ucent == EARNED_UCENT
        await refresh(city, wallet, seconds=1)
        await wallet.join(timeout_seconds=10)
        assert wallet.status()["restored"] is False
        await until(wallet, lambda: wallet.balance().in_channel_ucent == EARNED_UCENT - 19_985)
        with trio.fail_after(10):
            while (await notices.receive()).kind != "doubt-over":
                pass
        done = await wallet.withdraw(5_000, timeout_seconds=10)
        assert done.total_ucent == 25_000
    assert city.chain.tokens == {ALICE.address: 25_000}
    async with city.wallet() as wallet:
        assert not wallet.status()["restored"]


async def test_an_offer_that_was_forgotten_is_dead_before_another_is_signed(
    city: SmallCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub holds a withdrawal that both signed, and submits it in its last second."""
    async with city.wallet() as wallet:
        await earn(wallet)
    copy = backup(city, tmp_path)
    submit = city.hub.on_submit_withdrawal
    monkeypatch.setattr(city.hub, "on_submit_withdrawal", lambda channel, withdrawal: None)
    with monkeypatch.context() as down:
        down.setattr(city.chain, "withdraw", _nothing)
        async with city.wallet() as wallet:
            await wallet.join(timeout_seconds=10)
            with pytest.raises(TookTooLong):
                await wallet.withdraw(EARNED_UCENT, timeout_seconds=0.5)
    (channel,) = city.hub.driver.channels.values()
    signed = channel.withdrawals[channel.side.other]
    assert signed is not None
    assert signed.theirs is not None
    restore(copy, city)
    async with city.wallet() as wallet:
        await is_linked(city, wallet)
        with pytest.raises(NotNow, match="restored"):
            await wallet.pay(EARNED_UCENT, "parking")  # which would have been paid twice
        city.chain.timestamp = signed.terms.expires
        submit(channel, signed)
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX)
        assert wallet.balance().in_channel_ucent == 0
    assert city.chain.tokens == {ALICE.address: EARNED_UCENT}


async def _nothing(*_: object, **__: object) -> None:
    """A transaction that is lost."""


async def test_a_deleted_ledger_is_filled_again_after_two_minutes(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.pay(1_000, "parking", timeout_seconds=10)
        await wallet.withdraw(20_000, timeout_seconds=10)
    remove(Folder(path=city.folder).ledger_file)
    async with city.wallet() as wallet:
        await is_linked(city, wallet)
        assert wallet.status()["channels"][0]["phase"] == "restored"
        await refresh(city, wallet, seconds=1)
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX + 1)
        await wallet.join(timeout_seconds=10)
        await until(
            wallet, lambda: wallet.balance().in_channel_ucent == EARNED_UCENT - 1_000 - 20_000
        )
        assert wallet.channels()[0].sent.total.transferred_ucent == 1_000
        await wallet.pay(EARNED_UCENT - 21_000, "parking", timeout_seconds=10)


async def test_a_wallet_with_no_ledger_but_a_count_beside_it_opens_its_channel_in_doubt(
    empty_city: SmallCity,
) -> None:
    async with empty_city.wallet() as wallet:
        await wallet._follower.refresh()
    folder = Folder(path=empty_city.folder)
    remove(folder.ledger_file)
    assert folder.continuity_file.exists()
    async with empty_city.wallet() as wallet:
        with pytest.raises(TookTooLong):
            await wallet.join(timeout_seconds=1.5)
        await until(wallet, lambda: bool(wallet.channels()))
        assert wallet.channels()[0].phase is Phase.RESTORED
        await refresh(empty_city, wallet, seconds=1)
        await refresh(empty_city, wallet, seconds=OFFER_SECONDS_MAX + 1)
        await wallet.join(timeout_seconds=10)


async def test_a_closed_channel_does_not_shorten_the_doubt(city: SmallCity, tmp_path: Path) -> None:
    """What ends the doubt is a block of today, not the one in which an old channel ended."""
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.close(timeout_seconds=10)
        await wallet.join(timeout_seconds=10)
        await wallet.submit([reading()])
        await until(wallet, lambda: wallet.balance().in_channel_ucent == PRICE_UCENT)
    copy = backup(city, tmp_path)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await wallet.withdraw(1_000, timeout_seconds=10)
    restore(copy, city)
    city.chain.mine(seconds=10 * OFFER_SECONDS_MAX)
    for _ in range(3):  # each start looks at the chain anew, and is killed after that
        async with city.wallet() as wallet:
            await refresh(city, wallet, seconds=1)
            await until(wallet, lambda: wallet._driver._batch.empty)
            assert wallet.status()["restored"]
            phases = sorted(channel.phase.value for channel in wallet.channels())
            assert phases == ["closed", "restored"]
    async with city.wallet() as wallet:
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX)
        await wallet.join(timeout_seconds=10)


async def put_back_whole(city: SmallCity, tmp_path: Path) -> None:
    """Withdraw, and put back ledger and count from before, as a backup of the folder does."""
    async with city.wallet() as wallet:
        await earn(wallet)
        assert wallet.folder.continuity_file == wallet._driver._continuity.path
    copy = backup(city, tmp_path)
    count = Folder(path=city.folder).continuity_file
    saved = count.read_bytes()
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await wallet.withdraw(1_000, timeout_seconds=10)
    restore(copy, city)
    count.write_bytes(saved)


async def test_a_folder_put_back_with_its_count_is_in_doubt_all_the_same(
    city: SmallCity, tmp_path: Path
) -> None:
    """The count outside of the folder shows it, until the doubt is over."""
    await put_back_whole(city, tmp_path)
    async with city.wallet() as wallet:
        assert wallet.status()["restored"]
        await wallet._follower.refresh()  # the first block that it sees
        await is_linked(city, wallet)
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX + 1)
        await wallet.join(timeout_seconds=10)
    async with city.wallet() as wallet:
        assert not wallet.status()["restored"]


async def test_a_folder_on_another_machine_is_in_doubt_once(
    city: SmallCity, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        assert not wallet.status()["restored"]
    (kept,) = (machine / "farthing").iterdir()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(machine / "another"))
    async with city.wallet() as wallet:
        assert wallet.status()["restored"]
        await wallet._follower.refresh()
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX + 1)
        await wallet.join(timeout_seconds=10)
    async with city.wallet() as wallet:
        assert not wallet.status()["restored"]


async def test_without_a_count_elsewhere_a_folder_put_back_whole_shows_nothing(
    city: SmallCity, tmp_path: Path
) -> None:
    """What `marker_dir` "none" gives up, and why it is not the default."""
    folder = Folder(path=city.folder)
    write_settings(folder, replace(folder.settings(), marker_dir="none"))
    await put_back_whole(city, tmp_path)
    async with city.wallet() as wallet:
        assert not wallet.status()["restored"]


# -- what the hub has settled of which the wallet holds less -------------------------------------


async def settle_all(city: SmallCity) -> None:
    """The hub settles all that it has signed, acknowledged or not."""
    (channel,) = city.hub.driver.channels.values()
    assert channel.sent.voucher is not None
    await city.chain.settle(channel.terms, channel.sent.voucher)


async def received(wallet: Wallet, count: int) -> list[tuple[int, int]]:
    """The first payments that the wallet tells of: their numbers and amounts."""
    incoming = wallet.receive(from_start=True)
    with trio.fail_after(10):
        found = [await anext(incoming) for _ in range(count)]
    return [(payment.nonce, payment.amount_ucent) for payment in found]


async def nothing_more(wallet: Wallet, told: int) -> None:
    """The wallet tells of no more payments than that, now or from its database."""
    incoming = wallet.receive(from_start=True)
    for _ in range(told):
        await anext(incoming)
    with trio.move_on_after(0.2) as waiting:
        await anext(incoming)
    assert waiting.cancelled_caught


async def test_what_the_hub_settled_before_the_wallet_had_it_is_told_once(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await is_linked(city, wallet)
        city.hub.pay(700)
        city.hub.pay(800)
        for wire in city.hub.wires:  # before they are sent
            city.hub.driver.unlink(wire)
        await city.hub.driver.wait_durable()
        assert wallet.channels()[0].received.total.nonce == 0
    await settle_all(city)
    async with city.wallet() as wallet:
        notices = wallet.listen()
        assert await received(wallet, 2) == [(1, 700), (2, 800)]
        await nothing_more(wallet, 2)
        told = []
        with trio.move_on_after(0.2):
            while True:
                notice = await notices.receive()
                if notice.kind == "received":
                    told.append((notice.values["first_nonce"], notice.values["payments"]))
        assert sum(payments for _, payments in told) == 2
    async with city.wallet() as wallet:
        await nothing_more(wallet, 2)


async def test_a_restored_wallet_is_told_again_of_the_history_that_was_settled(
    city: SmallCity,
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await settle_all(city)
    remove(Folder(path=city.folder).ledger_file)
    async with city.wallet() as wallet:
        await is_linked(city, wallet)
        await refresh(city, wallet, seconds=1)
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX + 1)
        await wallet.join(timeout_seconds=10)
        every = [(nonce, PRICE_UCENT) for nonce in range(1, 5)]
        assert await received(wallet, 4) == every
        assert wallet.channels()[0].untold_from is None


async def test_a_hub_that_pays_a_restored_wallet_otherwise_than_it_settled_pays_it_nothing(
    city: SmallCity, tmp_path: Path
) -> None:
    """It signs other payments up to the settled total: none of them would ever be paid for."""
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        await is_linked(city, wallet)
        city.hub.pay(700)
        city.hub.pay(800)
        assert await received(wallet, 2) == [(1, 700), (2, 800)]
    await settle_all(city)
    remove(Folder(path=city.folder).ledger_file)
    hub = city.hub.driver
    await hub.flush()  # nobody else writes to its database while this test does
    (channel,) = hub.channels.values()
    hub.channels[channel.id] = replace(channel, sent=SentLane())  # it signs its lane anew
    city.hub.ledger.commit((), (), [("DELETE FROM payment", ())])
    async with city.wallet() as wallet:
        await is_linked(city, wallet)
        await refresh(city, wallet, seconds=1)
        await refresh(city, wallet, seconds=OFFER_SECONDS_MAX + 1)
        await wallet.join(timeout_seconds=10)
        await is_linked(city, wallet)
        city.hub.pay(600)
        await until(wallet, lambda: wallet.channels()[0].received.total.nonce == 1)
        city.hub.pay(900)
        await until(wallet, lambda: wallet.channels()[0].stopped is not None)
        await wallet.wait_durable()
        reason = wallet.channels()[0].stopped or ""
        assert "settled 1500 µ¢ as payment 2" in reason
        assert "from 1 on are kept as evidence" in reason
        await nothing_more(wallet, 0)
    with read_folder(Folder(path=city.folder)) as view:
        assert (view.history(), view.count_payments()) == ([], 0)
        evidence = [json.loads(line)["amount_ucent"] for line in view.receipts()]
    assert evidence == [600, 900]
    async with city.wallet() as wallet:
        await nothing_more(wallet, 0)
