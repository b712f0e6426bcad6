"""Runs the compiled contract over every combination of boundary values of a channel's two words.

`python -m tests.contract.proofs.search` in the repository's root. The words are written into
storage and each function is called by a bare message: what a transaction adds is not the point.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from eth.abc import ComputationAPI
from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from ..city import City, PackedRow, alice, hub, treasury
from ..evm import BLOCK_GAS, Evm, Person

NEVER, OPEN, CLOSING, CLOSED = range(4)
STATUSES = (NEVER, OPEN, CLOSING, CLOSED, 255)
MONEY_MAX, TOTAL_MAX = 2**76 - 1, 2**96 - 1
SLOTS_MAX = 64
EXPIRES = 2**64 - 1

FEW = (0, 1, None)
MANY = (0, 1, 2, -1, None)  # -1: one below the greatest, None: the greatest
BETWEEN = 2**75  # half of what a deposit can be: two of them make a carry


class Lane(NamedTuple):
    """What a lane's word holds, here by multiplication, in the contract by shifts."""

    transferred: int
    deposit: int
    withdrawn: int

    def word(self, status: int) -> int:
        return self.transferred * 2**160 + self.deposit * 2**84 + self.withdrawn * 2**8 + status


class Broken(Exception):
    """A case in which the contract does not do what it must."""


def must(holds: bool, *case: object) -> None:
    if not holds:
        raise Broken(*case)


def bounds(most: int, few: bool) -> list[int]:
    chosen: tuple[int | None, ...] = FEW if few else MANY
    values = [most if n is None else most - 1 if n == -1 else n for n in chosen]
    return values if few or most == TOTAL_MAX else [*values, BETWEEN]


def lanes(*, few: bool) -> list[Lane]:
    money = bounds(MONEY_MAX, few)
    return [Lane(*values) for values in product(bounds(TOTAL_MAX, few), money, money)]


def pairs(*, few: bool) -> Iterator[tuple[Lane, Lane]]:
    """Every pair of lanes that can be: no more is withdrawn than was deposited."""
    some = lanes(few=few)
    for a, b in product(some, some):
        if a.withdrawn + b.withdrawn <= a.deposit + b.deposit:
            yield a, b


@dataclass(frozen=True)
class Slots:
    """Where the channel's two words and its deadline stand in the contract's storage."""

    word_a: int
    word_b: int
    deadline: int


class Contract:
    """One channel on the compiled contract, whose words are written at will."""

    def __init__(self) -> None:
        self.city = City.built(Evm())
        self.terms = self.city.open(deposit=3, challenge_seconds=600, challenge_blocks=10)
        self.channel = self.city.channel(self.terms)
        self.address = to_canonical_address(self.city.channels.address)
        self.city.channels.send(hub, "deposit", self.terms, alice.address, 5)
        self.city.token.send(treasury, "mint", self.city.channels.address, 2**100, b"\x52" * 32)
        self.city.token.send(treasury, "mint", hub.address, 2**100, b"\x53" * 32)
        self.slots = self._found()
        self.city.evm.pass_time(seconds=700, blocks=20)
        self.city.evm.state.lock_changes()

    def _found(self) -> Slots:
        a = self._slot_of(Lane(0, 3, 0).word(OPEN))
        b = self._slot_of(Lane(0, 5, 0).word(NEVER))
        beginning = self.city.evm.checkpoint()
        self.city.channels.send(hub, "start_close", self.terms, 0, b"")
        evm = self.city.evm
        deadline = self._slot_of((evm.time + 600 << 64) + evm.block + 10)
        self.city.evm.restore(beginning)
        return Slots(a, b, deadline)

    def _slot_of(self, value: int) -> int:
        for number in range(SLOTS_MAX):
            slot = int.from_bytes(keccak(number.to_bytes(32, "big") + self.channel), "big")
            if self.city.evm.state.get_storage(self.address, slot) == value:
                return slot
        raise Broken("no mapping of the contract holds", value)

    def write(self, word_a: int, word_b: int, deadline: int = 0) -> None:
        state = self.city.evm.state
        state.set_storage(self.address, self.slots.word_a, word_a)
        state.set_storage(self.address, self.slots.word_b, word_b)
        state.set_storage(self.address, self.slots.deadline, deadline)

    def words(self) -> tuple[int, int]:
        state = self.city.evm.state
        return (
            state.get_storage(self.address, self.slots.word_a),
            state.get_storage(self.address, self.slots.word_b),
        )

    def call(self, sender: Person, data: bytes) -> ComputationAPI:
        state = self.city.evm.state
        message = Message(
            gas=BLOCK_GAS,
            to=self.address,
            sender=to_canonical_address(sender.address),
            value=0,
            data=data,
            code=state.get_code(self.address),
        )
        context = BaseTransactionContext(gas_price=0, origin=message.sender)
        return state.computation_class.apply_message(state, message, context)

    def event(self, computation: ComputationAPI, name: str) -> dict[str, Any]:
        for address, topics, data in computation.get_log_entries():
            event = self.city.evm.contracts[address].decode_log(
                [topic.to_bytes(32, "big") for topic in topics], data
            )
            if event.name == name:
                return event.fields
        raise Broken("no event", name)

    @cache  # noqa: B019 - one contract lives as long as the run
    def signed(self, kind: str, *values: int | str) -> tuple[bytes, bytes]:
        names = {
            "Withdrawal": ("account", "total", "expires"),
            "Close": ("transferredA", "transferredB", "expires"),
        }[kind]
        message = {"channel": self.channel} | dict(zip(names, values, strict=True))
        return self.city.signatures(kind, message)


