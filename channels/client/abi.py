"""Calls of the contracts, encoded and decoded by hand: the few that a device makes.

Rule: selectors and topics are constants here and golden-tested against the shipped artifacts.
Source: https://docs.soliditylang.org/en/latest/abi-spec.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import LocalError
from ..ids import ADDRESS_BYTES, WORD_BYTES, Address
from ..state import CloseTerms, WithdrawalTerms
from ..terms import Side, Terms
from ..voucher import SIGNATURE_BYTES, Voucher
from .rpc import RpcUnusable

SETTLE_ROWS_MAX: Final = 128
"""The contract's own, of one `settle`."""

_TERMS: Final = "(address,address,address,address,uint64,uint64,uint64)"
_TERMS_WORDS: Final = 7
_ADDRESS_PAD: Final = bytes(WORD_BYTES - ADDRESS_BYTES)


class NotEncodable(LocalError):
    """A value that the contract's type cannot hold; nothing was sent."""

    code = "not-encodable"
    remedy = "correct the value: the contract would refuse this call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A contract's function: its canonical signature and the 4 bytes that select it."""

    signature: str
    selector: bytes


def _method(signature: str, selector: str) -> Method:
    return Method(signature=signature, selector=bytes.fromhex(selector))


DEPLOYMENT: Final = _method("DEPLOYMENT()", "778d5ae9")
TOKEN: Final = _method("TOKEN()", "82bfefc8")
REGISTRY: Final = _method("REGISTRY()", "06433b1b")
CHANNEL_STATE: Final = _method("channel_state(bytes32)", "73ac9903")
CLAIMABLE: Final = _method("claimable(address)", "402914f5")
START_CLOSE: Final = _method(f"start_close({_TERMS},uint64,bytes)", "305b3309")
FINISH_CLOSE: Final = _method(f"finish_close({_TERMS})", "67f9d82e")
SETTLE: Final = _method(
    f"settle(({_TERMS},uint256,uint256,uint256,bytes32,bytes32,bytes)[])", "d6ac7b79"
)
CLOSE: Final = _method(f"close({_TERMS},uint256,uint256,uint64,bytes,bytes)", "b2cc6ad6")
WITHDRAW: Final = _method(f"withdraw({_TERMS},address,uint256,uint64,bytes,bytes)", "ba572c02")
DEPOSIT: Final = _method(f"deposit({_TERMS},address,uint256)", "ce890b6a")
CLAIM: Final = _method("claim(address)", "1e83409a")
IS_ACTIVE: Final = _method("is_active(address)", "4e07f059")
BALANCE_OF: Final = _method("balanceOf(address)", "70a08231")
ALLOWANCE: Final = _method("allowance(address,address)", "dd62ed3e")
APPROVE: Final = _method("approve(address,uint256)", "095ea7b3")

METHODS: Final = {
    "payment_channels": (
        DEPLOYMENT,
        TOKEN,
        REGISTRY,
        CHANNEL_STATE,
        CLAIMABLE,
        START_CLOSE,
        FINISH_CLOSE,
        SETTLE,
        CLOSE,
        WITHDRAW,
        DEPOSIT,
        CLAIM,
    ),
    "member_registry": (IS_ACTIVE,),
    "city_credit": (BALANCE_OF, ALLOWANCE, APPROVE),
}
"""All of them, by contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleRow:
    """One row of `settle`: a voucher, signed, or unsigned where the sender is its payer."""

    terms: Terms
    voucher: Voucher
    signed: bool = True

    @property
    def lane(self) -> Side:
        """The lane that the voucher's payer pays on; raises `NotEncodable` for a stranger's."""
        for side in Side:
            if self.terms.account(side) == self.voucher.payer:
                return side
        raise NotEncodable("the voucher's payer is no party of the channel")


def view(method: Method, *arguments: bytes) -> bytes:
    """Encode a call whose arguments are addresses or 32-byte words."""
    return method.selector + b"".join(_left_padded(argument) for argument in arguments)


def start_close(terms: Terms, *, expires: int, signature: bytes) -> bytes:
    """Encode `start_close`; the signature is empty where the sender is a party."""
    return _with_tails(START_CLOSE, [_terms(terms), _uint(expires, 64)], [signature])


def finish_close(terms: Terms) -> bytes:
    """Encode `finish_close`."""
    return FINISH_CLOSE.selector + _terms(terms)


def close(terms: Terms, content: CloseTerms, *, signature_a: bytes, signature_b: bytes) -> bytes:
    """Encode the cooperative `close`."""
    head = [
        _terms(terms),
        _uint(content.transferred_a_ucent, 256),
        _uint(content.transferred_b_ucent, 256),
        _uint(content.expires, 64),
    ]
    return _with_tails(CLOSE, head, [signature_a, signature_b])


def withdraw(
    terms: Terms, content: WithdrawalTerms, *, signature_a: bytes, signature_b: bytes
) -> bytes:
    """Encode the cooperative `withdraw`."""
    head = [
        _terms(terms),
        _left_padded(terms.account(content.side)),
        _uint(content.total_ucent, 256),
        _uint(content.expires, 64),
    ]
    return _with_tails(WITHDRAW, head, [signature_a, signature_b])


def deposit(terms: Terms, *, account: Address, amount_ucent: int) -> bytes:
    """Encode `deposit`; the sender pays and the account's balance grows."""
    return DEPOSIT.selector + _terms(terms) + _left_padded(account) + _uint(amount_ucent, 256)


