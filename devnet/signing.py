"""Signing for the development accounts: transactions, messages and typed data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eth.abc import SignedTransactionAPI
from eth_account.messages import SignableMessage, encode_defunct, encode_typed_data

from ..channels.ids import Address
from .authorizations import signed_by
from .errors import BadTypedData, CheatRefused, UnknownAccount
from .evm import read_transaction, transaction_record
from .fees import with_fees
from .impersonation import unsigned_by
from .records import CallRequest, Transaction

if TYPE_CHECKING:
    from .accounts import DevAccount
    from .chain import DevChain


def transaction_of(
    chain: DevChain, request: CallRequest, nonce: int | None = None
) -> tuple[SignedTransactionAPI, Transaction]:
    """A signed transaction; fees, gas and nonce are filled in where missing.

    It is of type 4 with authorizations, of type 0 or 1 where a gas price is named, else of type 2.
    That of an impersonated account is legacy. Raises `UnknownAccount`, `CheatRefused` and what
    `estimate_gas` raises.
    """
    account = chain.keys.get(request.sender)
    acts = chain.everybody_impersonated or request.sender in chain.impersonated
    if account is None and not acts:
        raise UnknownAccount(request.sender)
    request = with_fees(chain, request)
    gas = chain.estimate_gas(request) if request.gas is None else request.gas
    nonce = chain.pending_nonce(request.sender) if nonce is None else nonce
    if account is None:
        if request.authorizations:
            raise CheatRefused("an impersonated account sends legacy transactions alone")
        signed = unsigned_by(request, chain_id=chain.chain_id, nonce=nonce, gas=gas)
        return signed, transaction_record(signed)
    if request.authorizations:
        chain_id, key = chain.chain_id, account.private_key
        return read_transaction(signed_by(key, request, chain_id=chain_id, nonce=nonce, gas=gas))
    fields = {**_fields(request), "chainId": chain.chain_id, "nonce": nonce, "gas": gas}
    return read_transaction(bytes(account.signer().sign_transaction(fields).raw_transaction))


def _fields(request: CallRequest) -> dict[str, Any]:
    """What a transaction of the type that a request asks for says."""
    fields: dict[str, Any] = {
        "value": request.value_wei,
        "data": request.data,
        "to": b"" if request.to is None else request.to,
    }
    if request.gas_price_wei is not None:
        fields["gasPrice"] = request.gas_price_wei
        if not request.access_list:
            return fields
        fields["type"] = 1
    else:
        fields |= {
            "type": 2,
            "maxFeePerGas": request.fee_cap_wei,
            "maxPriorityFeePerGas": request.tip_cap_wei,
        }
    fields["accessList"] = [
        {"address": "0x" + address.hex(), "storageKeys": ["0x" + key.hex() for key in keys]}
        for address, keys in request.access_list
    ]
    return fields


def message_signature(chain: DevChain, signer: Address, message: bytes) -> bytes:
    """The signature of a message behind Ethereum's prefix (EIP-191); raises `UnknownAccount`."""
    return _signature(_account(chain, signer), encode_defunct(message))


def typed_signature(chain: DevChain, signer: Address, data: dict[str, Any]) -> bytes:
    """The signature of typed data (EIP-712); raises `UnknownAccount`, `BadTypedData`."""
    account = _account(chain, signer)
    try:
        encoded = encode_typed_data(full_message=data)
    except Exception as error:  # the library raises whatever its parts raise
        raise BadTypedData(f"{type(error).__name__}: {error}") from error
    return _signature(account, encoded)


def _account(chain: DevChain, signer: Address) -> DevAccount:
    account = chain.keys.get(signer)
    if account is None:
        raise UnknownAccount(signer)
    return account


def _signature(account: DevAccount, message: SignableMessage) -> bytes:
    return bytes(account.signer().sign_message(message).signature)
