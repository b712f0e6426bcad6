"""Watchtowers: what they hold is the newest and good, what they say binds nobody, answers come."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from farthing.channels.client.folder import HubAddress, TowerPlace
from farthing.channels.client.pulse import Notices, Pulse
from farthing.channels.client.towers import Link
from farthing.channels.errors import PeerError
from farthing.channels.events import ObservedChannel, Received
from farthing.channels.ids import ChannelId
from farthing.channels.messages import VoucherKept
from farthing.channels.state import ChainStatus
from farthing.channels.terms import Side
from farthing.node.watchtower.book import Book
from farthing.node.watchtower.deposits import check_deposit

from ..people import (
    ALICE,
    BOB,
    CHANNEL,
    DEPLOYMENT,
    DOMAIN,
    MALLORY,
    SEPARATOR,
    TERMS,
    channel,
    lane,
    view,
    voucher,
)
from ..tower_parts import TowerParts, closing, connected, promise, tower_parts
from ..tower_world import deposit_of
from .attacks import alice_at, update, wire_with


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[TowerParts]:
    with tower_parts(tmp_path) as parts:
        yield parts


def test_an_older_voucher_does_not_take_a_newer_ones_place_at_a_tower(tower: TowerParts) -> None:
    tower.book.keep(promise(5, 7))
    tower.book.keep(promise(5))
    (held,) = tower.book.all()
    assert held.transferred_ucent == 12


def test_a_forged_voucher_does_not_take_a_good_ones_place_at_a_tower() -> None:
    forged = deposit_of(TERMS, voucher(Side.A, lane(5)), transferred_ucent=2**96 - 1)
    with pytest.raises(PeerError):
        check_deposit(forged, BOB.address, DEPLOYMENT, SEPARATOR)


def test_a_stranger_does_not_fill_a_wallets_place_at_a_tower() -> None:
    good = deposit_of(TERMS, voucher(Side.A, lane(5)))
    assert check_deposit(good, BOB.address, DEPLOYMENT, SEPARATOR).payer is Side.A
    with pytest.raises(PeerError):
        check_deposit(good, MALLORY.address, DEPLOYMENT, SEPARATOR)


def test_a_voucher_of_another_deployment_is_not_kept_as_if_it_could_be_settled() -> None:
    elsewhere = replace(channel(), id=ChannelId(b"\x99" * 32))  # as a reset chain makes one
    signed = voucher(Side.A, lane(5), of=elsewhere)
    with pytest.raises(PeerError):
        check_deposit(deposit_of(TERMS, signed), BOB.address, DEPLOYMENT, SEPARATOR)


async def test_channels_that_have_ended_do_not_fill_a_tower(
    tower: TowerParts, nursery: trio.Nursery
) -> None:
    for number in range(2, 12):  # two that agree open, deposit and close, as often as they like
        channel = tower.hold(number, sequence=number)
        tower.book.observe(channel, view(ChainStatus.CLOSED))
    first = promise(2, sequence=2)
    assert tower.book.get(first.lane) is not None
    wire, made = connected(tower), promise(5)
    tower.chain.views[made.voucher.channel] = view()
    nursery.start_soon(tower.reception.run)
    nursery.start_soon(tower.book.run)
    tower.reception.on_message(wire, deposit_of(made.terms, made.voucher))
    with trio.fail_after(20):
        while not wire.said:  # noqa: ASYNC110 - what is said wakes nobody here
            await trio.sleep(0.01)
    assert isinstance(wire.said[0], VoucherKept)
    assert len(tower.book) == 10
    assert tower.book.get(first.lane) is None  # which ended first


async def test_a_tower_killed_after_its_acknowledgement_holds_what_it_acknowledged(
    tower: TowerParts,
) -> None:
    acknowledged: list[int] = []
    tower.book.keep(promise(5))
    tower.book.when_durable(lambda: acknowledged.append(5))
    await tower.book.commit()
    assert acknowledged == [5]
    assert [held.transferred_ucent for held in Book(tower.store).all()] == acknowledged


async def test_an_answer_that_a_reorganisation_took_back_is_given_again(tower: TowerParts) -> None:
    held = tower.hold(5)
    tower.close(held)
    await tower.turn()
    tower.chain.fork += 1  # the block with the answer is gone, the close is not
    tower.chain.views[held] = closing()
    await tower.turn()
    assert tower.settled == [[5], [5]]


async def test_a_close_is_finished_by_a_tower_only_after_its_answer_counts(
    tower: TowerParts,
) -> None:
    held = tower.hold(5)
    tower.close(held, deadline_seconds=0, deadline_block=0)
    await tower.turn()
    assert tower.settled == [[5]]
    assert tower.chain.finished == []


async def test_a_tower_that_claims_to_hold_what_it_was_not_given_is_not_believed(
    tmp_path: Path,
) -> None:
    with alice_at(tmp_path) as (node, _):
        place = TowerPlace(address=HubAddress(host="127.0.0.1", port=1), signer=MALLORY.address)
        link = Link(place, {}, DOMAIN, ALICE, node.driver)
        link.attach(Pulse(), Notices())
        node.driver.receive([(CHANNEL, Received(message=update(5)))])
        node.driver.feed(CHANNEL, ObservedChannel(view=view()))
        wire = wire_with(MALLORY.address)
        link._deposit(wire, node.state())
        said = VoucherKept(channel=CHANNEL, nonce=1, transferred_ucent=10**9)
        with pytest.raises(PeerError):
            link.on_message(wire, said)
        assert link.row()["uncovered_ucent"] == 5


async def test_what_a_hub_has_only_shown_to_a_recovered_wallet_is_handed_to_its_tower(
    tmp_path: Path,
) -> None:
    with alice_at(tmp_path) as (node, _):
        place = TowerPlace(address=HubAddress(host="127.0.0.1", port=1), signer=MALLORY.address)
        link = Link(place, {}, DOMAIN, ALICE, node.driver)
        link.attach(Pulse(), Notices())
        link.shown = {CHANNEL: voucher(Side.B, lane(9))}
        node.driver.feed(CHANNEL, ObservedChannel(view=view()))
        assert link.row()["uncovered_ucent"] == 9
        link._deposit(wire_with(MALLORY.address), node.state())
        assert link._sent[CHANNEL].transferred_ucent == 9
        assert link._sent[CHANNEL].signature == link.shown[CHANNEL].signature
        link.on_message(
            wire_with(MALLORY.address), VoucherKept(channel=CHANNEL, nonce=1, transferred_ucent=9)
        )
        assert link.row()["uncovered_ucent"] == 0