def approve(spender: Address, amount_ucent: int) -> bytes:
    """Encode the token's `approve`."""
    return APPROVE.selector + _left_padded(spender) + _uint(amount_ucent, 256)


def claim(account: Address) -> bytes:
    """Encode `claim`."""
    return CLAIM.selector + _left_padded(account)


def settle(rows: Sequence[SettleRow]) -> bytes:
    """Encode `settle`; raises `NotEncodable` for no row or more than the contract takes."""
    if not 1 <= len(rows) <= SETTLE_ROWS_MAX:
        raise NotEncodable(f"{len(rows)} rows are not between 1 and {SETTLE_ROWS_MAX}")
    encoded = [_settle_row(row) for row in rows]
    offsets: list[bytes] = []
    offset = WORD_BYTES * len(encoded)
    for row in encoded:
        offsets.append(_uint(offset, 256))
        offset += len(row)
    head = SETTLE.selector + _uint(WORD_BYTES, 256) + _uint(len(encoded), 256)
    return head + b"".join(offsets) + b"".join(encoded)


def words(data: bytes, count: int, what: str) -> tuple[bytes, ...]:
    """Split what a call returned into exactly `count` words; raises `RpcUnusable`."""
    if len(data) != count * WORD_BYTES:
        raise RpcUnusable(f"{what} is {len(data)} bytes, not {count} words")
    return tuple(data[i : i + WORD_BYTES] for i in range(0, len(data), WORD_BYTES))


def uint_of(word: bytes, what: str, *, bits: int = 256) -> int:
    """Read an unsigned number below 2**bits; raises `RpcUnusable`."""
    number = int.from_bytes(word, "big")
    if number >> bits:
        raise RpcUnusable(f"{what} is above 2**{bits} - 1")
    return number


def address_of(word: bytes, what: str) -> Address:
    """Read an address; raises `RpcUnusable`."""
    if not word.startswith(_ADDRESS_PAD):
        raise RpcUnusable(f"{what} is no address")
    return Address(word[len(_ADDRESS_PAD) :])


def bool_of(word: bytes, what: str) -> bool:
    """Read a truth value; raises `RpcUnusable`."""
    return bool(uint_of(word, what, bits=1))


def word_of(address: Address) -> bytes:
    """An address as a 32-byte word, as topics hold it."""
    return _left_padded(address)


def _settle_row(row: SettleRow) -> bytes:
    total = row.voucher.total
    head = [
        _terms(row.terms),
        _uint(row.lane, 256),
        _uint(total.nonce, 256),
        _uint(total.transferred_ucent, 256),
        total.history,
        row.voucher.conditions,
    ]
    return _tuple(head, [row.voucher.signature if row.signed else b""])


def _with_tails(method: Method, head: Sequence[bytes], tails: Sequence[bytes]) -> bytes:
    return method.selector + _tuple(head, tails)


def _tuple(head: Sequence[bytes], tails: Sequence[bytes]) -> bytes:
    """Static members first, then `bytes` members: true of all that is encoded here."""
    offset = sum(map(len, head)) + WORD_BYTES * len(tails)
    offsets, encoded = bytearray(), bytearray()
    for tail in tails:
        if len(tail) not in (0, SIGNATURE_BYTES):
            raise NotEncodable(f"a signature of {len(tail)} bytes is not {SIGNATURE_BYTES}")
        offsets += _uint(offset + len(encoded), 256)
        encoded += _uint(len(tail), 256) + tail + bytes(-len(tail) % WORD_BYTES)
    return b"".join(head) + bytes(offsets) + bytes(encoded)


def _terms(terms: Terms) -> bytes:
    addresses = (terms.account_a, terms.signer_a, terms.account_b, terms.signer_b)
    numbers = (terms.challenge_seconds, terms.challenge_blocks, terms.sequence)
    return b"".join(map(_left_padded, addresses)) + b"".join(_uint(n, 64) for n in numbers)


def _uint(number: int, bits: int) -> bytes:
    if number < 0 or number >> bits:
        raise NotEncodable(f"{number} does not fit {bits} bits")
    return int(number).to_bytes(WORD_BYTES, "big")


def _left_padded(value: bytes) -> bytes:
    if len(value) not in (ADDRESS_BYTES, WORD_BYTES):
        raise NotEncodable(f"{len(value)} bytes are neither an address nor a word")
    return value.rjust(WORD_BYTES, b"\0")
