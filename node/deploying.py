"""Deploys the three contracts to any chain, step by step; whatever kills it, it goes on from there.

Rule: a transaction is on disk before it is sent and stays there until everything is done, and a
contract counts as deployed when the chain shows code where that transaction puts it. So nothing is
deployed twice, and no answer but the chain's state says that something was deployed. The record is
written last, after the auditor's own check, and whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from web3 import Web3

from ..channels import bounded_json
from ..channels.bounded_json import NotJson
from ..channels.client.durable_file import make_folder, sync_folder, write_whole
from ..channels.client.outbox import Outbox, Sent
from ..channels.deployment import Deployment, MalformedDeployment
from ..channels.errors import ChainError, FarthingError, LocalError
from ..channels.ids import Address, address_from_hex, address_to_hex, to_hex
from ..channels.signing import Signer
from ..contracts.artifacts import NAMES, load
from .audit.abi import data_from_hex, number_from_hex
from .audit.contract import ContractReport, deployment_id, verify
from .audit.creations import created_address
from .audit.deployed import Deployed
from .audit.errors import BlockUnavailable, RpcRefused, RpcUnreachable
from .home import OUTBOX_NAME, DataFolderUnusable, HubInUse, owned
from .sender import (
    RECEIPT_SECONDS_MAX,
    Sender,
    TransactionFailed,
    TransactionUnknown,
    asking,
    checksum,
)

PARTIAL_SUFFIX = ".partial"
"""Of the folder beside the record that holds what is under way."""
PLAN_NAME = "plan.json"
DRAFT_NAME = "record.json"
PLAN_BYTES_MAX = 64 << 10
"""A plan is a kilobyte."""
KEEP_BLOCKS = 1 << 62
"""No transaction is forgotten before all is done: it says where its contract is."""
LOOK_AGAIN_SECONDS = 0.5

Say = Callable[[str], None]


class AlreadyDeployed(LocalError):
    """The deployment record exists; a second deployment would be another system."""

    code = "already-deployed"
    remedy = "use that deployment, or give another file with --out"


class PlanDiffers(LocalError):
    """What is half finished beside the record is another deployment than the one asked for."""

    code = "other-deployment-unfinished"

    def __init__(self, folder: Path, what: str, *, planned: str, asked: str) -> None:
        super().__init__(
            f"{folder} holds an unfinished deployment whose {what} is {planned}, not {asked}",
            remedy="finish that one as it was begun, or give another file with --out",
        )
        self.what = what
        self.planned = planned
        self.asked = asked


class PlanUnusable(LocalError):
    """The folder of an unfinished deployment cannot be read."""

    code = "unfinished-deployment-damaged"
    remedy = "give another file with --out; what the folder's transactions made stays on the chain"


class DeploymentInUse(HubInUse):
    """Another process is deploying into the same record."""

    code = "deployment-in-use"
    what = "deployment"

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(path, holder)
        self.what_to_do = "wait for it, or stop that process and run the same command again"


class NoGovernance(LocalError):
    """The governance address is the deployer's own."""

    code = "governance-is-deployer"
    remedy = "give the address of the governance, or leave --governance out"


class ChainContradicts(ChainError):
    """The endpoint's answers about one of our transactions cannot all be true."""

    code = "chain-contradicts-itself"
    remedy = (
        "run the same command again, with another endpoint if it stays so: it goes on from here"
    )
    retryable = True


class DeployedDiffers(ChainError):
    """What the chain holds is not what was to be deployed; no record was written."""

    code = "deployed-differs"
    remedy = (
        "ask another endpoint by the same command; if it stays so, deploy anew with another --out"
    )

    def __init__(self, report: ContractReport) -> None:
        first, *more = report.findings
        rest = f" (and {len(more)} more)" if more else ""
        super().__init__(f"{first.code}: {first.subject}: {first.text}{rest}")
        self.report = report


