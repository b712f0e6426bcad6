"""What the QBFT-like endpoint shows of the node behind it, and whom it refuses."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import rlp
from eth_account import Account

from farthing.channels.ids import to_hex
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.faults.qbft_proxy import SEAL_BYTES, VALIDATORS, VANITY_BYTES
from farthing.node.sender import connect

from ..chains import served_devnet, served_qbft

ALICE = dev_accounts(1)[0].checksum_address
MALLORY = Account.create()
REFUSED = {"code": -32007, "message": "Sender account not authorized to send transactions"}


@pytest.fixture(scope="module")
def devnet() -> Iterator[str]:
    with served_devnet() as url:
        yield url


@pytest.fixture(scope="module")
def proxy(devnet: str) -> Iterator[str]:
    with served_qbft(devnet) as url:
        yield url


def post(url: str, body: object, path: str = "") -> Any:
    return httpx.post(url + path, json=body, trust_env=False, timeout=60).json()


def ask(url: str, method: str, *params: object) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [*params]}
    answer: dict[str, Any] = post(url, request)
    return answer


def result(url: str, method: str, *params: object) -> Any:
    return ask(url, method, *params)["result"]


def test_its_blocks_carry_the_extra_data_of_qbft_and_are_else_the_nodes(
    devnet: str, proxy: str
) -> None:
    result(devnet, "evm_mine")
    for number, seals in (("0x0", 0), ("0x1", VALIDATORS - 1)):
        shown = result(proxy, "eth_getBlockByNumber", number, False)
        extra = bytes.fromhex(shown["extraData"][2:])
        vanity, validators, votes, _, sealed = rlp.decode(extra)
        assert (len(vanity), len(validators), len(votes)) == (VANITY_BYTES, VALIDATORS, 0)
        assert [len(seal) for seal in sealed] == [SEAL_BYTES] * seals
        assert len(extra) >= 120
        real = result(devnet, "eth_getBlockByNumber", number, False)
        assert {**shown, "extraData": real["extraData"]} == real
        assert result(proxy, "eth_getBlockByHash", shown["hash"], False) == shown
        assert shown["baseFeePerGas"] == "0x0"
    assert result(proxy, "eth_getBlockByNumber", "0xffff", False) is None


def test_the_nodes_own_client_reads_such_blocks(proxy: str) -> None:
    assert connect(proxy).eth.get_block(0)["number"] == 0


def test_a_sender_is_taken_while_it_is_on_the_allowlist(devnet: str, proxy: str) -> None:
    """The node behind takes the sender throughout: it is the proxy that refuses."""
    assert result(devnet, "perm_addAccountsToAllowlist", [MALLORY.address]) == "Success"
    chain_id = int(result(proxy, "eth_chainId"), 16)
    fields = {"to": ALICE, "value": 0, "gas": 21_000, "gasPrice": 0, "chainId": chain_id}

    def send(nonce: int) -> dict[str, Any]:
        signed = Account.sign_transaction({**fields, "nonce": nonce}, MALLORY.key)
        return ask(proxy, "eth_sendRawTransaction", to_hex(bytes(signed.raw_transaction)))

    assert send(0)["error"] == REFUSED
    assert ask(proxy, "eth_sendTransaction", {"from": MALLORY.address})["error"] == REFUSED
    assert result(proxy, "perm_addAccountsToAllowlist", [MALLORY.address]) == "Success"
    assert MALLORY.address.lower() in result(proxy, "perm_getAccountsAllowlist")
    assert result(proxy, "eth_getTransactionReceipt", send(0)["result"])["status"] == "0x1"
    assert result(proxy, "perm_removeAccountsFromAllowlist", [MALLORY.address]) == "Success"
    assert send(1)["error"] == REFUSED
    absent = ask(proxy, "perm_removeAccountsFromAllowlist", [MALLORY.address])["error"]
    assert absent["message"] == "Cannot remove an absent account from allowlist"


@pytest.mark.parametrize("raw", ["0x02ff", "0x", "0x05", "zz", 5])
def test_what_is_no_transaction_is_refused_in_the_nodes_words(
    devnet: str, proxy: str, raw: object
) -> None:
    asked = ("eth_sendRawTransaction", raw)
    ours, theirs = (ask(url, *asked)["error"] for url in (proxy, devnet))
    assert (ours["code"], ours["message"]) == (theirs["code"], theirs["message"])


def test_its_validators_stop_and_go_on_when_told(devnet: str, proxy: str) -> None:
    post(proxy, {"faults": [{"kind": "stopped"}]}, "/faults")
    before = result(proxy, "eth_blockNumber")
    result(devnet, "evm_mine")
    assert result(proxy, "eth_blockNumber") == before
    post(proxy, {"faults": []}, "/faults")
    assert int(result(proxy, "eth_blockNumber"), 16) == int(before, 16) + 1
