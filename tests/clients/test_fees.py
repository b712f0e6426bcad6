"""Other people's clients on a devnet whose base fee moves: what they offer unasked is enough."""

from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3
from web3.middleware import SignAndSendRawMiddlewareBuilder

from farthing.channels.ids import address_to_hex, to_hex
from farthing.devnet.accounts import dev_accounts

from .cast import Cast
from .conftest import Endpoint, devnet_process, node_report

TO = address_to_hex(bytes(19) + b"\x99")
ACCOUNTS = dev_accounts(5)
KEYS = [to_hex(account.private_key) for account in ACCOUNTS]
BLOCK_GAS = 60_000_000


@pytest.fixture(scope="module")
def paid() -> Iterator[Endpoint]:
    with devnet_process("--base-fee", "30") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def sent(paid: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The hashes of a transaction of type 2 and of a legacy one, by each client.

    Before them gas has become dearer: the block before each client's first one was full.
    """
    task = {"url": paid.url, "chain_id": paid.chain_id, "to": TO}
    task |= {"burner": ACCOUNTS[0].checksum_address, "ethers": KEYS[1], "viem": KEYS[2]}
    hashes = node_report("fees.mjs", task)
    web3 = Web3(HTTPProvider(paid.url))
    burn_a_block(web3)
    cast = Cast(paid.url, tmp_path_factory.mktemp("home"))
    order = ("send", "--private-key", KEYS[3], TO, "--value", 5)
    hashes["cast"] = [
        cast.json(*order, *options)["transactionHash"] for options in ((), ("--legacy",))
    ]
    burn_a_block(web3)
    account = Account.from_key(KEYS[4])
    signing: Any = SignAndSendRawMiddlewareBuilder.build(account)
    web3.middleware_onion.inject(signing, layer=0)
    plain = {"from": account.address, "to": TO, "value": 5}
    orders: list[Any] = [plain, {**plain, "gasPrice": web3.eth.gas_price}]
    hashes["web3.py"] = [web3.eth.send_transaction(each).to_0x_hex() for each in orders]
    return hashes


def burn_a_block(web3: Web3) -> None:
    """Creation code that is no instruction uses up all its gas: here a whole block's."""
    order: Any = {"from": ACCOUNTS[0].checksum_address, "data": "0xfe", "gas": BLOCK_GAS}
    web3.eth.send_transaction(order)


@pytest.mark.parametrize("client", ["cast", "ethers", "viem", "web3.py"])
def test_a_client_pays_the_base_fee_and_a_tip_without_being_told(
    paid: Endpoint, sent: dict[str, list[str]], client: str
) -> None:
    web3 = Web3(HTTPProvider(paid.url))
    receipts = [web3.eth.get_transaction_receipt(each) for each in sent[client]]  # type: ignore[arg-type]
    assert [(receipt["status"], receipt["type"]) for receipt in receipts] == [(1, 2), (1, 0)]
    for receipt in receipts:
        base_fee = web3.eth.get_block(receipt["blockNumber"])["baseFeePerGas"]
        assert base_fee > 0
        assert receipt["effectiveGasPrice"] > base_fee
    first = web3.eth.get_block(receipts[0]["blockNumber"])
    before = web3.eth.get_block(first["number"] - 1)
    assert before["gasUsed"] == BLOCK_GAS
    assert first["baseFeePerGas"] == before["baseFeePerGas"] * 9 // 8
