"""Makes the files of a Besu QBFT chain: genesis, allowlists, static nodes, options of a node.

Rule: what is encoded is decoded again by another reader before it is written; a genesis is written
once. Sources: Besu's pages on QBFT, free gas and local permissioning, and its QbftExtraDataCodec.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import rlp
from coincurve import PublicKey

from ..channels.client.durable_file import make_folder, write_whole
from ..channels.deployment import DEVELOPMENT_CHAIN_ID
from ..channels.errors import LocalError
from ..channels.fields import MalformedMessage
from ..channels.hashing import keccak256
from ..channels.ids import ADDRESS_BYTES, Address, address_to_hex, to_hex
from ..channels.rlp_items import read_list

VANITY_BYTES: Final = 32
SEAL_BYTES: Final = 65
ROUND_BYTES_MAX: Final = 4
VALIDATORS_TOLERANT_MIN: Final = 4
"""Of four one may fail or lie; of fewer none (3f + 1)."""
VALIDATORS_MAX: Final = 100
"""Each block carries a seal of most of them."""
MIX_HASH: Final = "0x63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365"
"""What marks a block as one of a BFT consensus in Besu."""
EPOCH_BLOCKS: Final = 30_000
"""After which votes on validators are counted anew; Besu's own figure."""
FORKS: Final = (
    *("homesteadBlock", "eip150Block", "eip155Block", "eip158Block", "byzantiumBlock"),
    *("constantinopleBlock", "petersburgBlock", "istanbulBlock", "berlinBlock", "londonBlock"),
    *("shanghaiTime", "cancunTime"),
)
"""All from the first block on: the contracts need Cancun's instructions."""

_ENODE = re.compile(
    r"enode://(?P<key>[0-9a-fA-F]{128})@(?P<host>[0-9.]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})"
)
_VOTE_ITEMS = 2
_EXTRA_ITEMS = 5
_PORT_MAX = 65_535


class BadNode(LocalError):
    """A text that is no enode URL with an IP address."""

    code = "bad-enode"
    remedy = "give what `besu public-key export` and the node's address make: enode://KEY@IP:PORT"


class BadChain(LocalError):
    """Settings that make no chain that money could be on."""

    code = "bad-besu-chain"


class OtherGenesis(LocalError):
    """The folder holds a genesis that these settings do not make."""

    code = "other-genesis"
    remedy = "give another folder with --out; a chain's genesis never changes"


