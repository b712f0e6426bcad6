"""What the calls cost: whole transactions with intrinsic gas and calldata, storage cold."""

from collections.abc import Sequence

import pytest
from eth_utils.crypto import keccak

from .city import (
    CENT,
    DEVICE,
    City,
    MemberRow,
    OpenRow,
    SettleRow,
    Terms,
    alice,
    hub,
    hub_signer,
    hub_to_alice,
    packed,
    registrar,
)
from .evm import Person

ROWS = 50
HISTORY = keccak(b"history")


@pytest.fixture
def channels(city: City) -> list[Terms]:
    """Fifty open channels of the hub, each with a device's own account and signer."""
    devices = [(Person(f"account {n}"), Person(f"signer {n}")) for n in range(ROWS)]
    members = [MemberRow(person.address, DEVICE) for pair in devices for person in pair]
    city.registry.send(registrar, "set_members", members)
    city.open()
    rows = [
        OpenRow(hub.address, hub_signer.address, account.address, signer.address)
        for account, signer in devices
    ]
    outcome = city.channels.send(hub, "open_many", rows)
    terms = city.opened(outcome)
    assert len(terms) == ROWS
    assert outcome.gas_used / ROWS <= 40_000
    return terms


def settled_per_row(city: City, rows: Sequence[SettleRow]) -> float:
    outcome = city.channels.send(hub, "settle_many", [packed(row) for row in rows])
    assert len(outcome.named("Settled")) == len(rows)
    return outcome.gas_used / len(rows)


def test_opening_settling_and_closing_stay_below_their_ceilings(
    city: City, channels: list[Terms]
) -> None:
    signed = [city.voucher(each, 0, 1_234_567, nonce=300, history=HISTORY) for each in channels]
    assert settled_per_row(city, signed) <= 17_000
    own = [SettleRow(each, 0, 301, 2_345_678, HISTORY) for each in channels]
    assert settled_per_row(city, own) <= 13_000


def test_single_channels_stay_below_their_ceilings(city: City) -> None:
    city.open()
    city.token.send(hub, "transfer", alice.address, 1)
    assert city.channels.send(hub, "open", hub_to_alice()).gas_used <= 105_000

    terms = city.open()
    message = {"channel": city.channel(terms), "transferredA": 7 * CENT, "transferredB": CENT}
    signed = city.signatures("Close", {**message, "expires": city.evm.time})
    arguments = (terms, 7 * CENT, CENT, city.evm.time, *signed)
    assert city.channels.send(hub, "close", *arguments).gas_used <= 80_000

    terms = city.open()
    total: float = city.channels.send(hub, "start_close", terms, 0, b"").gas_used
    total += settled_per_row(city, [city.voucher(terms, 0, 7 * CENT, history=HISTORY)])
    city.evm.pass_time(seconds=3601, blocks=21)
    finished = city.channels.send(hub, "finish_close", terms)
    assert finished.named("Closed")[0]["payout_b"] == 7 * CENT
    assert total + finished.gas_used <= 170_000
