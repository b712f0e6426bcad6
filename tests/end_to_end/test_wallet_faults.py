"""What a wallet does when its chain, its hub, its disk or its power fails."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from farthing.channels.client import connection
from farthing.channels.client.chain import Head, WrongGenesis
from farthing.channels.client.folder import (
    Folder,
    FolderUnusable,
    WalletInUse,
    write_settings,
)
from farthing.channels.client.follower import HeadWentBack
from farthing.channels.client.heads import BlockContradicted
from farthing.channels.client.keystore import WrongPassword
from farthing.channels.client.ledger import LedgerUnusable
from farthing.channels.client.results import TookTooLong
from farthing.channels.client.rpc import RpcUnreachable
from farthing.channels.client.wallet import open_wallet
from farthing.channels.ids import ChannelId
from farthing.channels.messages import (
    ChannelProposal,
    ReadingOutcome,
    Reestablish,
    SignedTotal,
    SubmitReadings,
)
from farthing.channels.state import ChainView
from farthing.channels.voucher import LaneTotal

from ..real_wallet import PATIENCE_SECONDS
from .small_city import (
    MALLORY,
    PASSWORD,
    PRICE_UCENT,
    TERMS,
    SmallCity,
    earn,
    make_folder,
    reading,
    until,
)


async def test_one_process_alone_runs_a_wallet(city: SmallCity) -> None:
    async with city.wallet():
        with pytest.raises(WalletInUse, match=r"run by process \d+.*or stop that process"):
            async with city.wallet():
                pass
    async with city.wallet():
        pass


async def test_after_a_connection_that_was_good_the_next_try_is_soon_however_short_it_was(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that crashes again and again: doubled each time, the wait would be over ten seconds."""
    monkeypatch.setattr(connection, "BACKOFF_SECONDS_MAX", 3_600.0)
    async with city.wallet() as wallet:
        for _ in range(13):
            await until(wallet, lambda: wallet._connection.usable() is not None)
            await city.hub.cut()
            await until(wallet, lambda: wallet._connection.usable() is None)


