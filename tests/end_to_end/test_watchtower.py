"""A watchtower on a real chain over real sockets: what it keeps, refuses, and answers."""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.wire import ConnectionLost
from farthing.channels.codecs import encode_message
from farthing.channels.frames import encode_frame
from farthing.channels.ids import ChannelId, address_to_hex, to_hex
from farthing.channels.messages import (
    ChannelProposal,
    CloseRequest,
    Error,
    Ping,
    Pong,
    VoucherKept,
)
from farthing.channels.state import ChainStatus, ChainView
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, Side
from farthing.contracts.members import MemberStatus
from farthing.node.administration import Role
from farthing.node.chain import Web3Chain
from farthing.node.watchtower import reception
from farthing.node.watchtower.tower import Tower

from ..hub_world import City, new_signer, until
from ..tower_world import (
    Street,
    deposit_of,
    depositor,
    make_street,
    running_tower,
    tower_folder,
    voucher_of,
)

pytestmark = pytest.mark.usefixtures("quick_hub")

EARNED_UCENT = 40_000


@pytest.fixture
def street(hub_city: City) -> Street:
    return make_street(hub_city)


@pytest.fixture
def config(hub_city: City, tmp_path: Path) -> Path:
    return tower_folder(hub_city, tmp_path / "tower")


@pytest.fixture
async def tower(config: Path) -> AsyncIterator[Tower]:
    async with running_tower(config) as tower:
        yield tower


