"""A disk that takes nothing more ends the driver before anything is said, and loses nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from farthing.channels.client.driver import Driver
from farthing.channels.client.ledger import RECEIVED, SENT, Ledger, LedgerUnusable
from farthing.channels.events import Elapsed
from farthing.channels.messages import Error
from farthing.channels.state import Channel
from farthing.channels.terms import Side

from ..nodes import Node, same_lanes, two_nodes
from ..people import ALICE, BOB, CHANNEL, terms


def fill_the_disk(ledger: Ledger) -> None:
    """Let the file grow by nothing more."""
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")


def make_read_only(ledger: Ledger) -> None:
    """Let the file be written no more."""
    ledger._db.execute("PRAGMA query_only=1")


FAULTS = pytest.mark.parametrize("fault", [fill_the_disk, make_read_only])
Fault = Callable[[Ledger], None]


async def fail(driver: Driver, failures: list[LedgerUnusable], failed: trio.Event) -> None:
    """Run a driver that is expected to fail, as a process would that then stops."""
    try:
        await driver.run()
    except LedgerUnusable as error:
        failures.append(error)
        failed.set()


@FAULTS
async def test_a_payer_whose_commit_fails_says_nothing_and_signs_nothing_more(
    tmp_path: Path, fault: Fault
) -> None:
    alice, bob = Node(tmp_path / "alice.sqlite", ALICE), Node(tmp_path / "bob.sqlite", BOB)
    failures: list[LedgerUnusable] = []
    failed = trio.Event()
    async with trio.open_nursery() as nursery:
        for node in (alice, bob):
            node.hold()
        nursery.start_soon(fail, alice.driver, failures, failed)
        nursery.start_soon(bob.driver.run)
        await alice.listen(nursery)
        await bob.dial(nursery, alice)
        await alice.until_live()
        alice.pay(5)
        await alice.until_acknowledged()
        fault(alice.ledger)
        before = alice.stored(SENT)
        alice.pay(*[1] * 500)
        with pytest.raises(LedgerUnusable):
            await alice.driver.wait_durable()
        assert len(failures) == 1
        assert "nothing was acknowledged" in failures[0].what_to_do
        assert alice.stored(SENT) == before == bob.stored(RECEIVED)
        assert bob.notes.received == [1]
        for call in (
            lambda: alice.pay(1),
            lambda: alice.driver.feed(CHANNEL, Elapsed()),
            lambda: alice.driver.store(()),
            lambda: alice.driver.receive([]),
            lambda: alice.driver.add(Channel(id=CHANNEL, terms=terms(sequence=2), side=Side.A)),
        ):
            with pytest.raises(LedgerUnusable, match="earlier batch"):
                call()
        # An orderly end writes nothing either: what is in memory builds upon what was lost.
        await alice.driver.flush()
        assert alice.stored(SENT) == before
        nursery.cancel_scope.cancel()
    for node in (alice, bob):
        node.ledger.close()
    await go_on_after_repair(tmp_path)


@FAULTS
async def test_a_payee_whose_commit_fails_acknowledges_nothing(
    tmp_path: Path, fault: Fault
) -> None:
    alice, bob = Node(tmp_path / "alice.sqlite", ALICE), Node(tmp_path / "bob.sqlite", BOB)
    failures: list[LedgerUnusable] = []
    failed = trio.Event()
    async with trio.open_nursery() as nursery:
        for node in (alice, bob):
            node.hold()
        nursery.start_soon(fail, alice.driver, failures, failed)
        nursery.start_soon(bob.driver.run)
        await alice.listen(nursery)
        await bob.dial(nursery, alice)
        await bob.until_live()
        bob.pay(5)
        await bob.until_acknowledged()
        fault(alice.ledger)
        bob.pay(*[1] * 500)
        await bob.driver.wait_durable()
        with trio.fail_after(30):
            await failed.wait()
        bob.pay(1)  # whatever comes now ends the connection
        await bob.until_down()
        assert bob.state().sent.acknowledged_nonce == 1
        assert len(alice.stored(RECEIVED)) == 1
        assert alice.notes.received == [1]
        (error,) = bob.notes.messages
        assert isinstance(error, Error)
        assert error.code == "ledger-unusable"
        nursery.cancel_scope.cancel()
    for node in (alice, bob):
        node.ledger.close()
    await go_on_after_repair(tmp_path)


async def go_on_after_repair(folder: Path) -> None:
    """Boot both from their files on a sound disk: they agree, and pay again."""
    alice, bob = Node(folder / "alice.sqlite", ALICE), Node(folder / "bob.sqlite", BOB)
    async with trio.open_nursery() as nursery:
        for node in (alice, bob):
            nursery.start_soon(node.driver.run)
        await alice.listen(nursery)
        await bob.dial(nursery, alice)
        for node in (alice, bob):
            await node.until_live()
            node.pay(7)
            await node.until_acknowledged()
        assert same_lanes(alice, bob)
        assert same_lanes(bob, alice)
        nursery.cancel_scope.cancel()
    for node in (alice, bob):
        node.ledger.close()


async def test_a_driver_that_fails_ends_its_process_s_nursery_with_the_reason(
    tmp_path: Path,
) -> None:
    with pytest.RaisesGroup(LedgerUnusable, flatten_subgroups=True):
        async with two_nodes(tmp_path) as (alice, _):
            make_read_only(alice.ledger)
            alice.pay(5)
            await trio.sleep_forever()
