"""Connections break at any moment, and every acknowledged payment is on both sides' disks."""

from pathlib import Path

import pytest
import trio

from farthing.channels.client.ledger import RECEIVED, SENT
from farthing.channels.client.wire import ConnectionLost
from farthing.channels.refusals import NotNow

from ..nodes import Node, same_lanes, two_nodes
from ..people import ALICE, BOB, DEPOSIT

PAYMENTS = 1000


async def pay_on(node: Node, count: int) -> None:
    """Pay 1 µ¢ at a time, whenever the channel is live, until that many are promised."""
    while node.state().sent.total.nonce < count:
        await node.until_live()
        try:
            node.pay(1)
        except NotNow:
            continue
        if node.state().sent.total.nonce % 10 == 0:
            await node.driver.wait_durable()  # so that commits and reads interleave


def check_acknowledged(payer: Node, payee: Node) -> None:
    """From now on, let each acknowledgement be checked against the payee's file."""

    def on_ack(nonce: int) -> None:
        count = "SELECT count(*) FROM payment WHERE direction=?"
        ((durable,),) = payee.ledger.query(count, (RECEIVED,))  # reads what is committed only
        assert durable >= nonce, "acknowledged and not on the payee's disk"

    payer.notes.on_ack = on_ack


async def test_a_thousand_payments_each_way_survive_a_connection_that_breaks_in_the_middle(
    tmp_path: Path,
) -> None:
    async with two_nodes(tmp_path) as (alice, bob), trio.open_nursery() as nursery:
        check_acknowledged(alice, bob)
        check_acknowledged(bob, alice)
        nursery.start_soon(pay_on, alice, PAYMENTS)
        nursery.start_soon(pay_on, bob, PAYMENTS)
        for part, victim in ((200, alice), (500, bob), (800, alice)):
            await alice.until_acknowledged(part)
            await victim.lose_connections()
            await bob.until_down()
            await bob.dial(nursery, alice)
        for node in (alice, bob):
            await node.until_acknowledged(PAYMENTS)
        for payer, payee in ((alice, bob), (bob, alice)):
            assert same_lanes(payer, payee)
            assert len(payer.stored(SENT)) == PAYMENTS
            assert payee.notes.received == list(range(1, PAYMENTS + 1))
            assert payer.state().our_balance_ucent() == DEPOSIT
            assert payer.notes.stopped == []
        nursery.cancel_scope.cancel()


async def test_payments_ordered_while_the_peer_vanishes_arrive_once_it_is_back(
    tmp_path: Path,
) -> None:
    async with two_nodes(tmp_path) as (alice, bob), trio.open_nursery() as nursery:
        await alice.lose_connections()
        alice.pay(5)  # before anybody here has noticed
        await alice.until_down()
        with pytest.raises(NotNow, match="down"):
            alice.pay(6)
        await bob.until_down()
        await bob.dial(nursery, alice)
        await alice.until_acknowledged()
        assert bob.notes.received == [1]
        assert same_lanes(alice, bob)
        nursery.cancel_scope.cancel()


async def test_both_notice_the_end_of_a_connection_and_neither_blames_the_other(
    tmp_path: Path,
) -> None:
    async with two_nodes(tmp_path) as (alice, bob):
        await bob.lose_connections()
        for node in (alice, bob):
            error = await node.until_ended()
            assert isinstance(error, ConnectionLost)
            assert error.retryable
        assert alice.notes.messages == []


async def test_a_process_that_dies_and_boots_again_goes_on_where_its_disk_ends(
    tmp_path: Path,
) -> None:
    alice, bob = Node(tmp_path / "alice.sqlite", ALICE), Node(tmp_path / "bob.sqlite", BOB)
    alice.hold()
    bob.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.driver.run)
        await alice.listen(nursery)
        async with trio.open_nursery() as life:
            life.start_soon(bob.driver.run)
            await bob.dial(life, alice)
            await bob.until_live()
            for _ in range(20):
                bob.pay(3)
            await bob.until_acknowledged(1)
            bob.pay(7)  # decided in memory; whether it is durable is the disk's affair
            life.cancel_scope.cancel()
        promised = bob.stored(SENT)
        bob.ledger.close()
        again = Node(bob.path, BOB)
        nursery.start_soon(again.driver.run)
        await alice.until_down()
        await again.dial(nursery, alice)
        await again.until_live()
        await again.until_acknowledged()
        assert again.stored(SENT) == promised == alice.stored(RECEIVED)
        again.pay(9)
        await again.until_acknowledged()
        assert len(promised) in (20, 21)
        total = promised[-1].total.transferred_ucent + 9
        assert alice.state().received.total.transferred_ucent == total
        assert alice.notes.received == list(range(1, len(promised) + 2))
        nursery.cancel_scope.cancel()
    alice.ledger.close()
    again.ledger.close()