async def test_a_sleeping_wallet_whose_hub_closes_with_nothing_settled_is_paid_in_full(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with depositor(hub_city, tower, alice) as wallet:
        await wallet.kept(deposit_of(terms, street.voucher(terms, EARNED_UCENT)))
    await trio.to_thread.run_sync(street.start_close, terms)
    await until(lambda: tower.answerer.answered == 1)
    view = await trio.to_thread.run_sync(street.view, terms)
    assert view.status is ChainStatus.CLOSING
    assert view.settled_ucent == (EARNED_UCENT, 0)
    await trio.to_thread.run_sync(street.pass_window)
    await until(lambda: tower.channel_rows()[0]["status"] == "closed")
    assert await trio.to_thread.run_sync(street.tokens, alice.address) == EARNED_UCENT


async def test_many_closes_at_once_are_answered_in_few_transactions(
    hub_city: City, street: Street, tower: Tower
) -> None:
    owners = [new_signer() for _ in range(5)]
    opened = await trio.to_thread.run_sync(lambda: street.open(*owners))
    for number, (owner, terms) in enumerate(zip(owners, opened, strict=True), 1):
        async with depositor(hub_city, tower, owner) as wallet:
            await wallet.kept(deposit_of(terms, street.voucher(terms, 1000 * number)))
    for terms in opened:
        await trio.to_thread.run_sync(street.start_close, terms)
    await until(lambda: tower.answerer.answered == len(owners))
    for number, terms in enumerate(opened, 1):
        view = await trio.to_thread.run_sync(street.view, terms)
        assert view.settled_ucent == (1000 * number, 0)


async def test_a_voucher_handed_over_while_the_channel_closes_is_settled_too(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with depositor(hub_city, tower, alice) as wallet:
        await wallet.kept(deposit_of(terms, street.voucher(terms, 10)))
        await trio.to_thread.run_sync(street.start_close, terms)
        await until(lambda: tower.answerer.answered == 1)
        await wallet.kept(deposit_of(terms, street.voucher(terms, 25, nonce=2)))
        await until(lambda: tower.answerer.answered == 2)
    view = await trio.to_thread.run_sync(street.view, terms)
    assert view.settled_ucent == (25, 0)


async def test_both_parties_of_a_channel_may_use_one_tower(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    to_hub = voucher_of(hub_city, terms, Side.B, alice, 7)
    async with depositor(hub_city, tower, alice) as wallet:
        await wallet.kept(deposit_of(terms, street.voucher(terms, 10)))
    async with depositor(hub_city, tower, street.signer) as hub:
        await hub.kept(deposit_of(terms, to_hub))
    await trio.to_thread.run_sync(street.start_close, terms)
    await until(lambda: tower.answerer.answered == 2)
    view = await trio.to_thread.run_sync(street.view, terms)
    assert view.settled_ucent == (10, 7)


# -- what is kept ---------------------------------------------------------------------------------


async def test_the_same_voucher_is_acknowledged_again_and_an_older_one_is_not(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    newer, older = street.voucher(terms, 500, nonce=2), street.voucher(terms, 100)
    async with depositor(hub_city, tower, alice) as wallet:
        for _ in range(2):
            await wallet.kept(deposit_of(terms, newer))
        assert await wallet.refused(deposit_of(terms, older)) == "older-voucher"
        fork = street.voucher(terms, 500, nonce=3)
        assert await wallet.refused(deposit_of(terms, fork)) == "older-voucher"
        await wallet.kept(deposit_of(terms, newer))
    (row,) = tower.channel_rows()
    assert (row["transferred_ucent"], row["wallet"]) == (500, address_to_hex(alice.address))


async def test_a_deposit_is_on_disk_before_it_is_acknowledged(
    hub_city: City, street: Street, config: Path
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with running_tower(config) as tower:
        store = tower.book._store
        async with depositor(hub_city, tower, alice) as wallet:
            await wallet.kept(deposit_of(terms, street.voucher(terms, 500)))
            (held,) = store.held()  # read anew from the file, by the reader's own connection
            assert held.transferred_ucent == 500
            assert store.seen().keys() == {alice.address}
    async with running_tower(config) as tower:
        assert [row["transferred_ucent"] for row in tower.channel_rows()] == [500]


async def test_a_tower_says_when_it_last_saw_each_wallet_and_names_the_silent_ones(
    hub_city: City, street: Street, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with running_tower(config) as tower:
        async with depositor(hub_city, tower, alice) as wallet:
            await wallet.kept(deposit_of(terms, street.voucher(terms, 500)))
            (row,) = tower.channel_rows()
            assert tower.silent() == []
        assert row["seen_at"] > 0
        await until(lambda: not tower.reception.connected)
        tower.book._seen[alice.address] -= tower.config.silence_seconds + 1
        assert tower.status()["silent"] == [address_to_hex(alice.address)]
        with caplog.at_level(logging.WARNING, logger="farthing.watchtower"):
            tower.name_silent()
            tower.name_silent()
        named = [r.getMessage() for r in caplog.records if "was not seen" in r.getMessage()]
        assert len(named) == 1
        assert address_to_hex(alice.address) in named[0]
        assert "1 channels, 500 µ¢" in named[0]
        async with depositor(hub_city, tower, alice) as wallet:
            assert await wallet.answer(Ping(token=1)) == Pong(token=1)
            assert tower.silent() == []
            tower.book._seen[alice.address] = tower.book._seen_stored[alice.address] = 1
            tower.note_connected()  # it stays connected, and says nothing for days
            await tower.book.commit()
            assert tower.book._store.seen()[alice.address] > 1


async def test_a_tower_that_the_chain_would_not_listen_to_says_so(
    hub_city: City, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_tower(config) as tower:
        assert tower.status()["member"] is True
        register = partial(hub_city.register, tower.signer.address, role=Role.RELAYER)
        await trio.to_thread.run_sync(partial(register, status=MemberStatus.SUSPENDED))
        for _ in range(2):
            await tower.check_membership()
        assert tower.status()["member"] is False
        assert caplog.text.count("is no active member") == 1
        await trio.to_thread.run_sync(register)
        await tower.check_membership()
        assert tower.status()["member"] is True


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("forged", "bad-signature"),
        ("another total than was signed", "bad-signature"),
        ("foreign terms", "foreign-deposit"),
        ("another deployment", "foreign-deposit"),
        ("a window of one second", "malformed-deposit"),
        ("no payment", "malformed-deposit"),
        ("conditions", "malformed-deposit"),
        ("the payer's own", "bad-signature"),
    ],
)
async def test_a_deposit_that_pays_nobody_ends_the_connection_and_is_not_kept(
    hub_city: City, street: Street, tower: Tower, wrong: str, code: str
) -> None:
    alice, mallory = new_signer(), new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    good = street.voucher(terms, 500)
    messages = {
        "forged": deposit_of(terms, voucher_of(hub_city, terms, Side.A, mallory, 500)),
        "another total than was signed": deposit_of(terms, good, transferred_ucent=501),
        "foreign terms": deposit_of(terms, good, account_b=mallory.address),
        "another deployment": deposit_of(terms, good, channel=bytes(32)),
        "a window of one second": deposit_of(terms, good, challenge_seconds=1),
        "no payment": deposit_of(terms, good, nonce=0, transferred_ucent=0, history=bytes(32)),
        "conditions": deposit_of(terms, good, conditions=b"\x01" * 32),
        "the payer's own": deposit_of(terms, voucher_of(hub_city, terms, Side.B, alice, 5)),
    }
    async with depositor(hub_city, tower, alice) as wallet:
        assert await wallet.refused(messages[wrong]) == code
        assert await wallet.is_ended()
    assert tower.channel_rows() == []


async def test_a_strangers_deposit_of_another_wallets_voucher_is_refused(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice, mallory = new_signer(), new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    async with depositor(hub_city, tower, mallory) as stranger:
        code = await stranger.refused(deposit_of(terms, street.voucher(terms, 500)))
        assert code == "not-the-payee"
        assert await stranger.is_ended()
    assert tower.channel_rows() == []


async def test_of_a_channel_that_is_not_open_on_the_chain_nothing_is_kept(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    made_up = replace(terms, sequence=terms.sequence + 1_000_000)
    async with depositor(hub_city, tower, alice) as wallet:
        deposit = deposit_of(made_up, street.voucher(made_up, 500))
        assert await wallet.refused(deposit) == "channel-not-open"
        await wallet.kept(deposit_of(terms, street.voucher(terms, 500)))  # the connection goes on
        await trio.to_thread.run_sync(street.start_close, terms)
        await until(lambda: tower.answerer.answered == 1)
        await trio.to_thread.run_sync(street.pass_window)
        await until(lambda: tower.channel_rows()[0]["status"] == "closed")
        late = deposit_of(terms, street.voucher(terms, 600, nonce=2))
        assert await wallet.refused(late) == "channel-not-open"
    (row,) = tower.channel_rows()
    assert (row["channel"], row["transferred_ucent"]) == (to_hex(street.id_of(terms)), 500)


async def test_a_window_that_is_over_before_a_close_is_confirmed_is_not_watched(
    hub_city: City, street: Street, tmp_path: Path
) -> None:
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    config = await trio.to_thread.run_sync(
        lambda: tower_folder(hub_city, tmp_path / "slow", confirmations=CHALLENGE_BLOCKS_MIN)
    )
    async with running_tower(config) as tower, depositor(hub_city, tower, alice) as wallet:
        code = await wallet.refused(deposit_of(terms, street.voucher(terms, 500)))
        assert code == "window-too-short"


async def test_a_full_tower_refuses_new_channels_and_serves_those_it_has(
    hub_city: City, street: Street, tmp_path: Path
) -> None:
    alice, bob = new_signer(), new_signer()
    opened = await trio.to_thread.run_sync(lambda: street.open(alice, bob))
    config = await trio.to_thread.run_sync(
        lambda: tower_folder(hub_city, tmp_path / "small", channels_max=1)
    )
    async with running_tower(config) as tower:
        async with depositor(hub_city, tower, alice) as wallet:
            await wallet.kept(deposit_of(opened[0], street.voucher(opened[0], 1)))
        async with depositor(hub_city, tower, bob) as wallet:
            deposit = deposit_of(opened[1], street.voucher(opened[1], 1))
            assert await wallet.refused(deposit) == "watchtower-full"
        async with depositor(hub_city, tower, alice) as wallet:
            await wallet.kept(deposit_of(opened[0], street.voucher(opened[0], 2, nonce=2)))
        assert [row["transferred_ucent"] for row in tower.channel_rows()] == [2]


async def test_two_that_open_and_close_channels_on_purpose_do_not_fill_a_tower(
    hub_city: City, street: Street, tmp_path: Path
) -> None:
    mallory, bob = new_signer(), new_signer()
    opened = await trio.to_thread.run_sync(lambda: street.open(mallory, mallory, mallory, bob))
    config = await trio.to_thread.run_sync(
        lambda: tower_folder(hub_city, tmp_path / "small", channels_max=3)
    )
    async with running_tower(config) as tower:
        async with depositor(hub_city, tower, mallory) as wallet:
            for terms in opened[:3]:
                await wallet.kept(deposit_of(terms, street.voucher(terms, 1)))
        async with depositor(hub_city, tower, bob) as wallet:
            deposit = deposit_of(opened[3], street.voucher(opened[3], 1))
            assert await wallet.refused(deposit) == "watchtower-full"
            for terms in opened[:2]:
                await trio.to_thread.run_sync(street.start_close, terms)
            await trio.to_thread.run_sync(street.pass_window)
            await until(lambda: tower.status()["open"] == 1 and not tower.status()["closing"])
            await wallet.kept(deposit)
        assert tower.status()["channels"] == 3
        held = {row["channel"]: row["status"] for row in tower.channel_rows()}
        assert held[to_hex(deposit.channel)] == held[to_hex(street.id_of(opened[2]))] == "open"
    async with running_tower(config) as tower:  # and so it is on disk
        assert {row["channel"] for row in tower.channel_rows()} == held.keys()


async def test_guests_that_deposit_nothing_keep_no_wallet_out(
    hub_city: City, street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing.node.limits.GUEST_SECONDS", 0)
    alice = new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    config = await trio.to_thread.run_sync(
        lambda: tower_folder(hub_city, tmp_path / "small", guests_max=2)
    )
    async with (
        running_tower(config) as tower,
        depositor(hub_city, tower, new_signer()) as first,
        depositor(hub_city, tower, new_signer()) as second,
    ):
        async with depositor(hub_city, tower, alice) as wallet:
            await wallet.kept(deposit_of(terms, street.voucher(terms, 1)))
            told = await first.hear()
            assert isinstance(told, Error)
            assert told.code == "too-many-guests"
            assert await first.is_ended()
            async with depositor(hub_city, tower, new_signer()):  # alice is a guest no longer
                assert isinstance(await second.answer(Ping(token=1)), Pong)
        assert tower.server.door.hits["too-many-guests"] == 1


async def test_a_wallet_has_its_share_of_a_tower_and_no_more(
    hub_city: City, street: Street, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "CHANNELS_OF_A_DEPOSITOR_MAX", 1)
    alice = new_signer()
    first, second = await trio.to_thread.run_sync(lambda: street.open(alice, alice))
    async with depositor(hub_city, tower, alice) as wallet:
        await wallet.kept(deposit_of(first, street.voucher(first, 1)))
        deposit = deposit_of(second, street.voucher(second, 1))
        assert await wallet.refused(deposit) == "watchtower-full"


async def test_a_flood_of_deposits_ends_its_connection_and_costs_few_readings_of_the_chain(
    hub_city: City,
    street: Street,
    tower: Tower,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="farthing.watchtower.server")
    alice, mallory = new_signer(), new_signer()
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    made_up = [
        replace(terms, signer_b=mallory.address, sequence=terms.sequence + number)
        for number in range(1, 10 * reception.BURST_MAX)
    ]
    readings: list[object] = []
    view = Web3Chain.view

    def counted(chain: Web3Chain, *arguments: Any) -> ChainView:
        readings.append(arguments)
        return view(chain, *arguments)

    monkeypatch.setattr(Web3Chain, "view", counted)
    async with depositor(hub_city, tower, mallory) as flood:
        frames = b"".join(
            encode_frame(encode_message(deposit_of(t, street.voucher(t, 1)))) for t in made_up
        )
        with suppress(ConnectionLost):  # while it still writes
            await flood.wire._send_bytes(frames)
        await until(lambda: mallory.address not in tower.reception.connected)
    assert f"ended: over {reception.BURST_MAX} messages came at once" in caplog.text
    assert len(readings) <= reception.CHANNELS_OF_A_DEPOSITOR_MAX
    assert tower.channel_rows() == []
    async with depositor(hub_city, tower, alice) as wallet:  # and nobody else is kept waiting
        await wallet.kept(deposit_of(terms, street.voucher(terms, 500)))


async def test_a_message_between_the_parties_of_a_channel_has_no_place_at_a_tower(
    hub_city: City, street: Street, tower: Tower
) -> None:
    alice = new_signer()
    for message in (
        CloseRequest(channel=ChannelId(bytes(32))),
        ChannelProposal(account=alice.address, challenge_seconds=600, challenge_blocks=10),
        VoucherKept(channel=ChannelId(bytes(32)), nonce=1, transferred_ucent=1),
    ):
        async with depositor(hub_city, tower, alice) as wallet:
            assert await wallet.refused(message) == "out-of-turn"
            assert await wallet.is_ended()


async def test_a_second_connection_of_a_wallet_takes_the_place_of_the_first(
    hub_city: City, tower: Tower
) -> None:
    alice = new_signer()
    async with depositor(hub_city, tower, alice) as first:
        await until(lambda: alice.address in tower.reception.connected)
        async with depositor(hub_city, tower, alice) as second:
            answer = await first.hear()
            assert isinstance(answer, Error)
            assert answer.code == "replaced"
            assert await first.is_ended()
            assert await second.answer(Ping(token=2)) == Pong(token=2)
            assert tower.reception.connected == {alice.address}
