"""A deployed city: token, registry, channels, and the people who use them, for contract tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import vyper

from farthing.contracts.artifacts import load

from .evm import Contract, Evm, Outcome, Person

REGISTRAR, TREASURY, HUB, RESIDENT, DEVICE = 1, 2, 3, 4, 5
ACTIVE, SUSPENDED, REMOVED = 1, 2, 3
ZERO32 = b"\x00" * 32
CENT = 1_000_000

registrar = Person("registrar")
treasury = Person("treasury")
hub = Person("hub")
hub_signer = Person("hub signer")
alice = Person("alice")
alice_signer = Person("alice signer")
bob = Person("bob")
carol = Person("carol")
mallory = Person("mallory")

SIGNED_TYPES = {
    "Voucher": "bytes32 channel,address payer,uint64 nonce,uint96 transferred,"
    "bytes32 history,bytes32 conditions",
    "Withdrawal": "bytes32 channel,address account,uint96 total,uint64 expires",
    "Close": "bytes32 channel,uint96 transferredA,uint96 transferredB,uint64 expires",
    "StartClose": "bytes32 channel,uint64 expires",
}


class Terms(NamedTuple):
    account_a: str
    signer_a: str
    account_b: str
    signer_b: str
    challenge_seconds: int
    challenge_blocks: int
    sequence: int


class OpenRow(NamedTuple):
    account_a: str
    signer_a: str
    account_b: str
    signer_b: str
    challenge_seconds: int = 3600
    challenge_blocks: int = 20
    deposit: int = 100 * CENT


class MemberRow(NamedTuple):
    account: str
    role: int
    status: int = ACTIVE
    valid_until: int = 0
    commitment: bytes = ZERO32
    reason: bytes = ZERO32


class SettleRow(NamedTuple):
    terms: Terms
    lane: int
    nonce: int
    transferred: int
    history: bytes = ZERO32
    conditions: bytes = ZERO32
    signature: bytes = b""


class PackedRow(NamedTuple):
    terms: tuple[int, ...]
    statement: int
    history: bytes
    conditions: bytes
    r: int
    s: int


class DepositRow(NamedTuple):
    terms: Terms
    account: str
    amount: int


class State(NamedTuple):
    status: int
    transferred_a: int
    deposit_a: int
    withdrawn_a: int
    transferred_b: int
    deposit_b: int
    withdrawn_b: int
    deadline_seconds: int
    deadline_block: int


def member_rows() -> list[MemberRow]:
    return [
        MemberRow(treasury.address, TREASURY),
        MemberRow(hub.address, HUB),
        MemberRow(hub_signer.address, HUB),
        MemberRow(alice.address, RESIDENT),
        MemberRow(alice_signer.address, DEVICE),
        MemberRow(bob.address, RESIDENT),
        MemberRow(carol.address, RESIDENT),
    ]


@dataclass
class City:
    evm: Evm
    token: Contract
    registry: Contract
    channels: Contract

    @classmethod
    def built(cls, evm: Evm, token: Contract | None = None) -> "City":
        """Deploy everything, enrol everybody but mallory, and give the hub money and an allowance.

        Another token than City Credit must have the same `mint(to, amount, reference)`.
        """
        registry = deploy(evm, "member_registry", registrar.address)
        registry.send(registrar, "set_members", member_rows())
        if token is None:
            token = deploy(evm, "city_credit", registry.address)
        channels = deploy(evm, "payment_channels", token.address, registry.address)
        for reference, person in enumerate((hub, bob), 1):
            token.send(treasury, "mint", person.address, 10**18, bytes([reference]) * 32)
            token.send(person, "approve", channels.address, 2**256 - 1)
        return cls(evm, token, registry, channels)

    def open(self, **changes: Any) -> Terms:
        """Open hub (A) to alice (B), whose signer is a device, with a deposit of A's."""
        row = hub_to_alice(**changes)
        return self.opened(self.channels.send(hub, "open", row))[0]

    @staticmethod
    def opened(outcome: Outcome) -> list[Terms]:
        return [
            Terms(*(fields[name] for name in Terms._fields)) for fields in outcome.named("Opened")
        ]

    def channel(self, terms: Terms) -> bytes:
        channel: bytes = self.channels.read("channel_id", terms)
        return channel

    def state(self, terms: Terms) -> State:
        return State(*self.channels.read("channel_state", self.channel(terms)))

    def balance(self, address: str) -> int:
        balance: int = self.token.read("balanceOf", address)
        return balance

    def typed_data(self, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        fields = [member.split() for member in SIGNED_TYPES[kind].split(",")]
        return {
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                kind: [{"name": name, "type": type_} for type_, name in fields],
            },
            "primaryType": kind,
            "domain": {
                "name": "Farthing",
                "version": "1",
                "chainId": self.evm.chain_id,
                "verifyingContract": self.channels.address,
            },
            "message": message,
        }

    def voucher(self, terms: Terms, lane: int, transferred: int, **changes: Any) -> SettleRow:
        """Return a row signed by the lane's signer, or by `by`; other changes go into the row."""
        by = changes.pop("by", hub_signer if lane == 0 else alice_signer)
        row = SettleRow(terms, lane, changes.pop("nonce", 1), transferred, **changes)
        message = {
            "channel": self.channel(terms),
            "payer": terms.account_b if lane == 1 else terms.account_a,
            "nonce": row.nonce,
            "transferred": row.transferred,
            "history": row.history,
            "conditions": row.conditions,
        }
        return row._replace(signature=by.sign(self.typed_data("Voucher", message)))

    def settled(self, sender: Person, *rows: SettleRow) -> Outcome:
        return self.channels.send(sender, "settle", rows)

    def signatures(self, kind: str, message: dict[str, Any]) -> tuple[bytes, bytes]:
        data = self.typed_data(kind, message)
        return hub_signer.sign(data), alice_signer.sign(data)


def packed(row: SettleRow) -> PackedRow:
    """Return the row as settle_many takes it."""
    signature = row.signature.ljust(65, b"\x00")
    words = tuple(int(word, 16) if isinstance(word, str) else word for word in row.terms)
    return PackedRow(
        words,
        signature[64] << 168 | row.lane << 160 | row.nonce << 96 | row.transferred,
        row.history,
        row.conditions,
        int.from_bytes(signature[:32], "big"),
        int.from_bytes(signature[32:64], "big"),
    )


def hub_to_alice(**changes: Any) -> OpenRow:
    row = OpenRow(hub.address, hub_signer.address, alice.address, alice_signer.address)
    return row._replace(**changes)


def deploy(evm: Evm, name: str, *arguments: Any) -> Contract:
    artifact = load(name)
    return evm.deploy(registrar, artifact.abi, artifact.bytecode, *arguments)


def compiled(name: str) -> tuple[Any, bytes]:
    """Compile a contract that only tests use; return its ABI and its creation code."""
    source = Path(__file__).with_name(f"{name}.vy").read_text(encoding="utf-8")
    output = vyper.compile_code(source, output_formats=["abi", "bytecode"])
    return output["abi"], bytes.fromhex(output["bytecode"][2:])
