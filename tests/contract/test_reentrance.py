"""While money moves nobody gets in: neither the token nor an account that tokens call.

Each external function that moves tokens is re-entered through each that changes anything, by calls
that would succeed at any other moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from farthing.contracts.artifacts import load

from .city import (
    RESIDENT,
    City,
    DepositRow,
    MemberRow,
    SettleRow,
    Terms,
    alice_signer,
    bob,
    compiled,
    hub,
    hub_to_alice,
    mallory,
    packed,
    registrar,
)
from .conftest import anew
from .evm import Contract, Event, Evm
from .test_payouts import CALLS_BACK, HONEST, REENTERS, REVERTS, misbehave

MOVING = ["open", "open_many", "deposit", "deposit_many", "withdraw", "close", "finish_close"]
MOVING += ["claim"]
CHANGING = [*MOVING, "settle", "settle_many", "start_close"]


@dataclass
class Trap:
    """A hostile city with two sets of calls: those to make, and those to make from inside them."""

    city: City
    account: Contract
    outer: dict[str, bytes]
    inner: dict[str, bytes]

    def told(self, data: bytes) -> list[Event]:
        """Let the account make a call; return the events of the channels."""
        logged = len(self.city.evm.log)
        channels = self.city.channels.address
        self.account.send(mallory, "act", channels, data)
        return [event for address, event in self.city.evm.log[logged:] if address == channels]


def agreed(city: City, kind: str, terms: Terms, **values: Any) -> tuple[Any, ...]:
    expires = city.evm.time + 10_000
    message = {"channel": city.channel(terms), **values, "expires": expires}
    return (terms, *values.values(), expires, *city.signatures(kind, message))


def calls(city: City, account: Contract) -> dict[str, bytes]:
    """Prepare one call of each function, each of them good at any moment.

    The account is party B of some channels of the hub, and has a claim.
    """
    row = hub_to_alice(account_b=account.address, deposit=100)
    plain, leaving, finishing, stuck = (city.open(**row._asdict()) for _ in range(4))
    city.channels.send(hub, "start_close", finishing, 0, b"")
    city.settled(hub, SettleRow(plain, 0, 1, 10), SettleRow(finishing, 0, 1, 30))
    misbehave(city, account.address, REVERTS)
    totals = {"transferredA": 10, "transferredB": 0}
    city.channels.send(bob, "close", *agreed(city, "Close", stuck, **totals))
    misbehave(city, account.address, HONEST)
    expires = city.evm.time + 10_000
    starting = {"channel": city.channel(plain), "expires": expires}
    voucher = city.voucher(plain, 1, 6)
    arguments: dict[str, Any] = {
        "open": [row],
        "open_many": [[row]],
        "deposit": [plain, account.address, 5],
        "deposit_many": [[DepositRow(plain, account.address, 5)]],
        "withdraw": agreed(city, "Withdrawal", plain, account=account.address, total=5),
        "close": agreed(city, "Close", leaving, **totals),
        "finish_close": [finishing],
        "claim": [account.address],
        "settle": [[voucher]],
        "settle_many": [[packed(voucher)]],
        "start_close": [
            plain,
            expires,
            alice_signer.sign(city.typed_data("StartClose", starting)),
        ],
    }
    return {name: city.channels.data(name, *arguments[name]) for name in arguments}


@pytest.fixture(scope="module")
def built_trap() -> Trap:
    evm = Evm()
    token: Contract = evm.deploy(mallory, *compiled("hostile_token"))
    city = City.built(evm, token)
    account: Contract = evm.deploy(mallory, *compiled("hostile_account"))
    city.registry.send(registrar, "set_member", MemberRow(account.address, RESIDENT))
    for address in (account.address, token.address):
        token.send(mallory, "mint", address, 10_000, b"")
    outer, inner = calls(city, account), calls(city, account)
    evm.pass_time(seconds=3601, blocks=21)
    return Trap(city, account, outer, inner)


@pytest.fixture
def trap(built_trap: Trap) -> Iterator[Trap]:
    with anew(built_trap.city):
        yield built_trap


def test_every_function_that_changes_anything_is_tried() -> None:
    changing = {
        entry["name"]
        for entry in load("payment_channels").abi
        if entry["type"] == "function" and entry["stateMutability"] == "nonpayable"
    }
    assert changing == set(CHANGING)


@pytest.mark.parametrize("name", CHANGING)
def test_from_outside_each_of_the_calls_succeeds(trap: Trap, name: str) -> None:
    # Without this, the test below could pass because a call is wrong in itself.
    told = trap.told(trap.inner[name])
    assert told
    assert "RowSkipped" not in [event.name for event in told]


@pytest.mark.parametrize("inner", CHANGING)
@pytest.mark.parametrize("outer", MOVING)
@pytest.mark.parametrize("who", [CALLS_BACK, REENTERS])
def test_neither_an_account_nor_a_token_gets_in_while_money_moves(
    trap: Trap, who: int, outer: str, inner: str
) -> None:
    city, account = trap.city, trap.account
    beginning = city.evm.checkpoint()
    undisturbed = trap.told(trap.outer[outer])
    city.evm.restore(beginning)

    hostile = account if who == CALLS_BACK else city.token
    hostile.send(mallory, "reenter", city.channels.address, trap.inner[inner])
    for receiver in (account.address, city.channels.address):
        misbehave(city, receiver, who)
    assert trap.told(trap.outer[outer]) == undisturbed
    assert hostile.read("tries") == 1
    assert not hostile.read("reentered")
