"""The devnet against anvil: the same signed transactions must do the same on both.

For each: the answer of `eth_call` and of `eth_estimateGas` before it is sent, whether it is taken,
and its receipt; at the end every account's balance, nonce, code and storage.
What may differ is listed in docs/clients.md.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from eth_account import Account

from farthing.channels.ids import Address, address_from_hex, address_to_hex, to_hex
from farthing.devnet.accounts import DevAccount, dev_accounts

from ..chains import served_anvil
from ..contract.devnet_probe import compiled
from .conftest import TYPES, devnet_process
from .generated import Dice, Order

SEEDS = (1, 2, 3)
ORDERS = 120
"""For each seed."""
MINED_SECONDS = 10
TOO_LITTLE = "intrinsic gas too low"
REVERTED = 3
"""The error code of an execution that reverted, with its data."""
SLOTS = 24
"""Storage that is compared of each contract: what the probe and random code write is low."""


@dataclass
class Node:
    """One of the two, asked over one connection."""

    name: str
    url: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, trust_env=False))

    def ask(self, method: str, *params: object) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [*params]}
        answer: dict[str, Any] = self.http.post(self.url, json=request).json()
        return answer

    def mined(self, hash_hex: str) -> dict[str, Any]:
        """The receipt; anvil answers a transaction a moment before it mines it."""
        deadline = time.monotonic() + MINED_SECONDS
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.get("eth_getTransactionReceipt", hash_hex)
            if receipt is not None:
                return receipt
        waiting = self.ask("txpool_content")
        raise AssertionError(f"{self.name} took {hash_hex} and does not mine it: {waiting}")

    def get(self, method: str, *params: object) -> Any:
        answer = self.ask(method, *params)
        assert "result" in answer, (self.name, method, params, answer)
        return answer["result"]


@dataclass
class Pair:
    """Both nodes, and whatever they did not agree on."""

    devnet: Node
    anvil: Node
    differences: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)

    def both(self, what: str, method: str, *params: object) -> Any:
        """Ask both; they must say the same. Returns what the devnet says."""
        ours, theirs = (node.get(method, *params) for node in (self.devnet, self.anvil))
        self.same(f"{what}: {method}", ours, theirs)
        return ours

    def same(self, what: str, ours: object, theirs: object) -> None:
        self.compared[what.rsplit(": ", 1)[-1]] += 1
        if ours != theirs:
            self.differences.append(f"{what}\n  devnet {ours}\n  anvil  {theirs}"[:1_500])


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with devnet_process("--open") as ours, served_anvil() as theirs:
        made = Pair(devnet=Node("devnet", ours.url), anvil=Node("anvil", theirs))
        yield made
        for node in (made.devnet, made.anvil):
            node.http.close()


def outcome(answer: dict[str, Any]) -> object:
    """What a call gave: its data, the data of its revert, or that it failed."""
    if "result" in answer:
        return answer["result"]
    error = answer["error"]
    if error["code"] == REVERTED:
        return ["reverted", error.get("data")]
    return "failed"


def authorizations_of(pair: Pair, order: Order, sender: DevAccount) -> list[dict[str, Any]]:
    """An order's authorizations, signed for the nonces that its signers have now."""
    chain_id = int(pair.devnet.get("eth_chainId"), 16)
    signed = []
    used = Counter({sender.checksum_address: 1})
    for promise in order.promises:
        signer = Account.from_key(promise.key)
        count = pair.devnet.get("eth_getTransactionCount", signer.address, "latest")
        said = {
            "chainId": chain_id if promise.other_chain is None else promise.other_chain,
            "address": promise.address,
            "nonce": max(0, int(count, 16) + used[signer.address] + promise.nonces_off),
        }
        made = signer.sign_authorization(said)
        if not promise.spoilt and not promise.nonces_off and promise.other_chain in (None, 0):
            used[signer.address] += 1
        proof = {"yParity": made.y_parity, "r": made.r, "s": made.s}
        signed.append({**said, **proof, **promise.spoilt})
    return signed


def compare_call(
    pair: Pair, what: str, order: Order, sender: DevAccount, authorizations: list[dict[str, Any]]
) -> None:
    """What `eth_call` and `eth_estimateGas` answer before the transaction is sent."""
    names = ("to", "data", "value", "gas")
    request = {name: order.fields[name] for name in names if name in order.fields}
    request |= {name: hex(request[name]) for name in ("value", "gas")}
    request["from"] = sender.checksum_address
    if authorizations:
        request["authorizationList"] = [
            {name: to_hex(v) if isinstance(v, bytes) else hex(v) for name, v in each.items()}
            for each in authorizations
        ]
    calls = [outcome(node.ask("eth_call", request, "latest")) for node in (pair.devnet, pair.anvil)]
    pair.same(f"{what}: call", *calls)
    no_code = order.kind.startswith("precompile")
    if not order.estimated or (no_code and ("failed" in calls or request["data"] == "0x")):
        return  # anvil gives 21,000 for what an address without code refuses, or charges for
    del request["gas"]
    ours, theirs = (
        outcome(node.ask("eth_estimateGas", request)) for node in (pair.devnet, pair.anvil)
    )
    if isinstance(ours, str) and isinstance(theirs, str) and "failed" not in (ours, theirs):
        near = abs(int(ours, 16) - int(theirs, 16)) * 100 <= int(theirs, 16)
        pair.same(f"{what}: estimate within 1 %", near or ours, (near and True) or theirs)
    else:
        pair.same(f"{what}: estimate refused", ours, theirs)