class BadExtraData(LocalError):
    """Bytes that are not the extra-data of a QBFT block."""

    code = "bad-extra-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Besu node: its 64-byte public key and where it listens."""

    public_key: bytes
    host: str
    port: int

    @property
    def address(self) -> Address:
        """Which validator it is, if it is one."""
        return Address(keccak256(self.public_key)[-ADDRESS_BYTES:])

    @property
    def enode(self) -> str:
        """Its URL, in one spelling."""
        return f"enode://{self.public_key.hex()}@{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Node:
        """Read an enode URL; raises `BadNode`."""
        found = _ENODE.fullmatch(text)
        if found is None:
            raise BadNode(f"{text[:200]!r} is no enode URL with an IP address")
        key = bytes.fromhex(found["key"])
        try:
            PublicKey(b"\x04" + key)
            address = ipaddress.ip_address(found["host"].strip("[]"))
        except ValueError as error:
            raise BadNode(
                f"{text[:200]!r} holds no public key or no IP address ({error})"
            ) from None
        port = int(found["port"])
        if not 0 < port <= _PORT_MAX:
            raise BadNode(f"{text[:200]!r} names port {port}")
        host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
        return cls(public_key=key, host=host, port=port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraData:
    """What a QBFT block's extra-data says: RLP of vanity, validators, vote, round, seals.

    `vote` is whom, and whether to add (True) or drop.
    """

    validators: tuple[Address, ...]
    vanity: bytes = bytes(VANITY_BYTES)
    vote: tuple[Address, bool] | None = None
    round: int = 0
    seals: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The bytes of the header's field."""
        vote: list[bytes] = []
        if self.vote is not None:
            vote = [self.vote[0], b"\xff" if self.vote[1] else b""]
        fields = [self.vanity, list(self.validators), vote, self.round, list(self.seals)]
        encoded: bytes = rlp.encode(fields)
        return encoded

    @classmethod
    def decode(cls, content: bytes) -> ExtraData:
        """Read the bytes with another reader than wrote them; raises `BadExtraData`."""
        try:
            fields: Any = read_list(content)
        except MalformedMessage as error:
            raise BadExtraData(f"the extra-data is no RLP list ({error.text})") from None
        if len(fields) != _EXTRA_ITEMS:
            raise BadExtraData(f"the extra-data has {len(fields)} parts, not {_EXTRA_ITEMS}")
        vanity, validators, vote, round_, seals = fields
        _check_size("vanity", [vanity], VANITY_BYTES)
        _check_size("validator", validators, ADDRESS_BYTES)
        _check_size("seal", seals, SEAL_BYTES)
        if not isinstance(round_, bytes) or len(round_) > ROUND_BYTES_MAX or round_[:1] == b"\0":
            raise BadExtraData("the round is no number")
        return cls(
            vanity=vanity,
            validators=tuple(Address(validator) for validator in validators),
            vote=_vote(vote),
            round=int.from_bytes(round_, "big"),
            seals=tuple(seals),
        )


def _check_size(what: str, items: Any, size: int) -> None:
    if not isinstance(items, list):
        raise BadExtraData(f"the {what}s are no list")
    if any(not isinstance(item, bytes) or len(item) != size for item in items):
        raise BadExtraData(f"a {what} is not {size} bytes")


def _vote(items: Any) -> tuple[Address, bool] | None:
    if items == []:
        return None
    if not isinstance(items, list) or len(items) != _VOTE_ITEMS or items[1] not in (b"\xff", b""):
        raise BadExtraData("the vote is none")
    _check_size("validator", items[:1], ADDRESS_BYTES)
    return Address(items[0]), items[1] == b"\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class BesuChain:
    """A chain to be: who validates, which other nodes and which accounts it takes."""

    chain_id: int
    validators: tuple[Node, ...]
    nodes: tuple[Node, ...] = ()
    accounts: tuple[Address, ...] = ()
    block_seconds: int = 2
    gas_limit: int = 30_000_000

    def __post_init__(self) -> None:
        """Raise `BadChain` for what would make no chain, or an unsafe one."""
        every = [node.public_key for node in (*self.validators, *self.nodes)]
        if not 0 < len(self.validators) <= VALIDATORS_MAX:
            raise BadChain(f"{len(self.validators)} validators are not 1 to {VALIDATORS_MAX}")
        if len(set(every)) != len(every):
            raise BadChain("a node is named twice", remedy="name each once; a validator is a node")
        if not self.accounts:
            raise BadChain(
                "no account is admitted, so nobody could send a transaction",
                remedy="give the deployer's with --account",
            )
        if self.chain_id == DEVELOPMENT_CHAIN_ID or self.chain_id < 1:
            raise BadChain(
                f"chain id {self.chain_id} is that of development chains",
                remedy="give an id of your own: clients trust no clock of a development chain",
            )

    def genesis(self, timestamp: int) -> dict[str, Any]:
        """The genesis file: QBFT by block headers, no base fee, empty blocks too, no money."""
        extra = ExtraData(validators=tuple(sorted(node.address for node in self.validators)))
        encoded = extra.encode()
        if ExtraData.decode(encoded) != extra:
            raise BadExtraData("the extra-data does not read as it was written")
        return {
            "config": {
                "chainId": self.chain_id,
                **dict.fromkeys(FORKS, 0),
                "zeroBaseFee": True,
                "qbft": {
                    "epochlength": EPOCH_BLOCKS,
                    "blockperiodseconds": self.block_seconds,
                    "requesttimeoutseconds": 2 * self.block_seconds,
                },
            },
            "nonce": "0x0",
            "timestamp": hex(timestamp),
            "extraData": to_hex(encoded),
            "gasLimit": hex(self.gas_limit),
            "difficulty": "0x1",
            "mixHash": MIX_HASH,
            "coinbase": "0x" + "00" * ADDRESS_BYTES,
            "alloc": {},
        }

    def permissions(self) -> str:
        """The allowlists of nodes and accounts, as TOML."""
        nodes = [node.enode for node in (*self.validators, *self.nodes)]
        accounts = [address_to_hex(account).lower() for account in sorted(set(self.accounts))]
        lines = (
            f"nodes-allowlist={json.dumps(nodes)}",
            f"accounts-allowlist={json.dumps(accounts)}",
        )
        return "\n".join(lines) + "\n"

    def static_nodes(self) -> str:
        """The nodes that each node dials, as JSON."""
        nodes = [node.enode for node in (*self.validators, *self.nodes)]
        return json.dumps(nodes, indent=2) + "\n"


OPTIONS: Final = """# Options of each node; paths are from the folder that Besu runs in.
genesis-file="genesis.json"
sync-mode="FULL"
# No node may ask for a price: it would drop what costs nothing without a word.
min-gas-price=0
discovery-enabled=false
static-nodes-file="static-nodes.json"
permissions-nodes-config-file-enabled=true
permissions-nodes-config-file="permissions_config.toml"
permissions-accounts-config-file-enabled=true
permissions-accounts-config-file="permissions_config.toml"
# For hubs, wallets and auditors on this machine or behind a proxy with TLS; never open to anybody.
rpc-http-enabled=true
rpc-http-host="127.0.0.1"
rpc-http-port=8545
rpc-http-api=["ETH", "NET", "WEB3"]
host-allowlist=["localhost", "127.0.0.1"]
"""
"""A node's options that this software relies on, without what is each node's own."""


def export(chain: BesuChain, folder: Path, *, now: int) -> dict[str, Path]:
    """Write the files; a genesis that is there already is kept, and must be of these settings.

    `now` is a new genesis's time in seconds. Raises `OtherGenesis`, `OSError`.
    """
    make_folder(folder)
    paths = {
        "genesis": folder / "genesis.json",
        "permissions": folder / "permissions_config.toml",
        "static_nodes": folder / "static-nodes.json",
        "options": folder / "config.toml",
    }
    timestamp = _timestamp_of(paths["genesis"], now)
    genesis = json.dumps(chain.genesis(timestamp), indent=2) + "\n"
    if paths["genesis"].exists() and paths["genesis"].read_text(encoding="utf-8") != genesis:
        raise OtherGenesis(f"{paths['genesis']} is of other validators or settings")
    for name, text in (
        ("genesis", genesis),
        ("permissions", chain.permissions()),
        ("static_nodes", chain.static_nodes()),
        ("options", OPTIONS),
    ):
        write_whole(paths[name], text.encode())
        paths[name].chmod(0o644)  # Besu runs as another user, and nothing here is secret
    return paths


def _timestamp_of(genesis: Path, now: int) -> int:
    """A genesis's own time, or `now` where there is none."""
    try:
        return int(json.loads(genesis.read_text(encoding="utf-8"))["timestamp"], 16)
    except FileNotFoundError:
        return now
    except (ValueError, LookupError, TypeError):
        raise OtherGenesis(f"{genesis} cannot be read as a genesis file") from None
