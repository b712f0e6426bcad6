"""What the tests of deploying share: a chain in this thread, and an endpoint of it that lies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from web3 import Web3
from web3.providers.base import BaseProvider

from farthing.channels.deployment import Deployment
from farthing.channels.hashing import keccak256
from farthing.channels.ids import WORD_BYTES, Address, address_to_hex
from farthing.channels.signing import Signer
from farthing.contracts.artifacts import load
from farthing.devnet.accounts import development_signer
from farthing.devnet.chain import DevChain
from farthing.devnet.opening import ChainSettings
from farthing.devnet.provider import ChainProvider
from farthing.node.audit.contract import ContractReport, deployment_id, verify
from farthing.node.audit.creations import created_address
from farthing.node.audit.deployed import Deployed
from farthing.node.deploying import Web3Rpc
from farthing.node.sender import Sender, checksum

DEPLOYER, GOVERNANCE, MALLORY = map(development_signer, (0, 1, 2))
ORDER = ("member_registry", "city_credit", "payment_channels")

Answer = dict[str, Any]
Lie = Callable[[Sequence[Any], Callable[[], Answer]], Answer]
"""What is said to a method's parameters, given a way to ask the honest endpoint."""


def result(value: object) -> Answer:
    return {"jsonrpc": "2.0", "id": 1, "result": value}


class Endpoint(BaseProvider):
    """An endpoint that answers the methods of `lies` by them and passes on the rest."""

    def __init__(self, honest: BaseProvider) -> None:
        super().__init__()
        self._honest = honest
        self.lies: dict[str, Lie] = {}
        self.sent: list[bytes] = []

    def make_request(self, method: Any, params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            self.sent.append(bytes.fromhex(params[0][2:]))

        def ask() -> Answer:
            answer: Any = self._honest.make_request(method, params)
            return dict(answer)

        lie = self.lies.get(method)
        return ask() if lie is None else lie(params, ask)


@dataclass(slots=True, kw_only=True)
class World:
    """A chain and its endpoint."""

    chain: DevChain
    endpoint: Endpoint
    web3: Web3 = field(init=False)

    def __post_init__(self) -> None:
        self.web3 = Web3(self.endpoint)

    def ask(self, method: str, *params: Any) -> Any:
        """Ask the chain itself."""
        answer: Any = ChainProvider(self.chain).make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def sent_by(self, account: Address) -> int:
        """How many of an account's transactions are mined."""
        return int(self.ask("eth_getTransactionCount", address_to_hex(account), "latest"), 16)

    def verify(self, deployed: Deployed, **options: Any) -> ContractReport:
        return verify(Web3Rpc(self.web3), deployed, **options)

    def made(
        self,
        *,
        registrar: Address = DEPLOYER.address,
        creations: Mapping[str, bytes] | None = None,
        other: Mapping[str, Address] | None = None,
    ) -> Deployed:
        """Deploy by hand; `creations` are other bytes, `other` another token or registry."""
        sender = Sender(self.web3, DEPLOYER, self.web3.eth.chain_id)
        places: dict[str, Address] = {}
        hashes: dict[str, bytes] = {}
        blocks: dict[str, int] = {}
        for name in ORDER:
            token, registry = (places.get(key, b"") for key in ("city_credit", "member_registry"))
            arguments = {
                "member_registry": (registrar,),
                "city_credit": (registry,),
                "payment_channels": tuple(
                    (other or {}).get(key, own)
                    for key, own in (("token", token), ("registry", registry))
                ),
            }[name]
            artifact = load(name)
            code = (creations or {}).get(name, artifact.bytecode)
            abi: Any = artifact.abi
            contract = self.web3.eth.contract(abi=abi, bytecode=code)
            receipt = sender.send(name, contract.constructor(*map(checksum, arguments)))
            places[name] = Address(bytes.fromhex(str(receipt["contractAddress"])[2:]))
            hashes[name] = bytes(receipt["transactionHash"])
            blocks[name] = receipt["blockNumber"]
        header = self.ask("eth_getBlockByNumber", hex(blocks["payment_channels"]), False)
        genesis = self.ask("eth_getBlockByNumber", "0x0", False)
        return Deployed(
            deployment=Deployment(
                chain_id=self.web3.eth.chain_id,
                genesis_hash=bytes.fromhex(genesis["hash"][2:]),
                block=blocks["member_registry"],
                deployment=deployment_id(header),
                **places,
            ),
            deployer=DEPLOYER.address,
            registrar=registrar,
            transactions=hashes,
        )


@contextmanager
def chain_world(*, automine: bool = True, **settings: Any) -> Iterator[World]:
    """A chain of this thread, and its endpoint."""
    chain = DevChain(ChainSettings(permissioned=False, automine=automine, **settings))
    try:
        yield World(chain=chain, endpoint=Endpoint(ChainProvider(chain)))
    finally:
        chain.close()


def flipped(code: bytes, place: int) -> bytes:
    return code[:place] + bytes([code[place] ^ 1]) + code[place + 1 :]


def word(value: bytes) -> bytes:
    return value.rjust(WORD_BYTES, b"\0")


def hex_of(signer: Signer) -> str:
    return address_to_hex(signer.address)


def secretly_minting(world: World, amount_ucent: int) -> bytes:
    """A constructor that leaves city credit's shipped code, and mallory with money.

    For the second contract that `made` makes next, whose registry is then where it says.
    """
    push32, push2, push0 = b"\x7f", b"\x61", b"\x5f"
    sstore, codecopy, return_ = b"\x55", b"\x39", b"\xf3"
    registry = created_address(DEPLOYER.address, world.sent_by(DEPLOYER.address))
    body = load("city_credit").runtime_bytecode + word(registry)
    place = keccak256(word(b"\x01") + word(MALLORY.address))  # of balanceOf, as Vyper lays it out
    mints = push32 + word(amount_ucent.to_bytes(32, "big")) + push32 + place + sstore
    size = push2 + len(body).to_bytes(2, "big")
    ends = size + push0 + return_
    copies_bytes = len(size) + 3 + len(push0 + codecopy)
    at = push2 + (len(mints) + copies_bytes + len(ends)).to_bytes(2, "big")
    return mints + size + at + push0 + codecopy + ends + body