class Web3Rpc:
    """The auditor's `Rpc` over a web3 client, past web3's own reading of blocks."""

    def __init__(self, web3: Web3) -> None:
        self._web3 = web3

    def call_many(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """One result for each list of parameters; raises `ChainUnreachable`, `RpcRefused`."""
        return [self._call(method, params) for params in calls]

    def _call(self, method: str, params: Sequence[Any]) -> Any:
        with asking(method):
            answer: Any = self._web3.provider.make_request(cast("Any", method), list(params))
            refusal = answer.get("error")
            if refusal is not None:
                said = refusal.get("message") if isinstance(refusal, dict) else refusal
                raise RpcRefused(method, str(said)[:200])
            if "result" not in answer:
                raise RpcUnreachable(f"the endpoint does not answer {method} in JSON-RPC")
            return answer["result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is deployed by whom and where: what was begun is finished as it was begun."""

    chain_id: str
    genesis_block: str
    deployer: str
    first_registrar: str
    contracts: str
    """SHA-256 over what is deployed, so that another release does not go on with other code."""

    @classmethod
    def of(cls, rpc: Web3Rpc, deployer: Address, registrar: Address) -> Plan:
        """Ask the chain for the rest; raises `ChainError`."""
        genesis = _header(rpc, "0x0")
        code = b"".join(load(name).bytecode for name in NAMES)
        return cls(
            chain_id=str(number_from_hex(rpc.call_many("eth_chainId", [()])[0])),
            genesis_block=to_hex(data_from_hex(genesis.get("hash"))),
            deployer=address_to_hex(deployer),
            first_registrar=address_to_hex(registrar),
            contracts=hashlib.sha256(code).hexdigest(),
        )

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read what `write` wrote; raises `PlanUnusable`."""
        try:
            with path.open("rb") as file:
                record: Any = bounded_json.parse(file.read(PLAN_BYTES_MAX))
            return cls(**{field.name: str(record[field.name]) for field in fields(cls)})
        except OSError as error:
            raise PlanUnusable(f"{path} cannot be read ({error.strerror})") from None
        except (NotJson, LookupError, TypeError):
            raise PlanUnusable(f"{path} is damaged") from None

    def write(self, path: Path) -> None:
        """Make it durable; raises `OSError`."""
        write_whole(path, json.dumps(asdict(self), indent=2).encode() + b"\n")

    def check(self, folder: Path, planned: Plan) -> None:
        """Raise `PlanDiffers` unless an earlier plan is this one."""
        for field in fields(self):
            was, now = getattr(planned, field.name), getattr(self, field.name)
            if was != now:
                what = field.name.replace("_", " ")
                raise PlanDiffers(folder, what, planned=was, asked=now)


def deploy(
    web3: Web3,
    signer: Signer,
    out: Path,
    *,
    governance: Address | None = None,
    confirmations: int = 0,
    say: Say = lambda _: None,
) -> Deployed:
    """Deploy the contracts, or go on with it, check them on the chain, and write the record.

    The registry begins with `governance` as its only registrar, or with the deployer where there
    is none: a role that the deployer never had needs no handing over. `confirmations` are blocks
    on top of the last contract that are waited for. Raises `AlreadyDeployed`,
    `PlanDiffers`, `PlanUnusable`, `DeploymentInUse`, `OutboxUnusable`, `ChainError`; called again,
    it goes on.
    """
    if governance == signer.address:
        raise NoGovernance(f"{address_to_hex(governance)} sends the transactions itself")
    folder = out.with_name(out.name + PARTIAL_SUFFIX)
    if out.exists() and not folder.exists():
        raise _taken(out)
    rpc = Web3Rpc(web3)
    plan = Plan.of(rpc, signer.address, governance or signer.address)
    if not out.parent.exists():
        make_folder(out.parent)
    with _owned(folder):
        outbox = _begin(folder, plan, is_done=out.exists())
        if out.exists():
            deployed = _finished(out, plan)
        else:
            with _nothing_left_of_nothing(folder, outbox):
                deployed = _Steps(web3, signer, outbox, plan, rpc=rpc, say=say).confirmed(
                    confirmations
                )
        report = verify(rpc, deployed)
        if not report.ok:
            raise DeployedDiffers(report)
        if not out.exists():
            _write_record(folder, out, deployed)
        _clear(folder)
    return deployed


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Own the folder; raises `DeploymentInUse`, `PlanUnusable`."""
    try:
        with owned(folder, DeploymentInUse):
            yield
    except DataFolderUnusable as error:
        raise PlanUnusable(error.text) from None


def _begin(folder: Path, plan: Plan, *, is_done: bool) -> Outbox:
    """Hold the plan against an earlier one and read what that has sent; or write the plan."""
    path = folder / PLAN_NAME
    outbox = Outbox(folder / OUTBOX_NAME, keep_blocks=KEEP_BLOCKS)
    if path.exists() and (outbox.rows or is_done):
        plan.check(folder, Plan.read(path))
    elif outbox.rows:
        raise PlanUnusable(f"{folder} holds transactions and no {PLAN_NAME}")
    elif not is_done:  # nothing was sent: whatever was planned binds nobody
        plan.write(path)
    return outbox


@contextmanager
def _nothing_left_of_nothing(folder: Path, outbox: Outbox) -> Iterator[None]:
    """Leave no folder behind where not one transaction was signed."""
    try:
        yield
    except FarthingError:
        if not outbox.rows:
            _clear(folder)
        raise


def _taken(out: Path) -> AlreadyDeployed:
    """Tell a record from an empty file, which is none."""
    if out.is_file() and out.stat().st_size == 0:
        return AlreadyDeployed(
            f"{out} is empty and no deployment record",
            remedy="remove the file and deploy again",
        )
    return AlreadyDeployed(f"{out} exists: something is deployed there already")


def _finished(out: Path, plan: Plan) -> Deployed:
    """The record of a deployment that was killed before it had tidied up."""
    try:
        deployed = Deployed.from_json(out.read_text(encoding="utf-8"))
    except (MalformedDeployment, UnicodeDecodeError):
        raise _taken(out) from None
    record = deployed.deployment
    ours = (
        (str(record.chain_id), plan.chain_id),
        (to_hex(record.genesis_hash), plan.genesis_block),
        (address_to_hex(deployed.deployer), plan.deployer),
        (address_to_hex(deployed.registrar), plan.first_registrar),
    )
    if any(recorded != planned for recorded, planned in ours):
        raise _taken(out)
    return deployed


def _write_record(folder: Path, out: Path, deployed: Deployed) -> None:
    """Make the record appear whole; everybody may read it."""
    draft = folder / DRAFT_NAME
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(deployed.to_json())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(out)
    sync_folder(out.parent)


def _clear(folder: Path) -> None:
    """Remove what is no longer needed, the plan after the transactions."""
    shutil.rmtree(folder / OUTBOX_NAME)
    (folder / PLAN_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder)
    sync_folder(folder.absolute().parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A contract that is on the chain, and the transaction that put it there."""

    address: Address
    transaction: bytes
    block: int


class _Steps:
    """The three contracts, each looked for before it is sent."""

    def __init__(
        self, web3: Web3, signer: Signer, outbox: Outbox, plan: Plan, *, rpc: Web3Rpc, say: Say
    ) -> None:
        self._web3 = web3
        self._rpc = rpc
        self._outbox = outbox
        self._plan = plan
        self._tell = say
        self._said: set[str] = set()
        self._deployer = signer.address
        is_legacy = "baseFeePerGas" not in _header(rpc, "latest")
        self._sender = Sender(web3, signer, int(plan.chain_id), outbox=outbox, is_legacy=is_legacy)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._tell(text)

    def confirmed(self, confirmations: int) -> Deployed:
        """Everything, under so many blocks; what a reorganisation moves meanwhile is found again.

        The deployment id is made of the block before its own, so it moves along.
        """
        newest, since = -1, time.monotonic()
        while True:
            deployed, block = self.run()
            head = number_from_hex(self._ask("eth_blockNumber"))
            if head >= block + confirmations:
                return deployed
            if head > newest:
                newest, since = head, time.monotonic()
            elif time.monotonic() >= since + RECEIPT_SECONDS_MAX:
                text = f"no block after {head} for {RECEIPT_SECONDS_MAX} s: not confirmed yet"
                raise TransactionUnknown(f"deploying: {text}")
            time.sleep(LOOK_AGAIN_SECONDS)

    def run(self) -> tuple[Deployed, int]:
        """Everything that is not on the chain yet, in order, and the last block of it."""
        registrar = address_from_hex(self._plan.first_registrar)
        governance = self._plan.first_registrar
        if registrar != self._deployer and self._ask("eth_getCode", governance, "latest") == "0x":
            self._say(f"note: the governance {governance} is no contract here: one key governs")
        registry = self._contract("member_registry", registrar)
        credit = self._contract("city_credit", registry.address)
        channels = self._contract("payment_channels", credit.address, registry.address)
        deployed = Deployed(
            deployment=Deployment(
                chain_id=int(self._plan.chain_id),
                genesis_hash=data_from_hex(self._plan.genesis_block),
                block=registry.block,
                city_credit=credit.address,
                member_registry=registry.address,
                payment_channels=channels.address,
                deployment=deployment_id(_header(self._rpc, hex(channels.block))),
            ),
            deployer=self._deployer,
            registrar=registrar,
            transactions={
                "member_registry": registry.transaction,
                "city_credit": credit.transaction,
                "payment_channels": channels.transaction,
            },
        )
        return deployed, max(registry.block, credit.block, channels.block)

    def _contract(self, name: str, *arguments: Address) -> _Made:
        """Find a contract that was sent before, or send it; raises `ChainError`."""
        what = f"deploying {name}"
        self._await_ours()
        made = self._find(name, what)
        if made is None:
            made = self._send(name, what, *arguments)
        self._say(f"{name} is at {address_to_hex(made.address)} since block {made.block}")
        return made

    def _send(self, name: str, what: str, *arguments: Address) -> _Made:
        artifact = load(name)
        contract = self._web3.eth.contract(
            abi=cast("Any", artifact.abi), bytecode=artifact.bytecode
        )
        try:
            self._sender.send(what, contract.constructor(*map(checksum, arguments)))
        except TransactionFailed:
            made = self._find(name, what)  # what failed is said by the state, not by a receipt
            if made is None:
                raise
            return made
        made = self._find(name, what)
        if made is None:
            raise ChainContradicts(f"{what}: a receipt says that it is done, the state does not")
        return made

    def _await_ours(self) -> None:
        """Until everything that was sent has its place in the chain; raises `ChainError`."""
        give_up = time.monotonic() + RECEIPT_SECONDS_MAX
        while True:
            try:
                self._sender.look_back()
            except TransactionUnknown:
                if time.monotonic() >= give_up:
                    raise
            else:
                return
            time.sleep(LOOK_AGAIN_SECONDS)

    def _find(self, name: str, what: str) -> _Made | None:
        """Where one of our transactions put a contract; None where none did or ever will.

        Count and code are read at one block, so that an endpoint of several nodes cannot show the
        count of a newer state with the code of an older one.
        """
        rows = [row for row in self._outbox.rows if row.what == what]
        if not rows:
            return None
        head = number_from_hex(self._ask("eth_blockNumber"))
        deployer = address_to_hex(self._deployer)
        count = number_from_hex(self._ask("eth_getTransactionCount", deployer, hex(head)))
        for nonce in sorted({row.nonce for row in rows}):
            address = created_address(self._deployer, nonce)
            code = data_from_hex(self._ask("eth_getCode", address_to_hex(address), hex(head)))
            placed = self._placed([row for row in rows if row.nonce == nonce])
            if code and placed is not None:
                transaction, block, _ = placed
                return _Made(address=address, transaction=transaction, block=block)
            if load(name).runtime_matches(code):
                raise ChainContradicts(f"{what}: its code is there, its transaction is not")
            if count <= nonce:
                raise ChainContradicts(f"{what}: block {head} does not hold what is in the chain")
            if placed is not None and placed[2]:
                raise ChainContradicts(f"{what}: its transaction succeeded and left no code")
        return None

    def _placed(self, rows: Sequence[Sent]) -> tuple[bytes, int, bool] | None:
        """Hash, block and success of the one of these that a block holds."""
        for row in rows:
            receipt = self._ask("eth_getTransactionReceipt", to_hex(row.transaction_hash))
            if isinstance(receipt, dict) and receipt.get("blockNumber") is not None:
                block = number_from_hex(receipt["blockNumber"])
                return row.transaction_hash, block, number_from_hex(receipt.get("status")) == 1
        return None

    def _ask(self, method: str, *params: object) -> Any:
        return self._rpc.call_many(method, [params])[0]


def _header(rpc: Web3Rpc, block: str) -> dict[str, Any]:
    header = rpc.call_many("eth_getBlockByNumber", [(block, False)])[0]
    if not isinstance(header, dict):
        raise BlockUnavailable(f"the endpoint does not show block {block}")
    return header
