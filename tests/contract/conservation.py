"""Money is conserved: what must hold after every contract test, from events and state.

Σ deposits = Σ withdrawals + Σ payouts + Σ locked, for each channel and so for all of them, and the
contract holds at least Σ locked + Σ claimable. The state of each channel is what its events say.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .city import City, State
from .evm import NOBODY

NEVER, OPEN, CLOSING, CLOSED = range(4)


@dataclass
class Told:
    """What the events told of one channel; sides are 0 for A and 1 for B."""

    accounts: tuple[str, str]
    status: int = OPEN
    deposit: list[int] = field(default_factory=lambda: [0, 0])
    withdrawn: list[int] = field(default_factory=lambda: [0, 0])
    transferred: list[int] = field(default_factory=lambda: [0, 0])
    deadline: tuple[int, int] = (0, 0)
    payouts: int = 0

    def state(self) -> State:
        sides = zip(self.transferred, self.deposit, self.withdrawn, strict=True)
        (a, b) = sides
        return State(self.status, *a, *b, *self.deadline)

    def locked(self) -> int:
        return sum(self.deposit) - sum(self.withdrawn) - self.payouts


def check(city: City) -> None:
    """Fail unless the city's money is conserved and its state is what its events told."""
    told, claimable = _replayed(city)
    for channel, each in told.items():
        assert State(*city.channels.read("channel_state", channel)) == each.state()
        assert each.locked() >= 0
        if each.status == CLOSED:
            assert each.locked() == 0
    for account, amount in claimable.items():
        assert city.channels.read("claimable", account) == amount
    owed = sum(each.locked() for each in told.values()) + claimable.total()
    assert city.balance(city.channels.address) >= owed
    if "Minted" in {entry["name"] for entry in city.token.events.values()}:
        _check_token(city)


def _replayed(city: City) -> tuple[dict[bytes, Told], Counter[str]]:
    told: dict[bytes, Told] = {}
    claimable: Counter[str] = Counter()
    for address, (name, fields) in city.evm.log:
        if address == city.channels.address:
            if name == "Opened":
                assert fields["channel"] not in told
                told[fields["channel"]] = Told((fields["account_a"], fields["account_b"]))
                told[fields["channel"]].deposit[0] = fields["deposit"]
            elif name == "Credited":
                claimable[fields["account"]] += fields["amount"]
            elif name == "Claimed":
                claimable[fields["account"]] -= fields["amount"]
            elif name != "RowSkipped":
                _tell(told[fields["channel"]], name, fields)
    return told, claimable


def _tell(channel: Told, name: str, fields: dict[str, Any]) -> None:
    if name == "Deposited":
        side = channel.accounts.index(fields["account"])
        channel.deposit[side] += fields["amount"]
        assert channel.status == OPEN
        assert channel.deposit[side] == fields["deposit_total"]
    elif name == "Withdrawn":
        side = channel.accounts.index(fields["account"])
        channel.withdrawn[side] += fields["amount"]
        assert channel.status == OPEN
        assert channel.withdrawn[side] == fields["total"]
    elif name == "Settled":
        side = channel.accounts.index(fields["payer"])
        assert channel.status in (OPEN, CLOSING)
        assert channel.transferred[side] == fields["transferred_before"] < fields["transferred"]
        channel.transferred[side] = fields["transferred"]
    elif name == "CloseStarted":
        assert channel.status == OPEN
        channel.status = CLOSING
        channel.deadline = (fields["deadline_seconds"], fields["deadline_block"])
    else:
        assert name == "Closed"
        assert channel.status == CLOSING or (channel.status == OPEN and fields["cooperative"])
        channel.status = CLOSED
        channel.deadline = (0, 0)
        channel.payouts = fields["payout_a"] + fields["payout_b"]


def _check_token(city: City) -> None:
    balances: Counter[str] = Counter()
    for address, (name, fields) in city.evm.log:
        if address == city.token.address and name == "Transfer":
            balances[fields["sender"]] -= fields["value"]
            balances[fields["receiver"]] += fields["value"]
    supply = -balances.pop(NOBODY)
    assert city.token.read("totalSupply") == supply == balances.total()
    for account, balance in balances.items():
        assert city.balance(account) == balance
