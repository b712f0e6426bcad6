"""Transactions by dice, for two nodes that must treat them alike; one seed gives one list."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from farthing.channels.ids import Address, address_to_hex, to_hex
from farthing.devnet.accounts import DevAccount

from ..contract.devnet_probe import calldata, compiled

GAS_PLENTY = 3_000_000
WEI = 10**18


@dataclass(frozen=True, kw_only=True)
class Promise:
    """An authorization before it has its signer's nonce (EIP-7702)."""

    key: bytes
    address: Address
    other_chain: int | None
    """A chain id that is not the nodes' own."""
    nonces_off: int
    spoilt: dict[str, int]
    """Fields that are changed after it was signed."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A transaction before it has a sender's nonce: what `kind` it was meant to be, and fields."""

    kind: str
    fields: dict[str, Any]
    estimated: bool = True
    """Whether two nodes have to give the same estimate: not where the code looks at its gas."""
    refused: bool = False
    """Whether no node may take it."""
    promises: tuple[Promise, ...] = ()


@dataclass
class Dice:
    """Makes orders; it knows the contracts that were deployed before."""

    seed: int
    accounts: Sequence[DevAccount]
    idle: Sequence[DevAccount]
    """Accounts with money that send nothing, and sign authorizations as the others do."""
    probe: Address
    others: list[Address] = field(default_factory=list)
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311 - a list that can be made again

    def sender(self) -> DevAccount:
        return self._dice.choice(self.accounts)

    def order(self, types: Sequence[int]) -> Order:
        """The next order: a kind by dice, with fees, gas limit and access list by dice."""
        makers: list[tuple[int, Callable[[], Order]]] = [
            (6, self._transfer),
            (10, self._probe_call),
            (4, self._probe_refusal),
            (5, self._creation),
            (6, self._random_code),
            (4, self._random_call),
            (5, self._code_that_calls),
            (3, self._precompile),
            (2, self._data_only),
            (2, self._unacceptable),
        ]
        make = self._dice.choices([m for _, m in makers], [weight for weight, _ in makers])[0]
        made = make()
        fields = {"value": 0, "data": "0x", **made.fields}
        if "to" in fields:
            fields["to"] = address_to_hex(fields["to"])
        kind = self._dice.choice(types)
        if kind == 4 and "to" not in fields:
            kind = 2  # one with authorizations makes no contract
        return Order(
            kind=f"{made.kind}, type {kind}",
            fields=self._with_fees(kind, fields),
            estimated=made.estimated,
            refused=made.refused,
            promises=self._promises() if kind == 4 else (),
        )

    # -- fees and access lists

    def _with_fees(self, kind: int, fields: dict[str, Any]) -> dict[str, Any]:
        price = self._dice.choice([0, 0, 1, 10**9, 7 * 10**9 + 13])
        chosen = {"gas": self._gas(), **fields}
        if kind in (2, 4):
            tip = self._dice.choice([0, price, price // 2])
            chosen |= {"type": kind, "maxFeePerGas": price, "maxPriorityFeePerGas": tip}
        else:
            chosen |= {"gasPrice": price}
        if kind == 1:
            chosen |= {"type": 1}
        if kind:
            chosen |= {"accessList": self._access_list()}
        return chosen

    def _promises(self) -> tuple[Promise, ...]:
        """One to three authorizations: good ones mostly, and each way to be void."""
        return tuple(self._promise() for _ in range(self._dice.choice([1, 1, 1, 2, 3])))

    def _promise(self) -> Promise:
        zero, precompile = (Address(number.to_bytes(20)) for number in (0, 4))
        return Promise(
            key=self._dice.choice([*self.accounts, *self.idle]).private_key,
            address=self._dice.choice([self.probe, self._anybody(), zero, precompile]),
            other_chain=self._dice.choice([None, None, None, 0, 1]),
            nonces_off=self._dice.choice([0] * 5 + [1, -1]),
            spoilt=self._dice.choice([{}] * 6 + [{"r": 1}, {"s": 2**255}, {"nonce": 2**64 - 1}]),
        )

    def _gas(self) -> int:
        """Plenty mostly; sometimes so little that it runs out."""
        return self._dice.choice([GAS_PLENTY] * 6 + [60_000, 90_000, 150_000])

    def _access_list(self) -> list[dict[str, Any]]:
        rows = self._dice.choice([0, 0, 1, 2])
        return [
            {
                "address": address_to_hex(self._anybody()),
                "storageKeys": [
                    to_hex(self._dice.randrange(4).to_bytes(32))
                    for _ in range(self._dice.randrange(3))
                ],
            }
            for _ in range(rows)
        ]

    def _anybody(self) -> Address:
        """An account with a key, a contract, or one that nobody has used yet."""
        known = [account.address for account in self.accounts]
        fresh = Address(self._dice.randbytes(20))
        return self._dice.choice([*known, self.probe, *self.others[-5:], fresh])

    # -- the kinds

    def _transfer(self) -> Order:
        value = self._dice.choice([0, 1, 12_345, WEI // 7])
        return Order(kind="transfer", fields={"to": self._anybody(), "value": value})

    def _probe_call(self) -> Order:
        number = self._dice.randrange
        signature, values, estimated = self._dice.choice(
            [
                ("note(uint256,uint256)", (number(5), number(2**200)), True),
                ("note_many(uint256)", (number(60),), True),
                ("fill(uint256,uint256,uint256)", (number(20), number(30), number(3)), True),
                ("outer(uint256)", (0,), True),
                ("dive()", (), False),
                ("pay()", (), True),
                ("words(uint256)", (number(20),), True),
            ]
        )
        value = number(WEI) if signature == "pay()" else 0
        data = to_hex(calldata(signature, *values))
        fields = {"to": self.probe, "data": data, "value": value}
        return Order(kind=signature, fields=fields, estimated=estimated)

    def _probe_refusal(self) -> Order:
        signature, values = self._dice.choice(
            [
                ("refuse()", ()),
                ("refuse_silently()", ()),
                ("refuse_with_numbers(uint256,uint256)", (self._dice.randrange(99), 2**255)),
                ("break_down()", ()),
                ("no_such_method()", ()),
            ]
        )
        value = self._dice.choice([0, 0, 5])
        data = to_hex(calldata(signature, *values))
        return Order(kind=signature, fields={"to": self.probe, "data": data, "value": value})

    def _creation(self) -> Order:
        """Creation code that works, and each way in which it does not."""
        zeros = self._dice.choice([1, 32, 24_576, 24_577, 49_152, 49_153])
        what, code = self._dice.choice(
            [
                ("the probe", compiled()[0]),
                ("nothing", b""),
                ("code of zeros", _returning(zeros)),
                ("code that starts with 0xEF", bytes.fromhex("60ef5f5360015ff3")),
                ("a revert with data", bytes.fromhex("63deadbeef5f526004601cfd")),
                ("an invalid opcode", b"\xfe"),
                ("much creation code", b"\x00" * zeros),
            ]
        )
        value = self._dice.choice([0, 0, 0, 3])
        return Order(
            kind=f"creating {what}",
            fields={"data": to_hex(code), "value": value},
            refused=len(code) > 49_152,
        )

    def _random_code(self) -> Order:
        """A new contract whose code is dice, and which is run while it is created."""
        body = _random_program(self._dice)
        return Order(kind="running random code", fields={"data": to_hex(body)}, estimated=False)

    def _random_call(self) -> Order:
        if not self.others:
            return self._random_code()
        data = self._dice.randbytes(self._dice.randrange(80))
        to = self._dice.choice(self.others)
        return Order(kind="calling", fields={"to": to, "data": to_hex(data)}, estimated=False)

    def _code_that_calls(self) -> Order:
        """A new contract that asks for accounts' code and calls them in each way while created.

        It keeps what it saw; many of those accounts are delegated (EIP-7702).
        """
        body = bytearray()
        for slot in range(self._dice.randrange(1, 5)):
            address = b"\x73" + self._anybody()
            look = self._dice.choice([*_LOOKS, *_CALLS])
            if look in _CALLS:
                nothing = b"\x5f" * _CALLS[look]
                body += nothing + address + bytes.fromhex("620186a0") + bytes([look])
                body += bytes.fromhex("3d600855")  # the size of what it gave, into slot 8
            else:
                body += address + bytes([look])
            body += bytes([0x60, slot, 0x55])
        body += b"\x00"
        fields = {"data": to_hex(bytes(body)), "value": self._dice.choice([0, 0, 2])}
        return Order(kind="code that calls", fields=fields, estimated=False)

    def _precompile(self) -> Order:
        number = self._dice.randrange(1, 19)
        data = self._dice.randbytes(self._dice.choice([0, 32, 64, 96, 128, 192, 213, 256]))
        to = Address(number.to_bytes(20))
        return Order(kind=f"precompile {number}", fields={"to": to, "data": to_hex(data)})

    def _data_only(self) -> Order:
        """Much calldata for a plain account: its floor price (EIP-7623) is what counts."""
        size = self._dice.randrange(3_000)
        data = self._dice.choice([bytes(size), self._dice.randbytes(size)])
        to = self._dice.choice(self.accounts).address
        return Order(kind="calldata", fields={"to": to, "data": to_hex(data)})

    def _unacceptable(self) -> Order:
        what, fields = self._dice.choice(
            [
                ("too little gas for a transfer", {"gas": 20_999}),
                ("more value than there is", {"value": 10**30}),
                ("a nonce of the past", {"nonce": 0}),
            ]
        )
        to = self.accounts[0].address
        return Order(kind=what, fields={"to": to, **fields}, estimated=False, refused=True)


def _returning(size: int) -> bytes:
    """Creation code that makes a contract of that many zero bytes."""
    return b"\x62" + size.to_bytes(3) + bytes.fromhex("5ff3")


_PLAIN = bytes.fromhex(
    "01020304050607080b101112131415161718191a1b1c1d20303132333435363738393a3b3d3e3f47"
    "50515253545558595b5c5d5e5f8081828390919293a0a1a2"
)
"""Opcodes whose result depends on nothing but the transaction and the state."""


_LOOKS = (0x31, 0x3B, 0x3F)
"""BALANCE, EXTCODESIZE, EXTCODEHASH."""
_CALLS = {0xF1: 5, 0xF2: 5, 0xF4: 4, 0xFA: 4}
"""CALL, CALLCODE, DELEGATECALL, STATICCALL, and how many zeros stand below address and gas."""


def _random_program(dice: random.Random) -> bytes:
    """Pushes of small numbers and plain opcodes, ended by a return, a stop or a revert."""
    out = bytearray()
    for _ in range(dice.randrange(10, 120)):
        if dice.random() < 0.6:
            size = dice.choice([1, 1, 1, 2, 32])
            value = dice.randbytes(size) if size != 1 else bytes([dice.randrange(96)])
            out += bytes([0x5F + size]) + value
        else:
            out.append(dice.choice(_PLAIN))
    return bytes(out) + dice.choice([bytes.fromhex("60405ff3"), b"\x00", bytes.fromhex("60205ffd")])
