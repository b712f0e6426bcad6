"""The benchmark's city: a chain in this process, the contracts on it, and everybody's keys.

Rule: nothing here depends on the clock or on chance. Keys, times and the chain's first randomness
are fixed, so that every byte of calldata, and with it every figure, is the same in each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from web3 import Web3
from web3.types import TxReceipt

from ...channels.deployment import Deployment
from ...channels.hashing import keccak256
from ...channels.ids import Address
from ...channels.signing import Signer, sign_voucher
from ...channels.terms import Side, Terms
from ...channels.units import UCENT_PER_CENT
from ...channels.voucher import LaneTotal
from ...contracts.artifacts import load
from ...node.administration import Administrator
from ...node.chain import OpenedChannel, OpenRow, SettleRow, Web3Chain
from ...node.deploying import deploy
from ...node.sender import Sender, asking, checksum
from ..chain import DevChain
from ..opening import ChainSettings
from ..provider import ChainProvider

GENESIS_SECONDS = 1_767_225_600
"""1 January 2026, 00:00 UTC: the wall clock of this chain, which stands still."""
ENTROPY = keccak256(b"farthing bench")
CHANNELS = 50
"""In one call: what the batch figures are about."""
DEPOSIT_UCENT = 100 * UCENT_PER_CENT
CHALLENGE_SECONDS = 3_600
CHALLENGE_BLOCKS = 20
SIGNATURE_SECONDS = 3_600
"""How long signed withdrawals and closes are valid."""
FUNDING = (keccak256(b"a budget decision"), keccak256(b"another budget decision"))
"""Each funds one mint."""
MINTED_UCENT = 1_000_000 * UCENT_PER_CENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One side of channels: its account and the signer of its vouchers, two addresses."""

    account: Signer
    signer: Signer

    @classmethod
    def named(cls, name: str) -> Party:
        """The party of that name: the same keys in each run."""
        return cls(account=key_of(f"{name}, account"), signer=key_of(f"{name}, signer"))


def key_of(name: str) -> Signer:
    """The key of that name: known to everybody, worth nothing."""
    return Signer(keccak256(f"farthing bench: {name}".encode()))