def clamped(a: Lane, b: Lane) -> tuple[int, int]:
    """What A and B are due, by Python's unbounded integers."""
    locked = a.deposit + b.deposit - a.withdrawn - b.withdrawn
    balance = a.deposit - a.withdrawn + b.transferred - a.transferred
    payout = min(max(balance, 0), locked)
    return payout, locked - payout


def paid(contract: Contract, computation: ComputationAPI, due: tuple[int, int]) -> bool:
    """Whether the event and the token's own events say that this was paid."""
    closed = contract.event(computation, "Closed")
    transfers: Counter[str] = Counter()
    for address, topics, data in computation.get_log_entries():
        if address == to_canonical_address(contract.city.token.address):
            fields = contract.city.token.decode_log([t.to_bytes(32, "big") for t in topics], data)
            transfers[fields.fields["receiver"]] += fields.fields["value"]
    terms = contract.terms
    moved = (transfers[terms.account_a], transfers[terms.account_b])
    return (closed["payout_a"], closed["payout_b"]) == due == moved


def finish_close(contract: Contract, a: Lane, b: Lane) -> int:
    """Never reverts, pays what is due, conserves, and changes nothing but the status."""
    data = contract.city.channels.data("finish_close", contract.terms)
    contract.write(a.word(CLOSING), b.word(0))
    computation = contract.call(hub, data)
    must(not computation.is_error, "finish_close reverted", a, b)
    due = clamped(a, b)
    must(paid(contract, computation, due), "finish_close paid wrongly", a, b)
    must(contract.words() == (a.word(CLOSED), b.word(0)), "finish_close spoilt a word", a, b)
    return 1


def close(contract: Contract, a: Lane, b: Lane) -> int:
    """With any totals: pays what they make due, and changes nothing but the status."""
    for total_a, total_b in product((0, TOTAL_MAX), (0, TOTAL_MAX)):
        signatures = contract.signed("Close", total_a, total_b, EXPIRES)
        data = contract.city.channels.data(
            "close", contract.terms, total_a, total_b, EXPIRES, *signatures
        )
        contract.write(a.word(OPEN), b.word(0))
        computation = contract.call(hub, data)
        must(not computation.is_error, "close reverted", a, b)
        due = clamped(a._replace(transferred=total_a), b._replace(transferred=total_b))
        must(paid(contract, computation, due), "close paid wrongly", a, b, total_a, total_b)
        must(contract.words() == (a.word(CLOSED), b.word(0)), "close spoilt a word", a, b)
    return 4


def settle(contract: Contract, a: Lane, b: Lane) -> int:
    """Raises only the named lane's total, only upwards, only while open or closing."""
    count = 0
    words = tuple(int(w, 16) if isinstance(w, str) else w for w in contract.terms)
    for lane, total, status in product((0, 1), (0, 1, 2, TOTAL_MAX - 1, TOTAL_MAX), STATUSES):
        row = PackedRow(words, lane << 160 | 7 << 96 | total, bytes(32), bytes(32), 0, 0)
        contract.write(a.word(status), b.word(0))
        payer = (hub, alice)[lane]
        computation = contract.call(payer, contract.city.channels.data("settle_many", [row]))
        must(not computation.is_error, "settle_many reverted", a, b, lane, total, status)
        after = [a, b]
        if status in (OPEN, CLOSING) and total > after[lane].transferred:
            after[lane] = after[lane]._replace(transferred=total)
        expected = (after[0].word(status), after[1].word(0))
        must(contract.words() == expected, "settle_many spoilt a word", a, b, lane, total, status)
        count += 1
    return count


