"""The methods about the development accounts, the pool and the node itself."""

from __future__ import annotations

import json
from typing import Any

from ..channels.ids import to_hex
from . import params as read
from . import signing
from .chain import DevChain
from .method import Method, state_at
from .params import BadParams, Params
from .proofs import WORDS_MAX, proof
from .records import Transaction
from .views import transaction_view

# Signing


def _sign(chain: DevChain, params: Params) -> object:
    signer = params.required(0, read.address)
    return to_hex(signing.message_signature(chain, signer, params.required(1, read.data)))


def _personal_sign(chain: DevChain, params: Params) -> object:
    message = params.required(0, read.data)
    return to_hex(signing.message_signature(chain, params.required(1, read.address), message))


def _sign_typed(chain: DevChain, params: Params) -> object:
    signer = params.required(0, read.address)
    return to_hex(signing.typed_signature(chain, signer, params.required(1, _typed_data)))


def _typed_data(value: object) -> dict[str, Any]:
    """An object, or the same as JSON text (wallets send it so)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadParams(f"the typed data is not JSON ({error})") from error
    return read.mapping(value)


def _sign_transaction(chain: DevChain, params: Params) -> object:
    request = params.required(0, read.call_request)
    nonce = params.required(0, read.call_nonce)
    signed, record = signing.transaction_of(chain, request, nonce)
    return {"raw": to_hex(signed.encode()), "tx": transaction_view(record)}


# State


def _proof(chain: DevChain, params: Params) -> object:
    address = params.required(0, read.address)
    slots = params.required(1, _slots)
    return proof(chain.machine(state_at(chain, params, 2)), address, slots)


def _slots(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > WORDS_MAX:
        raise BadParams(f"give a list of up to {WORDS_MAX} storage positions")
    return tuple(read.slot(each) for each in value)


# The pool


def _parts(chain: DevChain) -> dict[str, list[Transaction]]:
    """What could be mined now, and what waits behind a gap."""
    ready = {waiting.record.hash for waiting in chain.pool.ready(chain.nonce)}
    records = [waiting.record for waiting in chain.pool.all()]
    return {
        "pending": [record for record in records if record.hash in ready],
        "queued": [record for record in records if record.hash not in ready],
    }


def _pool_status(chain: DevChain, _params: Params) -> object:
    return {part: hex(len(records)) for part, records in _parts(chain).items()}


def _pool_content(chain: DevChain, _params: Params) -> object:
    return _by_sender(chain, transaction_view)


def _pool_inspect(chain: DevChain, _params: Params) -> object:
    return _by_sender(chain, _summary)


def _by_sender(chain: DevChain, view: Any) -> dict[str, dict[str, dict[str, object]]]:
    answer: dict[str, dict[str, dict[str, object]]] = {}
    for part, records in _parts(chain).items():
        senders = answer.setdefault(part, {})
        for record in records:
            senders.setdefault(to_hex(record.sender), {})[str(record.nonce)] = view(record)
    return answer


def _summary(record: Transaction) -> str:
    to = "contract creation" if record.to is None else to_hex(record.to)
    return f"{to}: {record.value_wei} wei + {record.gas} gas × {record.max_fee_wei} wei"


# What this is


def _modules(_chain: DevChain, _params: Params) -> object:
    names = ("anvil", "debug", "eth", "evm", "hardhat", "net", "perm", "rpc", "txpool", "web3")
    return dict.fromkeys(names, "1.0")


def _none(_chain: DevChain, _params: Params) -> object:
    return "0x0"


def _coinbase(chain: DevChain, _params: Params) -> object:
    return to_hex(chain.coinbase)


METHODS: dict[str, Method] = {
    "eth_coinbase": Method(answer=_coinbase, most=0),
    "eth_getProof": Method(answer=_proof, most=3),
    "eth_getUncleCountByBlockHash": Method(answer=_none, most=1),
    "eth_getUncleCountByBlockNumber": Method(answer=_none, most=1),
    "eth_sign": Method(answer=_sign, most=2),
    "eth_signTransaction": Method(answer=_sign_transaction, most=1),
    "eth_signTypedData": Method(answer=_sign_typed, most=2),
    "eth_signTypedData_v4": Method(answer=_sign_typed, most=2),
    "personal_sign": Method(answer=_personal_sign, most=3),
    "rpc_modules": Method(answer=_modules, most=0),
    "txpool_content": Method(answer=_pool_content, most=0),
    "txpool_inspect": Method(answer=_pool_inspect, most=0),
    "txpool_status": Method(answer=_pool_status, most=0),
}