async def test_a_greeting_that_was_lost_on_the_way_is_made_up_for_by_dialling_again(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GREETING_SECONDS_MAX", 0.1)
    async with city.wallet() as wallet:
        notices = wallet.listen()
        await earn(wallet)
        city.hub.loses_greetings = True
        city.hub.wires[-1].close_soon()
        while (await notices.receive()).kind != "disconnected":
            pass
        while (await notices.receive()).values.get("code") != "not-greeted":
            pass
        city.hub.loses_greetings = False
        await until(wallet, lambda: wallet._connection.usable() is not None)
        assert (await wallet.pay(10, "parking", timeout_seconds=20)).acknowledged
        dialled = len(city.hub.wires)
        await trio.sleep(0.3)  # three times as long: a channel that is taken up is left in peace
        assert len(city.hub.wires) == dialled


async def test_a_proposal_without_an_answer_is_made_again(
    empty_city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PROPOSED_SECONDS_MAX", 0.1)
    empty_city.hub.ignored = (ChannelProposal,)
    async with empty_city.wallet() as wallet, trio.open_nursery() as nursery:
        nursery.start_soon(wallet.join)
        with trio.fail_after(PATIENCE_SECONDS):
            while sum(isinstance(m, ChannelProposal) for m in empty_city.hub.seen) < 3:
                await empty_city.hub.heard.wait()
        empty_city.hub.ignored = ()
    assert len(empty_city.chain.channels) == 1


async def test_a_wrong_password_opens_nothing(city: SmallCity) -> None:
    with pytest.raises(WrongPassword):
        async with open_wallet(city.folder, "wrong", chain=city.chain, transactions=city.chain):
            pass
    async with city.wallet():
        pass


async def test_a_folder_without_a_wallet_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="farthing wallet init"):
        async with open_wallet(tmp_path / "nobody", "password"):
            pass


async def test_a_wallet_that_lost_power_goes_on_from_its_disk(
    city: SmallCity, tmp_path: Path
) -> None:
    """The folder is copied while the wallet runs: what a power cut would leave, or less."""
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.ignored = (SubmitReadings,)
        submission = await wallet.submit([reading("7")])
        shutil.copytree(city.folder, tmp_path / "after", ignore=shutil.ignore_patterns("lock"))
    city.hub.ignored = ()
    restarted = replace(city, folder=tmp_path / "after")
    async with restarted.wallet() as wallet:
        outcome = await wallet.wait_outcome(submission, timeout_seconds=10)
        assert outcome.paid_ucent == PRICE_UCENT
        await until(wallet, lambda: wallet.balance().in_channel_ucent == 5 * PRICE_UCENT)
        await wallet.pay(5 * PRICE_UCENT, "all of it", timeout_seconds=10)


async def test_nothing_is_accepted_while_the_chain_cannot_be_read(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        city.chain.is_down = True
        with pytest.raises(RpcUnreachable):
            await wallet._follower.refresh()
        real_clock = wallet._follower._clock
        monkeypatch.setattr(wallet._follower, "_clock", lambda: real_clock() + 151)
        submission = await wallet.submit([reading("8")])
        await wallet.wait_outcome(submission, timeout_seconds=10)
        await until(wallet, lambda: wallet.channels()[0].refusing)
        assert wallet.balance().in_channel_ucent == 4 * PRICE_UCENT
        assert "cannot be reached" in wallet.status()["chain"]["trouble"]
        city.chain.is_down = False
        city.chain.mine(seconds=151)
        await until(wallet, lambda: wallet.balance().in_channel_ucent == 5 * PRICE_UCENT)
        assert wallet.status()["chain"]["trouble"] is None


async def test_another_chain_behind_the_endpoint_opens_no_channel(city: SmallCity) -> None:
    city.chain.identity_error = WrongGenesis(expected=bytes(32), actual=bytes(32))
    async with city.wallet() as wallet:
        with pytest.raises(TookTooLong, match="genesis"):
            await wallet.join(timeout_seconds=0.3)
        assert wallet.channels() == []


async def test_a_channel_that_the_chain_shows_later_is_taken_up_later(
    empty_city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's node sees the opening before ours does."""
    city = empty_city
    channel = city.chain.open()
    ahead = city.chain.channels.pop(channel)
    terms = city.chain.terms[channel]
    async with city.wallet() as wallet:
        await until(wallet, lambda: city.hub.wires != [])
        city.hub.introduce(city.hub.wires[0], terms)
        await until(wallet, lambda: wallet._connection._announced != {})
        await wallet._follower.refresh()
        assert wallet.channels() == []
        city.chain.channels[channel] = ahead
        city.hub.hold(channel)
        city.hub.driver.link(channel, city.hub.wires[0])
        city.chain.mine()
        assert await wallet.join(timeout_seconds=10) == channel


async def test_the_wallet_comes_back_after_every_cut(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        for number in range(5):
            await city.hub.cut()
            await wallet.submit([reading(str(number))])
        await wallet.wait_queue_empty(timeout_seconds=10)
        await until(wallet, lambda: wallet.balance().in_channel_ucent == 9 * PRICE_UCENT)


async def test_a_message_that_no_hub_sends_ends_the_connection_alone(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        notices = wallet.listen()
        city.hub.wires[-1].send(SubmitReadings(id=bytes(16), format=110, senml=b"[]"))
        with trio.fail_after(10):
            while (await notices.receive()).kind != "disconnected":
                pass
        await wallet.join(timeout_seconds=10)
        await wallet.pay(1, "still alive", timeout_seconds=10)


async def test_an_outcome_that_nobody_asked_for_changes_nothing(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        city.hub.wires[-1].send(ReadingOutcome(id=bytes(16), outcomes=()))
        await wallet.pay(1, "still alive", timeout_seconds=10)
        assert wallet.balance().submissions_waiting == 0


async def test_a_full_disk_stops_the_wallet_and_loses_nothing_acknowledged(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)

    def full(*_: object) -> None:
        raise LedgerUnusable("the disk is full", remedy="free space")

    with pytest.raises(LedgerUnusable):  # noqa: PT012 - the wallet ends with its block
        async with city.wallet() as wallet:
            monkeypatch.setattr(wallet._ledger, "commit", full)
            await wallet.submit([reading("9")])
    async with city.wallet() as wallet:
        assert wallet.balance().in_channel_ucent == 4 * PRICE_UCENT
        assert wallet.balance().submissions_waiting == 0
        await wallet.join(timeout_seconds=10)
        await wallet.pay(4 * PRICE_UCENT, "all of it", timeout_seconds=10)


async def test_a_damaged_database_is_named(city: SmallCity) -> None:
    Folder(path=city.folder).ledger_file.write_bytes(b"this is no database" * 100)
    with pytest.raises(LedgerUnusable, match=r"ledger\.sqlite"):
        async with city.wallet():
            pass


async def test_a_request_paid_just_before_a_crash_is_found_paid(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        ask = await wallet.request(5_000, "refund")
        await until(wallet, lambda: wallet._requests.get(ask.id, ours=True).nonce == 1)
    with sqlite3.connect(Folder(path=city.folder).ledger_file) as database:
        database.execute("UPDATE request SET state='open', nonce=NULL")
    database.close()
    async with city.wallet() as wallet:
        assert wallet.requests()[0].nonce == 1


async def test_a_hub_with_another_key_is_not_spoken_to(city: SmallCity, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "carol", city.hub.port)
    write_settings(folder, replace(folder.settings(), hub_signer=MALLORY.address))
    async with open_wallet(
        folder.path, PASSWORD, chain=city.chain, transactions=city.chain
    ) as wallet:
        await until(wallet, lambda: wallet._connection.trouble is not None)
        assert "another hub" in str(wallet.status()["hub"]["trouble"])
        assert wallet.channels() == []


async def test_an_error_in_the_block_comes_out_as_itself(city: SmallCity) -> None:
    with pytest.raises(ZeroDivisionError):
        async with city.wallet():
            raise ZeroDivisionError


async def test_an_endpoint_that_fell_behind_is_not_believed(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet._follower.refresh()
        head = wallet._follower.moment().head_block
        city.chain.block -= 5
        with pytest.raises(HeadWentBack, match="was given after block"):
            await wallet._follower.refresh()
        assert wallet._follower.moment().head_block == head
        city.chain.mine(blocks=6)
        await wallet._follower.refresh()
        assert wallet._follower.moment().head_block == head + 1


async def test_a_known_block_is_not_believed_under_another_number_or_time(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet._follower.refresh()
        head = await city.chain.head()
        assert wallet._follower.moment().head_block == head.block
        for lie in (
            replace(head, block=head.block + 4),
            replace(head, timestamp=head.timestamp + 1),
        ):

            async def lies(lie: Head = lie) -> Head:
                return lie

            monkeypatch.setattr(city.chain, "head", lies)
            with pytest.raises(BlockContradicted, match="was given again"):
                await wallet._follower.refresh()
            moment = wallet._follower.moment()
            assert (moment.head_block, moment.head_timestamp) == (head.block, head.timestamp)


async def test_the_chain_fails_just_when_a_channel_is_checked(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = city.chain.channel_state
    failures = [RpcUnreachable("http://127.0.0.1:1", "it is down")]

    async def fail_once(channel: ChannelId, head: Head) -> ChainView:
        if failures:
            raise failures.pop()
        return await state(channel, head)

    monkeypatch.setattr(city.chain, "channel_state", fail_once)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)


async def test_a_hub_that_shows_a_forged_voucher_is_left_and_nothing_stops(
    city: SmallCity,
) -> None:
    """Its greeting claims to hold more of our lane than we signed, under a bad signature."""
    async with city.wallet() as wallet:
        await earn(wallet)
        notices = wallet.listen()
        channel = wallet.channels()[0]
        forged = SignedTotal(
            total=LaneTotal(nonce=5, transferred_ucent=500, history=b"\1" * 32),
            conditions=bytes(32),
            signature=b"\1" * 64 + b"\x1b",
        )
        city.hub.wires[-1].send(Reestablish(channel=channel.id, sent=None, received=forged))
        with trio.fail_after(10):
            while (await notices.receive()).kind != "disconnected":
                pass
        await wallet.join(timeout_seconds=10)
        assert wallet.channels()[0].stopped is None


async def test_a_channel_that_never_appears_on_the_chain_is_given_up(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "NOT_CONFIRMED_SECONDS_MAX", 0)
    async with city.wallet() as wallet:
        await wallet.join(timeout_seconds=10)
        notices = wallet.listen()
        city.hub.introduce(city.hub.wires[-1], replace(TERMS, sequence=9))
        with trio.fail_after(10):
            while (told := await notices.receive()).kind != "terms-refused":
                pass
        assert told.values == {"code": "not-confirmed"}
