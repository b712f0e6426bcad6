"""What a user of web3.py does and sees."""

import asyncio
from collections.abc import Callable
from typing import Any

from eth_abi.abi import decode
from eth_account import Account
from web3 import AsyncWeb3, HTTPProvider, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError
from web3.middleware import SignAndSendRawMiddlewareBuilder

from farthing.channels.ids import to_hex

HEARING_SECONDS = 30


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
    mint, pushed = asyncio.run(_listening(task["ws"], credit, lambda: mined(order.transact(own))))
    logs = credit.events.Minted().get_logs(
        from_block=created["blockNumber"], argument_filters={"to": treasury.address}
    )
    refused = {
        "call": _reason(lambda: order.call(own)),
        "estimate": _reason(lambda: order.estimate_gas(own)),
        "mined": mined(order.transact({**own, "gas": 200_000}))["status"],
    }
    return {
        "registry": registry.address,
        "credit": credit.address,
        "created": {
            "status": created["status"],
            "address": created["contractAddress"],
            "block": created["blockNumber"],
        },
        "member": [*map(str, words), to_hex(commitment)],
        "balance": credit.functions.balanceOf(treasury.address).call(),
        "estimate": estimate,
        "mint": _mint(credit, mint),
        "logs": [_minted(log) for log in logs],
        "refused": refused,
        "custom": _custom(lambda: probe.functions.refuse_with_numbers(3, 8).call(own)),
        "transfers": _transfers(web3, mined, task, probe),
        **_looked(web3, treasury.address, mint),
        "polled": None,
        "pushed": pushed,
    }


def _mint(credit: Any, mint: Any) -> dict[str, Any]:
    return {
        "status": mint["status"],
        "gas": mint["gasUsed"],
        "block": mint["blockNumber"],
        "hash": to_hex(mint["transactionHash"]),
        "logs": [_name_of(credit, log) for log in mint["logs"]],
    }


def _minted(log: Any) -> list[Any]:
    args = log["args"]
    return [args["to"], args["amount"], to_hex(args["funding_reference"])]


def _looked(web3: Web3, treasury: Any, mint: Any) -> dict[str, Any]:
    block: Any = web3.eth.get_block(mint["blockNumber"])
    looked = web3.eth.get_transaction(mint["transactionHash"])
    fee = web3.eth.fee_history(1, "latest")["baseFeePerGas"][-1]
    return {
        "chain_id": web3.eth.chain_id,
        "code": web3.eth.get_code(treasury).to_0x_hex(),
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
    }


async def _listening(ws: str, credit: Any, act: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """Act while subscribed to new blocks and mints; what it returned, and what was heard."""
    topic = to_hex(Web3.keccak(text="Minted(address,uint256,bytes32)"))
    heads: list[list[Any]] = []
    minted: list[dict[str, Any]] = []
    async with AsyncWeb3(WebSocketProvider(ws)) as web3, asyncio.timeout(HEARING_SECONDS):
        blocks = await web3.eth.subscribe("newHeads")
        where: Any = {"address": credit.address, "topics": [topic]}
        logs = await web3.eth.subscribe("logs", where)
        receipt = await asyncio.to_thread(act)
        heard: Any
        async for heard in web3.socket.process_subscriptions():
            found = heard["result"]
            if heard["subscription"] == blocks:
                heads.append([found["number"], to_hex(found["hash"])])
            elif heard["subscription"] == logs:
                minted.append(
                    {
                        "args": _minted(credit.events.Minted().process_log(found)),
                        "transaction": to_hex(found["transactionHash"]),
                        "block": found["blockNumber"],
                    }
                )
            if minted and heads:
                break
    return receipt, {"heads": heads, "minted": minted}


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
