"""The hub's way to the chain: web3 behind a small port; one method for each thing the hub needs.

Rule: every method blocks and is called in a thread (`ChainPort` users do that); none retries; an
RPC that does not answer raises `ChainUnreachable`, a refused transaction `TransactionFailed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract import Contract
from web3.logs import DISCARD
from web3.types import EventData, FilterParams, TxReceipt

from ..channels.client.outbox import Outbox
from ..channels.deployment import Deployment
from ..channels.errors import ChainError
from ..channels.ids import Address, ChannelId, address_to_hex
from ..channels.signing import Signer
from ..channels.state import ChainStatus, ChainView, Settlement
from ..channels.terms import Side, Terms
from ..contracts.artifacts import load
from ..contracts.members import MemberStatus
from .sender import Sender, TransactionFailed, asking, checksum

_UNLIMITED = 2**256 - 1
"""The contract takes tokens only in calls that this account sends itself."""
_ONLY_READS = "this chain port was made without an account: it only reads"
LOG_BLOCKS_MAX = 2000
"""Blocks in one eth_getLogs; the most that common endpoints answer."""


class WrongChain(ChainError):
    """The endpoint serves another chain or other contracts than the deployment record names."""

    code = "wrong-chain"
    remedy = "use the RPC URL and the deployment record of one and the same chain"


class ChainWentBack(ChainError):
    """The endpoint's newest block is older than one that was read before."""

    code = "chain-went-back"
    remedy = "wait until its node has caught up, or use another endpoint of the same chain"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A block: its number, hash and timestamp in seconds."""

    number: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedChannel:
    """An `Opened` event; the funder sent it and paid A's deposit."""

    channel: ChannelId
    terms: Terms
    funder: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """A member as its newest `MemberChanged` event says."""

    account: Address
    role: int
    status: MemberStatus
    valid_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What the contracts' logs of a range of blocks say, in their order."""

    opened: tuple[OpenedChannel, ...]
    touched: frozenset[ChannelId]
    members: tuple[MemberRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRow:
    """A channel to open, party A being the hub; the deposit is A's."""

    account_b: Address
    signer_b: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleRow:
    """A lane's newest total to put on-chain; no signature where the sender is its payer."""

    terms: Terms
    lane: Side
    nonce: int
    transferred_ucent: int
    history: bytes
    conditions: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositRow:
    """A deposit to add to party A's of an open channel."""

    terms: Terms
    amount_ucent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A transaction that took effect; of its rows, `settled` did so and `skipped` did not."""

    transaction: bytes
    block: int
    gas_used: int
    settled: int = 0
    settled_channels: int = 0
    skipped: int = 0
    opened: tuple[OpenedChannel, ...] = ()
    refused: tuple[tuple[int, int], ...] = ()
    """Of each row that was skipped, its index and the contract's reason."""


class Web3Chain:
    """The port over web3: reads at a confirmed head, and sends from one account."""

    def __init__(
        self,
        web3: Web3,
        deployment: Deployment,
        *,
        signer: Signer | None,
        confirmations: int = 0,
        outbox: Outbox | None = None,
    ) -> None:
        self._web3 = web3
        self._deployment = deployment
        self._confirmations = confirmations
        self._sender = (
            None if signer is None else Sender(web3, signer, deployment.chain_id, outbox=outbox)
        )
        self._channels = self._contract("payment_channels", deployment.payment_channels)
        events: Any = self._channels.events  # typed as an iterator's opposite in web3 8.0.0
        self._events = {bytes.fromhex(event.topic[2:]): event for event in events}
        self._registry = self._contract("member_registry", deployment.member_registry)
        self._credit = self._contract("city_credit", deployment.city_credit)

    def _contract(self, name: str, address: Address) -> Contract:
        abi = cast("Any", load(name).abi)
        return self._web3.eth.contract(address=checksum(address), abi=abi)

    def check_identity(self) -> None:
        """Raise `WrongChain` unless chain, genesis, code and deployment id are the record's."""
        record = self._deployment
        with asking("checking the chain"):
            found = self._web3.eth.chain_id
            genesis = bytes(self._web3.eth.get_block(0)["hash"])
            if found != record.chain_id:
                raise WrongChain(f"the endpoint serves chain {found}, not {record.chain_id}")
            if genesis != record.genesis_hash:
                raise WrongChain("the endpoint's chain has another genesis block")
            for name, address in (
                ("city_credit", record.city_credit),
                ("member_registry", record.member_registry),
                ("payment_channels", record.payment_channels),
            ):
                code = bytes(self._web3.eth.get_code(checksum(address)))
                if not load(name).runtime_matches(code):
                    raise WrongChain(f"the code at {address_to_hex(address)} is not {name}")
            if bytes(self._channels.functions.DEPLOYMENT().call()) != record.deployment:
                raise WrongChain("the contract says another deployment id than the record")

    def head(self) -> Head:
        """The newest block with enough confirmations."""
        with asking("reading the newest block"):
            newest = self._web3.eth.block_number
            block = self._web3.eth.get_block(max(newest - self._confirmations, 0))
            return Head(
                number=block["number"], hash=bytes(block["hash"]), timestamp=block["timestamp"]
            )

    def block_hash(self, number: int) -> bytes:
        """The hash of a block by its number."""
        with asking("reading a block"):
            return bytes(self._web3.eth.get_block(number)["hash"])

    def logs(self, first_block: int, last_block: int) -> Logs:
        """Read both contracts' logs of a range of at most `LOG_BLOCKS_MAX` blocks."""
        with asking("reading logs"):
            query: FilterParams = {
                "fromBlock": first_block,
                "toBlock": last_block,
                "address": [self._channels.address, self._registry.address],
            }
            opened: list[OpenedChannel] = []
            touched: set[ChannelId] = set()
            members: list[MemberRow] = []
            for log in self._web3.eth.get_logs(query):
                if log["address"] == self._registry.address:
                    members.extend(self._member_of(log))
                    continue
                for event in self._decoded(log):
                    if event["event"] == "Opened":
                        opened.append(_opened(event))
                    if "channel" in event["args"]:
                        touched.add(ChannelId(bytes(event["args"]["channel"])))
            return Logs(opened=tuple(opened), touched=frozenset(touched), members=tuple(members))

    def _decoded(self, log: Any) -> Iterator[EventData]:
        event = self._events.get(bytes(log["topics"][0]))
        if event is not None:
            yield event.process_log(log)

    def _member_of(self, log: Any) -> Iterator[MemberRow]:
        for decoded in self._registry.events.MemberChanged().process_receipt(
            {"logs": [log]}, errors=DISCARD
        ):
            args = decoded["args"]
            yield MemberRow(
                account=_address(args["account"]),
                role=args["role"],
                status=MemberStatus(args["status"]),
                valid_until=args["valid_until"],
            )

    def member(self, account: Address, head: Head) -> MemberRow:
        """What the registry says of an address at a block."""
        with asking("reading a member"):
            role, status, valid_until, _ = self._registry.functions.member(checksum(account)).call(
                block_identifier=head.number
            )
            return MemberRow(
                account=account,
                role=role,
                status=MemberStatus(status),
                valid_until=valid_until,
            )

    def view(self, channel: ChannelId, head: Head) -> ChainView:
        """What the contract says of a channel at a block."""
        with asking("reading a channel"):
            state = self._channels.functions.channel_state(channel).call(
                block_identifier=head.number
            )
            status, t_a, d_a, w_a, t_b, d_b, w_b, seconds, block = state
            return ChainView(
                block=head.number,
                timestamp=head.timestamp,
                status=ChainStatus(status),
                deposit_ucent=(d_a, d_b),
                withdrawn_ucent=(w_a, w_b),
                settled_ucent=(t_a, t_b),
                deadline_seconds=seconds,
                deadline_block=block,
            )

    def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        """By which payments these blocks, `LOG_BLOCKS_MAX` at most, settled a payer's lane."""
        with asking("reading settlements"):
            events = self._channels.events.Settled().get_logs(
                argument_filters={"channel": channel, "payer": checksum(payer)},
                from_block=first_block,
                to_block=last_block,
            )
            return tuple(
                Settlement(
                    before_ucent=event["args"]["transferred_before"],
                    transferred_ucent=event["args"]["transferred"],
                    nonce=event["args"]["nonce"],
                    history=bytes(event["args"]["history"]),
                )
                for event in events
            )

    def balance_ucent(self, account: Address, block: int) -> int:
        """µ¢ of tokens that an account holds outside channels, at a block."""
        with asking("reading a balance"):
            balance = self._credit.functions.balanceOf(checksum(account))
            return int(balance.call(block_identifier=block))

    def transactions(self, account: Address, block: int) -> int:
        """How many transactions of an account are mined up to a block: its next nonce there."""
        with asking("counting transactions"):
            return self._web3.eth.get_transaction_count(checksum(account), block)

    def next_nonce(self, account: Address) -> int:
        """The nonce after all transactions of an account that any block holds, confirmed or not."""
        with asking("counting transactions"):
            return self._web3.eth.get_transaction_count(checksum(account), "latest")

    # -- transactions -----------------------------------------------------------------------

    def look_back(self) -> int:
        """The newest block in which something that this account sent is; see `Sender.look_back`.

        Raises `TransactionUnknown` while anything is under way, which is sent again.
        """
        return 0 if self._sender is None else self._sender.look_back()

    def ready_nonce(self, *, least: int) -> int:
        """The nonce of this account's next transaction; see `Sender.ready_nonce`."""
        if self._sender is None:
            raise TransactionFailed(_ONLY_READS)
        return self._sender.ready_nonce("noting a nonce", least=least)

    def approve(self, amount_ucent: int) -> Mined | None:
        """Let the channels' contract take up to this much, unless it may already."""
        if self._sender is None:
            raise TransactionFailed(_ONLY_READS)
        with asking("approving a deposit"):
            spender = self._channels.address
            allowed = self._credit.functions.allowance(self._sender.address, spender).call()
            if allowed >= amount_ucent:
                return None
        return self._send(
            "approving a deposit", self._credit.functions.approve(spender, _UNLIMITED)
        )

    def open_many(
        self,
        rows: Sequence[OpenRow],
        *,
        account: Address,
        signer: Address,
        challenge_seconds: int,
        challenge_blocks: int,
        deposit_ucent: int,
    ) -> Mined:
        """Open channels in one transaction; rows that the contract refuses are skipped."""
        self.approve(deposit_ucent * len(rows))
        arguments = [
            (
                checksum(account),
                checksum(signer),
                checksum(row.account_b),
                checksum(row.signer_b),
                challenge_seconds,
                challenge_blocks,
                deposit_ucent,
            )
            for row in rows
        ]
        return self._send("opening channels", self._channels.functions.open_many(arguments))

    def deposit_many(self, rows: Sequence[DepositRow], *, nonce: int) -> Mined:
        """Add to party A's deposits in one transaction; bad rows are skipped.

        `approve` comes before, so that this is one transaction and no more, under the nonce that
        `ready_nonce` gave.
        """
        arguments = [(_terms(r.terms), checksum(r.terms.account_a), r.amount_ucent) for r in rows]
        call = self._channels.functions.deposit_many(arguments)
        return self._send("topping up", call, nonce=nonce)

    def settle(self, rows: Sequence[SettleRow]) -> Mined:
        """Raise lanes' totals in one transaction; rows that do not raise one are skipped."""
        packed = [_packed(row) for row in rows]
        return self._send("settling", self._channels.functions.settle_many(packed))

    def close(
        self,
        terms: Terms,
        *,
        totals_ucent: tuple[int, int],
        expires: int,
        signatures: Sequence[bytes],
    ) -> Mined:
        """Close a channel by both signatures."""
        call = self._channels.functions.close(_terms(terms), *totals_ucent, expires, *signatures)
        return self._send("closing a channel", call)

    def withdraw(
        self,
        terms: Terms,
        *,
        account: Address,
        total_ucent: int,
        expires: int,
        signatures: Sequence[bytes],
    ) -> Mined:
        """Pay an account out of its open channel, by both signatures; the total is cumulative."""
        call = self._channels.functions.withdraw(
            _terms(terms), checksum(account), total_ucent, expires, *signatures
        )
        return self._send("withdrawing", call)

    def start_close(self, terms: Terms) -> Mined:
        """Start a channel's challenge window; this account is one of its parties."""
        call = self._channels.functions.start_close(_terms(terms), 0, b"")
        return self._send("starting a close", call)

    def finish_close(self, terms: Terms) -> Mined:
        """Pay both parties of a channel whose challenge window is over."""
        return self._send("finishing a close", self._channels.functions.finish_close(_terms(terms)))

    def _send(self, what: str, call: Any, *, nonce: int | None = None) -> Mined:
        if self._sender is None:
            raise TransactionFailed(_ONLY_READS)
        receipt = self._sender.send(what, call, nonce=nonce)
        with asking(what):
            return self._mined(receipt)

    def _mined(self, receipt: TxReceipt) -> Mined:
        events = [event for log in receipt["logs"] for event in self._own(log)]
        return Mined(
            transaction=bytes(receipt["transactionHash"]),
            block=receipt["blockNumber"],
            gas_used=receipt["gasUsed"],
            settled=sum(1 for event in events if event["event"] == "Settled"),
            settled_channels=len(
                {event["args"]["channel"] for event in events if event["event"] == "Settled"}
            ),
            skipped=sum(1 for event in events if event["event"] == "RowSkipped"),
            opened=tuple(_opened(event) for event in events if event["event"] == "Opened"),
            refused=tuple(
                (event["args"]["index"], event["args"]["reason"])
                for event in events
                if event["event"] == "RowSkipped"
            ),
        )

    def _own(self, log: Any) -> Iterator[EventData]:
        if log["address"] == self._channels.address:
            yield from self._decoded(log)


def _opened(event: EventData) -> OpenedChannel:
    args = event["args"]
    return OpenedChannel(
        channel=ChannelId(bytes(args["channel"])),
        terms=Terms(
            account_a=_address(args["account_a"]),
            signer_a=_address(args["signer_a"]),
            account_b=_address(args["account_b"]),
            signer_b=_address(args["signer_b"]),
            challenge_seconds=args["challenge_seconds"],
            challenge_blocks=args["challenge_blocks"],
            sequence=args["sequence"],
        ),
        funder=_address(args["funder"]),
    )


def _terms(terms: Terms) -> tuple[ChecksumAddress | int, ...]:
    return (
        checksum(terms.account_a),
        checksum(terms.signer_a),
        checksum(terms.account_b),
        checksum(terms.signer_b),
        terms.challenge_seconds,
        terms.challenge_blocks,
        terms.sequence,
    )


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text[2:]))


def _packed(row: SettleRow) -> tuple[list[int], int, bytes, bytes, int, int]:
    """Return a row of `settle_many`: plain words, which cost less gas than `settle`'s."""
    terms = row.terms
    addresses = (terms.account_a, terms.signer_a, terms.account_b, terms.signer_b)
    words = [int.from_bytes(address, "big") for address in addresses]
    words += [terms.challenge_seconds, terms.challenge_blocks, terms.sequence]
    signature = row.signature or bytes(65)
    statement = signature[64] << 168 | row.lane << 160 | row.nonce << 96 | row.transferred_ucent
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return words, statement, row.history, row.conditions, r, s