def receipt_of(pair: Pair, hash_hex: str) -> dict[str, Any]:
    """What both receipts say; a block's own hash, number and time may differ."""
    seen = []
    for node in (pair.devnet, pair.anvil):
        receipt = node.mined(hash_hex)
        log_fields = ("address", "topics", "data", "logIndex", "removed")
        seen.append(
            {
                **{
                    name: receipt.get(name)
                    for name in (
                        *("status", "gasUsed", "cumulativeGasUsed", "effectiveGasPrice", "type"),
                        *("contractAddress", "logsBloom", "from", "to", "transactionIndex"),
                    )
                },
                "logs": [{name: log[name] for name in log_fields} for log in receipt["logs"]],
            }
        )
    ours, theirs = seen
    for name in ours:
        pair.same(f"{name}", ours[name], theirs[name])
    return ours


def send(
    pair: Pair,
    what: str,
    order: Order,
    sender: DevAccount,
    nonce: int,
    authorizations: list[dict[str, Any]],
) -> str | None:
    """Send one to both; its hash if both took it."""
    chain_id = int(pair.devnet.get("eth_chainId"), 16)
    fields = {"chainId": chain_id, "nonce": nonce, **order.fields}
    if authorizations:
        fields["authorizationList"] = authorizations
    raw = to_hex(bytes(Account.sign_transaction(fields, sender.private_key).raw_transaction))
    ours, theirs = (node.ask("eth_sendRawTransaction", raw) for node in (pair.devnet, pair.anvil))
    taken = ["result" in answer for answer in (ours, theirs)]
    if taken == [False, True] and TOO_LITTLE in ours["error"]["message"]:
        # Anvil looks at most of the intrinsic gas only when it mines, and then drops it.
        pair.compared["dropped by anvil"] += 1
        assert pair.anvil.get("eth_getTransactionReceipt", theirs["result"]) is None
        return None
    if taken[0] != taken[1]:
        pair.differences.append(f"{what}: taken\n  devnet {ours}\n  anvil  {theirs}")
    assert not (order.refused and any(taken)), (what, ours, theirs)
    if not all(taken):
        return None
    pair.same(f"{what}: hash", ours["result"], theirs["result"])
    return str(ours["result"])


def nonce_of(pair: Pair, sender: DevAccount) -> int:
    return int(
        pair.both("sender", "eth_getTransactionCount", sender.checksum_address, "latest"), 16
    )


def deployed_probe(pair: Pair, sender: DevAccount) -> Address:
    fields = {"data": to_hex(compiled()[0]), "value": 0, "gas": 3_000_000, "gasPrice": 0}
    nonce = nonce_of(pair, sender)
    order = Order(kind="probe", fields=fields)
    sent = send(pair, "probe", order, sender, nonce, [])
    assert sent is not None
    return address_from_hex(receipt_of(pair, sent)["contractAddress"])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_devnet_does_with_generated_transactions_what_anvil_does(pair: Pair, seed: int) -> None:
    *accounts, fifth, sixth = dev_accounts(6)
    probe = deployed_probe(pair, accounts[0])
    dice = Dice(seed=seed, accounts=accounts, idle=[fifth, sixth], probe=probe)
    touched = {account.address for account in (*accounts, fifth, sixth)} | {dice.probe}
    statuses: Counter[object] = Counter()
    kinds: Counter[object] = Counter()
    delegated = 0
    pair.differences.clear()
    pair.compared.clear()
    for number in range(ORDERS):
        order = dice.order(TYPES)
        sender = dice.sender()
        what = f"seed {seed}, transaction {number}, {order.kind}"
        authorizations = authorizations_of(pair, order, sender)
        if not order.refused:
            compare_call(pair, what, order, sender, authorizations)
        nonce = nonce_of(pair, sender)
        sent = send(pair, what, order, sender, nonce, authorizations)
        if sent is None:
            statuses["refused"] += 1
            continue
        before = len(pair.differences)
        receipt = receipt_of(pair, sent)
        pair.differences[before:] = [f"{what}: {each}" for each in pair.differences[before:]]
        statuses[receipt["status"]] += 1
        kinds[receipt["type"]] += 1
        delegated += any(
            pair.both(what, "eth_getCode", Account.from_key(each.key).address, "latest") != "0x"
            for each in order.promises
        )
        if receipt["to"]:
            touched.add(address_from_hex(receipt["to"]))
        if receipt["contractAddress"] and receipt["status"] == "0x1":
            dice.others.append(address_from_hex(receipt["contractAddress"]))
    for account in sorted(touched | set(dice.others)):
        compare_account(pair, seed, account)
    assert not pair.differences, "\n".join(pair.differences)
    assert pair.compared["estimate within 1 %"] >= ORDERS // 4, pair.compared
    assert min(kinds.values()) >= 10, kinds
    assert len(kinds) == len(TYPES)
    assert delegated >= 5, delegated
    # The dice reached every kind of end, often enough to mean something.
    assert min(statuses["0x1"], statuses["0x0"], 10 * statuses["refused"]) >= 20, statuses


def compare_account(pair: Pair, seed: int, account: Address) -> None:
    text = address_to_hex(account)
    what = f"seed {seed}, {text}"
    for method in ("eth_getBalance", "eth_getTransactionCount"):
        pair.both(what, method, text, "latest")
    if pair.both(what, "eth_getCode", text, "latest") == "0x":
        return
    for slot in range(SLOTS):
        pair.both(what, "eth_getStorageAt", text, hex(slot), "latest")