class City:
    """Chain, contracts and people; what a benchmark asks of them in one call each."""

    def __init__(self, chain: DevChain, web3: Web3, deployment: Deployment) -> None:
        self._chain = chain
        self._web3 = web3
        self.deployment = deployment
        self.registrar = key_of("registrar")
        self.treasury = key_of("treasury")
        self.anybody = key_of("anybody")
        self.hub = Party.named("hub")
        self.alice = Party.named("alice")
        self.wallets = tuple(Party.named(f"wallet {n}") for n in range(CHANNELS))
        self._signers = {party.signer.address: party.signer for party in self.parties()}
        self.registry = self._contract("member_registry", deployment.member_registry)
        self.credit = self._contract("city_credit", deployment.city_credit)
        self.channels = self._contract("payment_channels", deployment.payment_channels)

    def _contract(self, name: str, address: Address) -> Any:
        return self._web3.eth.contract(
            address=checksum(address), abi=cast("Any", load(name).abi)
        ).functions

    def beside(self, deployment: Deployment) -> City:
        """The same chain and people with other contracts."""
        return City(self._chain, self._web3, deployment)

    def parties(self) -> tuple[Party, ...]:
        """The hub, alice and the wallets."""
        return (self.hub, self.alice, *self.wallets)

    # What the hub's own code does

    def port(self, account: Signer) -> Web3Chain:
        """The hub's chain port, sending from this account."""
        return Web3Chain(self._web3, self.deployment, signer=account)

    def administrator(self, account: Signer) -> Administrator:
        """The administrators' transactions, sent from this account."""
        return Administrator(self._web3, self.deployment, account)

    def send(self, account: Signer, call: Any) -> TxReceipt:
        """Send what the hub's code has no method for; raises `ChainError`."""
        sender = Sender(self._web3, account, self.deployment.chain_id)
        return sender.send(f"sending {getattr(call, 'fn_name', 'a constructor')}", call)

    def create(self, abi: Any, bytecode: bytes, *arguments: str) -> Address:
        """Deploy a contract that is not one of the city's; returns where it stands."""
        call = self._web3.eth.contract(abi=abi, bytecode=bytecode).constructor(*arguments)
        receipt = self.send(self.registrar, call)
        return Address(bytes.fromhex(str(receipt["contractAddress"])[2:]))

    def open_channels(self, parties: tuple[Party, ...]) -> tuple[int, tuple[OpenedChannel, ...]]:
        """Let the hub open one channel with each, in one call; returns its gas and them."""
        mined = self.port(self.hub.account).open_many(
            [OpenRow(account_b=p.account.address, signer_b=p.signer.address) for p in parties],
            account=self.hub.account.address,
            signer=self.hub.signer.address,
            challenge_seconds=CHALLENGE_SECONDS,
            challenge_blocks=CHALLENGE_BLOCKS,
            deposit_ucent=DEPOSIT_UCENT,
        )
        return mined.gas_used, mined.opened

    # Reading

    def now(self) -> int:
        """The newest block's time in seconds."""
        return self._chain.head.timestamp

    def block(self) -> int:
        """The newest block's number."""
        return self._chain.head.number

    def gas_in(self, block: int) -> int:
        """What the one transaction of a block used."""
        with asking("reading a block"):
            return int(self._web3.eth.get_block(block)["gasUsed"])

    def calldata_bytes(self, transaction: bytes) -> int:
        """How long the calldata of a mined transaction is."""
        with asking("reading a transaction"):
            return len(self._web3.eth.get_transaction(cast("Any", transaction))["input"])

    def creations(self) -> Mapping[Address, int]:
        """What deploying the city's contracts used, by address."""
        found: dict[Address, int] = {}
        with asking("reading the deployments"):
            for number in range(self.deployment.block, self.block() + 1):
                for transaction in self._web3.eth.get_block(number)["transactions"]:
                    receipt = self._web3.eth.get_transaction_receipt(cast("Any", transaction))
                    at = receipt["contractAddress"]
                    if at is not None:
                        found[Address(bytes.fromhex(at[2:]))] = receipt["gasUsed"]
        return found

    def balance_ucent(self, account: Signer) -> int:
        """What an account holds outside channels, in µ¢."""
        return self.administrator(account).balance_ucent(account.address)

    # Time and signatures

    def pass_window(self) -> None:
        """Let both the seconds and the blocks of a challenge window go by."""
        interval_seconds = -(-CHALLENGE_SECONDS // CHALLENGE_BLOCKS)
        self._chain.mine(CHALLENGE_BLOCKS + 1, interval_seconds)

    def row(self, terms: Terms, lane: Side, total: LaneTotal, *, signed: bool = True) -> SettleRow:
        """A lane's total as the hub settles it, signed by the lane's signer or not at all."""
        voucher = sign_voucher(
            self.deployment.domain().separator(),
            self._signers[terms.signer(lane)],
            channel=self.deployment.channel_id(terms),
            payer=terms.account(lane),
            total=total,
        )
        return SettleRow(
            terms=terms,
            lane=lane,
            nonce=total.nonce,
            transferred_ucent=total.transferred_ucent,
            history=total.history,
            conditions=voucher.conditions,
            signature=voucher.signature if signed else b"",
        )

    def both_sign(self, terms: Terms, digest: bytes) -> list[bytes]:
        """Both signers' signatures of 32 bytes."""
        return [self._signers[terms.signer(side)].sign_digest(digest) for side in Side]


def words(terms: Terms) -> tuple[Any, ...]:
    """The terms as web3 encodes a struct."""
    return astuple(terms)


@contextmanager
def open_city() -> Iterator[City]:
    """A chain with the contracts as `farthing deploy` deploys them, in memory until the block ends.

    Nobody is a member yet but the registrar, who deployed. Raises `ChainError`.
    """
    settings = ChainSettings(
        permissioned=False,
        automine=True,
        wall_seconds=lambda: GENESIS_SECONDS,
        entropy=ENTROPY,
    )
    chain = DevChain(settings)
    try:
        web3 = Web3(ChainProvider(chain))
        with TemporaryDirectory() as folder:
            record = Path(folder) / "deployment.json"
            deployment = deploy(web3, key_of("registrar"), record).deployment
        yield City(chain, web3, deployment)
    finally:
        chain.close()
