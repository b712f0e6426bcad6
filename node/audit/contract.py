"""Checks that the chain holds a deployment as it was made: code, immutables, constructors, roles.

Rule: whatever differs is a finding that says which bytes or which role; what cannot be read raises,
and nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...channels.errors import FarthingError
from ...channels.hashing import keccak256
from ...channels.ids import WORD_BYTES, Address, address_to_hex, to_hex
from ...contracts.artifacts import Artifact, load
from .abi import data_from_hex, number_from_hex
from .audit import record_text
from .chain import ChainReader
from .creations import Creation, read_creation
from .deployed import Deployed
from .records import BlockRef, Membership
from .report import EXIT_DIFFERS, EXIT_TIES_OUT, Inconclusive
from .rpc import HttpRpc, Rpc

ROLE_NAMES = ("none", "registrar", "treasury", "hub", "resident", "device", "relayer", "auditor")
"""By the registry's number."""
_REGISTRAR, _TREASURY = 1, 2
_ACTIVE = 1
_ORDER = ("member_registry", "city_credit", "payment_channels")
"""In which the contracts are made."""


class Difference(StrEnum):
    """What a finding is about; codes never change their meaning."""

    CODE_MISSING = "code-missing"
    CODE_DIFFERS = "code-differs"
    IMMUTABLE_DIFFERS = "immutable-differs"
    CREATION_DIFFERS = "creation-differs"
    DEPLOYMENT_ID_DIFFERS = "deployment-id-differs"
    FIRST_REGISTRAR_DIFFERS = "first-registrar-differs"
    ROLES_DIFFER = "roles-differ"
    ROLE_LEFT_BEHIND = "role-left-behind"
    REGISTRAR_LOST = "registrar-lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractFinding:
    """One difference and where it is."""

    code: Difference
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractReport:
    """What the check concluded, and who may change the registry or mint as of the block."""

    block: BlockRef
    deployed: Deployed
    code_bytes: dict[str, int]
    registrars: tuple[Address, ...]
    treasuries: tuple[Address, ...]
    findings: tuple[ContractFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether all of it is as it was made."""
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0 as it was made, 1 it differs."""
        return EXIT_TIES_OUT if self.ok else EXIT_DIFFERS

    def to_json(self) -> dict[str, Any]:
        """One object that `json.dumps` takes."""
        return {
            "ok": self.ok,
            "inconclusive": False,
            "block": self.block.number,
            "block_hash": to_hex(self.block.hash),
            "deployer": address_to_hex(self.deployed.deployer),
            "registrars": [address_to_hex(account) for account in self.registrars],
            "treasuries": [address_to_hex(account) for account in self.treasuries],
            "code_bytes": self.code_bytes,
            "findings": [
                {"code": str(finding.code), "subject": finding.subject, "text": finding.text}
                for finding in self.findings
            ],
        }

    def to_text(self) -> str:
        """Findings one a line, then what was compared and the conclusion."""
        lines = [f"failure {f.code}: {f.subject}: {f.text}" for f in self.findings]
        if lines:
            lines.append("")
        addresses = self.deployed.addresses
        lines += [
            f"{name:<16}  {address_to_hex(addresses[name])}  {self.code_bytes[name]:>6} bytes"
            for name in _ORDER
        ]
        for name, accounts in (("registrar", self.registrars), ("treasury", self.treasuries)):
            lines += [f"{name:<16}  {address_to_hex(account)}" for account in accounts]
        outcome = "as it was made" if self.ok else f"differs: {len(self.findings)} findings"
        lines += ["", f"block {self.block.number}: {outcome}"]
        return "\n".join(lines)


def check_contracts(
    *,
    rpc_url: str,
    deployment: Path,
    governance: Address | None = None,
    block: int | None = None,
) -> ContractReport | Inconclusive:
    """Check a deployment at a block, the newest by default; what stops it is the outcome too."""
    try:
        deployed = Deployed.from_json(record_text(deployment))
        with HttpRpc(rpc_url) as rpc:
            return verify(rpc, deployed, governance=governance, block=block)
    except FarthingError as error:
        return Inconclusive.because(error)


def verify(
    rpc: Rpc, deployed: Deployed, *, governance: Address | None = None, block: int | None = None
) -> ContractReport:
    """Read all of it and compare; raises what makes it inconclusive (`errors.py`)."""
    reader = ChainReader(rpc, deployed.deployment)
    reader.verify_chain()
    pinned = reader.pin(block)
    check = _Check(rpc, reader, deployed, pinned)
    check.code()
    check.creations()
    registrar = deployed.registrar if governance is None else governance
    members = reader.memberships(pinned)
    now = reader.timestamp(pinned.number)
    check.roles(members, registrar, now)
    reader.confirm(pinned)
    return ContractReport(
        block=pinned,
        deployed=deployed,
        code_bytes=check.code_bytes,
        registrars=_holders(members, _REGISTRAR, now),
        treasuries=_holders(members, _TREASURY, now),
        findings=tuple(check.findings),
    )


class _Check:
    """Gathers findings."""

    def __init__(self, rpc: Rpc, reader: ChainReader, deployed: Deployed, block: BlockRef) -> None:
        self._rpc = rpc
        self._reader = reader
        self._deployed = deployed
        self._block = block
        self.findings: list[ContractFinding] = []
        self.code_bytes: dict[str, int] = {}

    def _finds(self, code: Difference, subject: str, text: str) -> None:
        self.findings.append(ContractFinding(code=code, subject=subject, text=text))

    def _ask(self, method: str, *params: object) -> Any:
        return self._rpc.call_many(method, [params])[0]

    def code(self) -> None:
        """Compare what stands at each address with runtime code and immutables, byte for byte."""
        record = self._deployed.deployment
        registry = ("registry", _word(record.member_registry))
        token, named = ("token", _word(record.city_credit)), ("deployment", record.deployment)
        # In the order in which each contract declares its immutables.
        immutables = {
            "member_registry": (),
            "city_credit": (registry,),
            "payment_channels": (token, registry, named),
        }
        for name in _ORDER:
            address = address_to_hex(self._deployed.addresses[name])
            code = data_from_hex(self._ask("eth_getCode", address, hex(self._block.number)))
            self.code_bytes[name] = len(code)
            self._compare_code(load(name), f"{name} at {address}", code, immutables[name])

    def _compare_code(
        self, artifact: Artifact, subject: str, code: bytes, immutables: Sequence[tuple[str, bytes]]
    ) -> None:
        if not code:
            self._finds(Difference.CODE_MISSING, subject, "there is no code")
            return
        runtime = artifact.runtime_bytecode
        if not artifact.runtime_matches(code):
            expected = runtime + b"".join(value for _, value in immutables)
            self._finds(Difference.CODE_DIFFERS, subject, difference(expected, code))
            return
        found = artifact.immutables(code)
        for place, (name, value) in enumerate(immutables):
            word = found[place * WORD_BYTES : (place + 1) * WORD_BYTES]
            if word != value:
                text = f"its {name} is {to_hex(word)}, not {to_hex(value)}"
                self._finds(Difference.IMMUTABLE_DIFFERS, subject, text)

    def creations(self) -> None:
        """Compare each contract's transaction with the constructor that is shipped.

        The code alone would not do: another constructor can leave the same code with a storage of
        its own, such as a balance that nobody minted.
        """
        for name in _ORDER:
            wanted = self._deployed.transactions[name]
            answer = self._ask("eth_getTransactionByHash", to_hex(wanted))
            creation = read_creation(wanted, answer)
            self._compare_creation(name, creation)
            if name == "payment_channels":
                self._compare_deployment_id(creation)

    def _compare_creation(self, name: str, creation: Creation) -> None:
        deployed, record = self._deployed, self._deployed.deployment
        arguments = {
            "member_registry": (deployed.registrar,),
            "city_credit": (record.member_registry,),
            "payment_channels": (record.city_credit, record.member_registry),
        }[name]
        expected = load(name).bytecode + b"".join(_word(argument) for argument in arguments)
        subject = f"{name} by {to_hex(deployed.transactions[name])}"
        differences = []
        if creation.to:
            differences.append(f"it is a call of {address_to_hex(creation.to)} and makes nothing")
        if creation.data != expected:
            differences.append("constructor and arguments: " + difference(expected, creation.data))
        if creation.sender != deployed.deployer:
            differences.append(f"it is by {address_to_hex(creation.sender)}, not the deployer")
        if creation.address != deployed.addresses[name]:
            differences.append(f"it makes the contract at {address_to_hex(creation.address)}")
        block, newest = creation.in_block.number, self._block.number
        if not record.block <= block <= newest:
            differences.append(f"it is in block {block}, not from {record.block} to {newest}")
        elif name == "member_registry" and block != record.block:
            differences.append(f"it is in block {block}, the record says {record.block}")
        for text in differences:
            self._finds(Difference.CREATION_DIFFERS, subject, text)

    def _compare_deployment_id(self, creation: Creation) -> None:
        named = deployment_id(self._reader.confirm(creation.in_block))
        if named != self._deployed.deployment.deployment:
            text = f"block {creation.in_block.number} gives {to_hex(named)}"
            self._finds(Difference.DEPLOYMENT_ID_DIFFERS, "deployment id", text)

    def roles(self, events: Sequence[Membership], registrar: Address, now: int) -> None:
        """Replay the registry, compare it with its state, and look at who may change it."""
        first, deployer = self._deployed.registrar, self._deployed.deployer
        if not events or (events[0].account, events[0].role, events[0].status) != (
            first,
            _REGISTRAR,
            _ACTIVE,
        ):
            text = "the registry does not begin with this registrar"
            self._finds(Difference.FIRST_REGISTRAR_DIFFERS, address_to_hex(first), text)
        last = {event.account: event for event in events}
        watched = {a for a, event in last.items() if event.role in (_REGISTRAR, _TREASURY)}
        for account, held in self._reader.members(
            sorted(watched | {deployer, registrar}), self._block
        ):
            told = last.get(account)
            facts = (held.role, held.status, held.valid_until)
            said = (told.role, told.status, told.valid_until) if told else (0, 0, 0)
            if facts != said:
                text = f"its events say role, status, end {said}, the registry's state {facts}"
                self._finds(Difference.ROLES_DIFFER, address_to_hex(account), text)
            if account == registrar and not (held.role == _REGISTRAR and _is_active(held, now)):
                text = "is no active registrar of this registry"
                self._finds(Difference.REGISTRAR_LOST, address_to_hex(account), text)
            elif account == deployer != registrar and _is_active(held, now):
                text = f"the deployer still has the role {ROLE_NAMES[held.role]}"
                self._finds(Difference.ROLE_LEFT_BEHIND, address_to_hex(account), text)


def deployment_id(header: Mapping[str, Any]) -> bytes:
    """What the channels' contract names itself when it is made in this block."""
    parent, timestamp = data_from_hex(header["parentHash"]), number_from_hex(header["timestamp"])
    return keccak256(parent + timestamp.to_bytes(WORD_BYTES, "big"))


def difference(expected: bytes, found: bytes) -> str:
    """Say in what two byte strings differ: lengths, how many bytes, and the first of them."""
    pairs = [place for place, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b]
    parts = []
    if len(expected) != len(found):
        parts.append(f"{len(found)} bytes, not {len(expected)}")
    if pairs:
        at = pairs[0]
        parts.append(
            f"{len(pairs)} bytes differ, the first at {at}:"
            f" 0x{found[at]:02x}, not 0x{expected[at]:02x}"
        )
    return ", ".join(parts)


def _holders(events: Sequence[Membership], role: int, now: int) -> tuple[Address, ...]:
    last = {event.account: event for event in events}
    return tuple(sorted(a for a, e in last.items() if e.role == role and _is_active(e, now)))


def _is_active(member: Membership, now: int) -> bool:
    return member.status == _ACTIVE and (not member.valid_until or now <= member.valid_until)


def _word(address: Address) -> bytes:
    return address.rjust(WORD_BYTES, b"\0")
