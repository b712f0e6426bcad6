"""Reads a deployment as of one block, after proving that it is the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...channels.deployment import Deployment
from ...channels.ids import Address, ChannelId, address_to_hex, to_hex
from ...channels.terms import Terms
from ...contracts.artifacts import load
from .abi import Event, Function, data_from_hex, events, function, number_from_hex
from .errors import (
    BlockUnavailable,
    ChainReorganised,
    LogsIncomplete,
    RpcAnswerTooLarge,
    RpcRefused,
    RpcUnreachable,
    WrongChain,
    WrongContract,
)
from .records import (
    BlockRef,
    ChainView,
    ChannelEvent,
    ChannelState,
    Claimed,
    Closed,
    CloseStarted,
    Credited,
    Deposited,
    Membership,
    Opened,
    Settled,
    Withdrawn,
)
from .rpc import Rpc

LOG_BLOCKS_MAX = 5_000
"""Blocks asked for at once; halved as often as an endpoint refuses so many."""

_CHANNELS = "payment_channels"
_REGISTRY = "member_registry"
_CREDIT = "city_credit"


class ChainReader:
    """Reads one deployment, in this order: `verify_chain`, `pin`, `verify_contracts`, `read`.

    Raises the errors of `errors.py`, each of which makes the audit inconclusive.
    """

    def __init__(self, rpc: Rpc, deployment: Deployment) -> None:
        self._rpc = rpc
        self._deployment = deployment
        self._artifacts = {name: load(name) for name in (_CHANNELS, _REGISTRY, _CREDIT)}
        self._addresses = {
            _CHANNELS: deployment.payment_channels,
            _REGISTRY: deployment.member_registry,
            _CREDIT: deployment.city_credit,
        }

    def verify_chain(self) -> None:
        """Prove that the endpoint serves the deployment's chain; raises `WrongChain`."""
        expected = self._deployment
        chain_id = number_from_hex(self._ask("eth_chainId"))
        if chain_id != expected.chain_id:
            raise WrongChain(f"the endpoint serves chain {chain_id}, not {expected.chain_id}")
        genesis = data_from_hex(self._header(0)["hash"])
        if genesis != expected.genesis_hash:
            raise WrongChain(
                f"the endpoint's chain {chain_id} begins with block {to_hex(genesis)}, "
                f"not {to_hex(expected.genesis_hash)}"
            )

    def pin(self, number: int | None = None) -> BlockRef:
        """Choose the block to audit at: the newest one unless it is given."""
        newest = number_from_hex(self._ask("eth_blockNumber"))
        if number is None:
            number = newest
        if not self._deployment.block <= number <= newest:
            raise BlockUnavailable(
                f"block {number} is not between the deployment's, {self._deployment.block}, "
                f"and the newest, {newest}"
            )
        return BlockRef(number=number, hash=data_from_hex(self._header(number)["hash"]))

    def verify_contracts(self, block: BlockRef) -> None:
        """Prove code and immutables of all three contracts; raises `WrongContract`."""
        registry = _word(self._deployment.member_registry)
        channels = _word(self._deployment.city_credit) + registry + self._deployment.deployment
        # Immutables in the order in which each contract declares them.
        for name, immutables in ((_REGISTRY, b""), (_CREDIT, registry), (_CHANNELS, channels)):
            self._verify_code(name, immutables, block)

    def _verify_code(self, name: str, immutables: bytes, block: BlockRef) -> None:
        address = address_to_hex(self._addresses[name])
        code = data_from_hex(self._ask("eth_getCode", address, hex(block.number)))
        artifact = self._artifacts[name]
        if not artifact.runtime_matches(code):
            raise WrongContract(
                f"{address} holds no {name}: its {len(code)} bytes of code are not those compiled"
            )
        if artifact.immutables(code) != immutables:
            raise WrongContract(
                f"the {name} at {address} was deployed for another token, registry or deployment "
                "than the record says"
            )

    def read(self, block: BlockRef, receipt_blocks: Iterable[int]) -> ChainView:
        """Read everything as of the block, and that the chain still has it when all is read."""
        channel_events = self._channel_events(block)
        memberships = self.memberships(block)
        opened = [event for event in channel_events if isinstance(event, Opened)]
        accounts = {a for event in opened for a in (event.account_a, event.account_b)}
        credited = {e.account for e in channel_events if isinstance(e, Credited | Claimed)}
        wanted = sorted(number for number in set(receipt_blocks) if number <= block.number)
        view = ChainView(
            block=block,
            events=channel_events,
            memberships=memberships,
            channels_opened=self._view(_CHANNELS, "next_sequence", [()], block)[0][0] - 1,
            states=self._states([event.channel for event in opened], block),
            members=dict(self.members(sorted(accounts), block)),
            claimable_ucent=self._claimable(sorted(credited), block),
            balance_ucent=self._view(
                _CREDIT, "balanceOf", [(self._deployment.payment_channels,)], block
            )[0][0],
            timestamps=self._timestamps(wanted),
        )
        self.confirm(block)
        return view

    def confirm(self, block: BlockRef) -> Mapping[str, Any]:
        """The header of a block, which the chain must still have; raises `ChainReorganised`."""
        header = self._header(block.number)
        now = data_from_hex(header["hash"])
        if now != block.hash:
            raise ChainReorganised(
                f"block {block.number} was {to_hex(block.hash)} and is now {to_hex(now)}"
            )
        return header

    def _ask(self, method: str, *params: object) -> Any:
        return self._rpc.call_many(method, [params])[0]

    def _header(self, number: int) -> Mapping[str, Any]:
        return self._headers([number])[0]

    def _headers(self, numbers: Sequence[int]) -> list[Mapping[str, Any]]:
        answers = self._rpc.call_many("eth_getBlockByNumber", [(hex(n), False) for n in numbers])
        for number, answer in zip(numbers, answers, strict=True):
            if not isinstance(answer, dict) or "hash" not in answer or "timestamp" not in answer:
                raise BlockUnavailable(f"the endpoint does not serve block {number}")
        return answers

    def timestamp(self, number: int) -> int:
        """The time of a block, in seconds."""
        return self._timestamps([number])[number]

    def _timestamps(self, numbers: Sequence[int]) -> dict[int, int]:
        headers = self._headers(numbers)
        return {n: number_from_hex(h["timestamp"]) for n, h in zip(numbers, headers, strict=True)}

    def _view(
        self, contract: str, name: str, calls: Sequence[Sequence[bytes]], block: BlockRef
    ) -> list[tuple[Any, ...]]:
        view: Function = function(self._artifacts[contract].abi, name)
        to = address_to_hex(self._addresses[contract])
        answers = self._rpc.call_many(
            "eth_call",
            [({"to": to, "data": view.data(*words)}, hex(block.number)) for words in calls],
        )
        return [view.results(answer) for answer in answers]

    def _states(
        self, channels: Sequence[ChannelId], block: BlockRef
    ) -> dict[ChannelId, ChannelState]:
        rows = self._view(_CHANNELS, "channel_state", [(channel,) for channel in channels], block)
        return {
            channel: ChannelState(
                status=row[0],
                transferred_ucent=(row[1], row[4]),
                deposit_ucent=(row[2], row[5]),
                withdrawn_ucent=(row[3], row[6]),
            )
            for channel, row in zip(channels, rows, strict=True)
        }

    def members(
        self, accounts: Sequence[Address], block: BlockRef
    ) -> list[tuple[Address, Membership]]:
        """What the registry's state holds about each of these addresses at a block."""
        rows = self._view(_REGISTRY, "member", [(account,) for account in accounts], block)
        return [
            (
                account,
                Membership(
                    block=block.number,
                    account=account,
                    role=row[0],
                    status=row[1],
                    valid_until=row[2],
                ),
            )
            for account, row in zip(accounts, rows, strict=True)
        ]

    def _claimable(self, accounts: Sequence[Address], block: BlockRef) -> dict[Address, int]:
        rows = self._view(_CHANNELS, "claimable", [(account,) for account in accounts], block)
        return {account: row[0] for account, row in zip(accounts, rows, strict=True)}

    def _channel_events(self, block: BlockRef) -> tuple[ChannelEvent, ...]:
        found = []
        for number, name, fields in self._logs(_CHANNELS, block):
            if name == "Opened":
                self._check_id(fields)
            if (make := _CHANNEL_EVENTS[name]) is not None:
                found.append(make(number, fields))
        return tuple(found)

    def _check_id(self, fields: Mapping[str, Any]) -> None:
        names = Terms.__dataclass_fields__
        terms = Terms(**{name: fields[name] for name in names})
        if self._deployment.channel_id(terms) != fields["channel"]:
            raise LogsIncomplete(
                f"the log that opens channel {to_hex(fields['channel'])} holds other terms than "
                "the id stands for"
            )

    def memberships(self, block: BlockRef) -> tuple[Membership, ...]:
        """Every change of a member up to a block, in the chain's order."""
        return tuple(
            Membership(
                block=number,
                account=fields["account"],
                role=fields["role"],
                status=fields["status"],
                valid_until=fields["valid_until"],
            )
            for number, _, fields in self._logs(_REGISTRY, block)
        )

    def _logs(self, contract: str, block: BlockRef) -> Iterable[tuple[int, str, Mapping[str, Any]]]:
        """Block, event name and fields of every log of a contract, in the chain's order."""
        address = self._addresses[contract]
        known = events(self._artifacts[contract].abi)
        first, size = self._deployment.block, LOG_BLOCKS_MAX
        previous = (-1, -1)
        while first <= block.number:
            last = min(first + size - 1, block.number)
            try:
                logs = self._log_range(address, first, last)
            except (RpcRefused, RpcAnswerTooLarge):
                if first == last:
                    raise
                size = (last - first + 1) // 2
                continue
            for log in logs:
                position = (number_from_hex(log["blockNumber"]), number_from_hex(log["logIndex"]))
                if not previous < position or not first <= position[0] <= last:
                    raise LogsIncomplete(f"a log of block {position[0]} is out of its order")
                previous = position
                yield position[0], *_decode_log(known, log)
            first = last + 1

    def _log_range(self, address: Address, first: int, last: int) -> list[Mapping[str, Any]]:
        where = {
            "address": address_to_hex(address),
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        logs = self._ask("eth_getLogs", where)
        if not isinstance(logs, list):
            raise RpcUnreachable("eth_getLogs is not answered by a list")
        for log in logs:
            if not isinstance(log, dict) or not log.keys() >= _LOG_KEYS:
                raise RpcUnreachable("eth_getLogs answers something that is no log")
            if data_from_hex(log["address"]) != address or log.get("removed"):
                raise LogsIncomplete(f"a log of block {log['blockNumber']} is not of this chain")
        return logs


_LOG_KEYS = frozenset({"address", "topics", "data", "blockNumber", "logIndex"})


def _decode_log(known: Mapping[bytes, Event], log: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    topics = [data_from_hex(topic) for topic in log["topics"]]
    if not topics or topics[0] not in known:
        raise LogsIncomplete(f"a log of block {log['blockNumber']} is none that the contract makes")
    event = known[topics[0]]
    return event.name, event.fields(topics, data_from_hex(log["data"]))


def _word(address: Address) -> bytes:
    return address.rjust(32, b"\0")


def _opened(block: int, fields: Mapping[str, Any]) -> Opened:
    return Opened(
        block=block,
        channel=fields["channel"],
        account_a=fields["account_a"],
        account_b=fields["account_b"],
        sequence=fields["sequence"],
        deposit_ucent=fields["deposit"],
    )


def _deposited(block: int, fields: Mapping[str, Any]) -> Deposited:
    return Deposited(
        block=block,
        channel=fields["channel"],
        account=fields["account"],
        amount_ucent=fields["amount"],
        total_ucent=fields["deposit_total"],
    )


def _settled(block: int, fields: Mapping[str, Any]) -> Settled:
    return Settled(
        block=block,
        channel=fields["channel"],
        payer=fields["payer"],
        nonce=fields["nonce"],
        before_ucent=fields["transferred_before"],
        transferred_ucent=fields["transferred"],
        history=fields["history"],
    )


def _withdrawn(block: int, fields: Mapping[str, Any]) -> Withdrawn:
    return Withdrawn(
        block=block,
        channel=fields["channel"],
        account=fields["account"],
        amount_ucent=fields["amount"],
        total_ucent=fields["total"],
    )


def _close_started(block: int, fields: Mapping[str, Any]) -> CloseStarted:
    return CloseStarted(block=block, channel=fields["channel"])


def _closed(block: int, fields: Mapping[str, Any]) -> Closed:
    return Closed(
        block=block,
        channel=fields["channel"],
        transferred_ucent=(fields["transferred_a"], fields["transferred_b"]),
        payout_ucent=(fields["payout_a"], fields["payout_b"]),
        cooperative=bool(fields["cooperative"]),
    )


def _credited(block: int, fields: Mapping[str, Any]) -> Credited:
    return Credited(
        block=block,
        channel=fields["channel"],
        account=fields["account"],
        amount_ucent=fields["amount"],
    )


def _claimed(block: int, fields: Mapping[str, Any]) -> Claimed:
    return Claimed(block=block, account=fields["account"], amount_ucent=fields["amount"])


_CHANNEL_EVENTS: Mapping[str, Callable[[int, Mapping[str, Any]], ChannelEvent] | None] = {
    "Opened": _opened,
    "Deposited": _deposited,
    "Settled": _settled,
    "Withdrawn": _withdrawn,
    "CloseStarted": _close_started,
    "Closed": _closed,
    "Credited": _credited,
    "Claimed": _claimed,
    "RowSkipped": None,  # nothing changed
}
