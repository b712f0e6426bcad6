"""What a user of web3.py does and sees."""

from collections.abc import Callable
from typing import Any

from eth_abi.abi import decode
from eth_account import Account
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractCustomError, ContractLogicError
from web3.middleware import SignAndSendRawMiddlewareBuilder

from farthing.channels.ids import to_hex


def use(task: dict[str, Any]) -> dict[str, Any]:
    """Do the whole task; the report."""
    web3 = Web3(HTTPProvider(task["url"]))
    registrar, treasury = (Account.from_key(task[who]["key"]) for who in ("registrar", "treasury"))
    for account in (registrar, treasury):
        signing: Any = SignAndSendRawMiddlewareBuilder.build(account)
        web3.middleware_onion.inject(signing, layer=0)

    def mined(sent: Any) -> Any:
        return web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)

    def deployed(made: dict[str, Any], *values: Any) -> tuple[Any, Any]:
        factory = web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
        receipt = mined(factory.constructor(*values).transact({"from": registrar.address}))
        return web3.eth.contract(address=receipt["contractAddress"], abi=made["abi"]), receipt

    registry, created = deployed(task["registry"], registrar.address)
    credit, _ = deployed(task["credit"], registry.address)
    probe, _ = deployed(task["probe"])
    own = {"from": treasury.address}

    word = bytes.fromhex(task["word"][2:])
    row = (treasury.address, 2, 1, 0, word, word)
    mined(registry.functions.set_member(row).transact({"from": registrar.address}))
    *words, commitment = registry.functions.member(treasury.address).call()

    order = credit.functions.mint(treasury.address, task["amount"], word)
    estimate = order.estimate_gas(own)
    mint = mined(order.transact(own))
    first = created["blockNumber"]
    logs = credit.events.Minted().get_logs(
        from_block=first, argument_filters={"to": treasury.address}
    )
    refused = {
        "call": _reason(lambda: order.call(own)),
        "estimate": _reason(lambda: order.estimate_gas(own)),
        "mined": mined(order.transact({**own, "gas": 200_000}))["status"],
    }
    block: Any = web3.eth.get_block(mint["blockNumber"])
    looked = web3.eth.get_transaction(mint["transactionHash"])
    transfers = _transfers(web3, mined, task, probe)
    fee = web3.eth.fee_history(1, "latest")["baseFeePerGas"][-1]
    return {
        "chain_id": web3.eth.chain_id,
        "registry": registry.address,
        "credit": credit.address,
        "created": {
            "status": created["status"],
            "address": created["contractAddress"],
            "block": first,
        },
        "member": [*map(str, words), "0x" + commitment.hex()],
        "balance": credit.functions.balanceOf(treasury.address).call(),
        "estimate": estimate,
        "mint": {
            "status": mint["status"],
            "gas": mint["gasUsed"],
            "block": mint["blockNumber"],
            "hash": "0x" + mint["transactionHash"].hex(),
            "logs": [_name_of(credit, log) for log in mint["logs"]],
        },
        "logs": [
            [
                log["args"]["to"],
                log["args"]["amount"],
                "0x" + log["args"]["funding_reference"].hex(),
            ]
            for log in logs
        ],
        "refused": refused,
        "custom": _custom(lambda: probe.functions.refuse_with_numbers(3, 8).call(own)),
        "transfers": transfers,
        "code": web3.eth.get_code(treasury.address).to_0x_hex(),
        "fees": [web3.eth.gas_price, 2 * fee + web3.eth.max_priority_fee, fee],
        "block": {
            "hash": to_hex(block["hash"]),
            "transactions": [to_hex(each) for each in block["transactions"]],
        },
        "looked": {
            "from": looked["from"],
            "nonce": looked["nonce"],
            "block": looked["blockNumber"],
        },
        "polled": None,
        "pushed": None,
    }


def _name_of(contract: Any, log: Any) -> str:
    """Which event of a contract a log is; web3 refuses to decode it as another."""
    return str(
        contract.get_event_by_topic(log["topics"][0].to_0x_hex())().process_log(log)["event"]
    )


def _reason(act: Callable[[], Any]) -> str:
    try:
        act()
    except ContractLogicError as error:
        return str(error.message).removeprefix("execution reverted: ")
    raise AssertionError("it was not refused")


def _custom(act: Callable[[], Any]) -> list[Any]:
    try:
        act()
    except ContractCustomError as error:
        data = bytes.fromhex(str(error.data)[2:])
        assert data[:4] == Web3.keccak(text="TooFew(uint256,uint256)")[:4]
        return ["TooFew", *decode(["uint256", "uint256"], data[4:])]
    raise AssertionError("it was not refused")


def _transfers(web3: Web3, mined: Callable[[Any], Any], task: dict[str, Any], probe: Any) -> Any:
    """One transaction of each type."""
    treasury = Account.from_key(task["treasury"]["key"])
    plain = {"from": treasury.address, "to": task["stranger"], "value": 5, "gas": 21_000}
    fees = {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
    nonce = web3.eth.get_transaction_count(treasury.address)
    place = {"chainId": web3.eth.chain_id, "address": probe.address}
    # It is the last; its own transaction counts before the authorization is looked at.
    authorization = treasury.sign_authorization({**place, "nonce": nonce + len(task["types"])})
    kinds: dict[int, Any] = {
        0: {**plain, "gasPrice": 0},
        1: {**plain, "gasPrice": 0, "type": 1, "accessList": []},
        2: {**plain, **fees, "type": 2},
        4: {
            **fees,
            "type": 4,
            "from": treasury.address,
            "to": treasury.address,
            "gas": 300_000,
            "data": probe.encode_abi("note", args=[1, 2]),
            "authorizationList": [authorization],
        },
    }
    transfers = {}
    for kind in task["types"]:
        receipt = mined(web3.eth.send_transaction(kinds[kind]))
        transfers[str(kind)] = {
            "status": receipt["status"],
            "type": receipt["type"],
            "gas": receipt["gasUsed"],
        }
    return transfers