def deposit(contract: Contract, a: Lane, b: Lane) -> int:
    """Adds to one deposit, within its bits, only while open; else reverts and changes nothing."""
    count = 0
    for side, status in product((0, 1), STATUSES):
        before = (a, b)[side].deposit
        amounts = {0, 1, MONEY_MAX - before, MONEY_MAX - before + 1, MONEY_MAX + 1, 2**256 - 1}
        account = (contract.terms.account_a, contract.terms.account_b)[side]
        for amount in sorted(amounts):
            contract.write(a.word(status), b.word(0))
            data = contract.city.channels.data("deposit", contract.terms, account, amount)
            computation = contract.call(hub, data)
            fits = 0 < amount <= MONEY_MAX - before and status == OPEN
            must(computation.is_success == fits, "deposit", a, b, side, amount, status)
            after = [a, b]
            if fits:
                after[side] = after[side]._replace(deposit=before + amount)
            expected = (after[0].word(status), after[1].word(0))
            must(contract.words() == expected, "deposit spoilt a word", a, b, side, amount)
            count += 1
    return count


def withdraw(contract: Contract, a: Lane, b: Lane) -> int:
    """Raises one withdrawn total by what is locked at most; else reverts and changes nothing."""
    count = 0
    locked = a.deposit + b.deposit - a.withdrawn - b.withdrawn
    for side, status in product((0, 1), STATUSES):
        before = (a, b)[side].withdrawn
        account = (contract.terms.account_a, contract.terms.account_b)[side]
        totals = {0, before, before + 1, before + locked, before + locked + 1, MONEY_MAX + 1}
        for total in sorted(totals):
            count += 1
            signatures = contract.signed("Withdrawal", account, total, EXPIRES)
            contract.write(a.word(status), b.word(0))
            data = contract.city.channels.data(
                "withdraw", contract.terms, account, total, EXPIRES, *signatures
            )
            computation = contract.call(hub, data)
            fits = before < total <= min(before + locked, MONEY_MAX) and status == OPEN
            must(computation.is_success == fits, "withdraw", a, b, side, total, status)
            after = [a, b]
            if fits:
                after[side] = after[side]._replace(withdrawn=total)
            expected = (after[0].word(status), after[1].word(0))
            must(contract.words() == expected, "withdraw spoilt a word", a, b, side, total)
    return count


def start_close(contract: Contract, a: Lane, b: Lane) -> int:
    """Changes nothing but the status, only while open."""
    data = contract.city.channels.data("start_close", contract.terms, 0, b"")
    for status in STATUSES:
        contract.write(a.word(status), b.word(0))
        computation = contract.call(hub, data)
        must(computation.is_success == (status == OPEN), "start_close", a, b, status)
        after = CLOSING if status == OPEN else status
        must(contract.words() == (a.word(after), b.word(0)), "start_close spoilt a word", a, b)
    return len(STATUSES)


def read(contract: Contract, a: Lane, b: Lane) -> int:
    """The contract reads back what was packed."""
    data = contract.city.channels.data("channel_state", contract.channel)
    for status in STATUSES:
        contract.write(a.word(status), b.word(0))
        output = contract.call(hub, data).output
        words = [int.from_bytes(output[n : n + 32], "big") for n in range(0, len(output), 32)]
        must(words == [status, *a, *b, 0, 0], "channel_state", a, b, status)
    return len(STATUSES)


WRITES = (close, settle, deposit, withdraw, start_close, read)
Check: TypeAlias = Callable[[Contract, Lane, Lane], int]


def search(
    contract: Contract, some: Iterable[tuple[Lane, Lane]], checks: Iterable[Check]
) -> Counter[str]:
    """Run the checks on these pairs of words, each from the same beginning; count the calls."""
    counts: Counter[str] = Counter()
    state = contract.city.evm.state
    chosen = tuple(checks)
    for a, b in some:
        for check in chosen:
            snapshot = state.snapshot()
            counts[check.__name__] += check(contract, a, b)
            state.revert(snapshot)
        counts["pairs"] += 1
    return counts


def main() -> None:
    """Print how many calls each check made; raises `Broken` with the first case that fails."""
    contract = Contract()
    for few, checks in ((False, (finish_close,)), (True, WRITES)):
        began = time.monotonic()
        counts = search(contract, pairs(few=few), checks)
        took = time.monotonic() - began
        figures = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        sys.stdout.write(f"{figures}: all hold ({took:.0f} s)\n")


if __name__ == "__main__":
    main()
