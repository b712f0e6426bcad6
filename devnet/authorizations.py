"""Authorizations: accounts that let a contract's code run in their place (EIP-7702, type 4).

Rule: a transaction is taken whatever its authorizations are worth. One that is void (another
chain's, a used nonce, a signature that is nobody's) is passed over when it is mined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import rlp
from eth.abc import SignedTransactionAPI
from eth.constants import SECPK1_N
from eth.vm.forks.prague.constants import (
    DELEGATION_DESIGNATION_PREFIX,
    MAGIC,
    PER_EMPTY_ACCOUNT_BASE_COST,
    SET_CODE_TRANSACTION_TYPE,
)
from eth.vm.forks.prague.transactions import Authorization as EvmAuthorization
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature
from eth_typing import Address as EvmAddress
from eth_utils.exceptions import ValidationError

from ..channels.ids import Address
from .errors import MalformedTransaction, NoAuthorization
from .records import Authorization, CallRequest

SET_CODE: Final = SET_CODE_TRANSACTION_TYPE
GAS_EACH: Final = PER_EMPTY_ACCOUNT_BASE_COST
"""What a transaction brings for each; half of it comes back where the account exists already."""


def check(signed: SignedTransactionAPI) -> None:
    """Refuse what the EIP calls invalid; raises `MalformedTransaction`, `NoAuthorization`."""
    authorizations = cast(Sequence[EvmAuthorization], signed.authorization_list)
    if not signed.to:
        raise MalformedTransaction("a transaction of type 4 makes no contract: it names a to")
    if not authorizations:
        raise NoAuthorization
    for each in authorizations:
        try:
            each.validate_for_transaction()
        except ValidationError as error:
            raise MalformedTransaction(f"an authorization is out of bounds ({error})") from error


def records_of(signed: SignedTransactionAPI) -> tuple[Authorization, ...]:
    """A transaction's authorizations; none where it is of another type."""
    if signed.type_id != SET_CODE:
        return ()
    return tuple(
        Authorization(
            chain_id=each.chain_id,
            address=Address(bytes(each.address)),
            nonce=each.nonce,
            y_parity=each.y_parity,
            r=each.r,
            s=each.s,
        )
        for each in signed.authorization_list
    )


def for_machine(authorizations: Sequence[Authorization]) -> list[EvmAuthorization]:
    """The same as py-evm has them."""
    return [
        EvmAuthorization(
            each.chain_id, EvmAddress(each.address), each.nonce, each.y_parity, each.r, each.s
        )
        for each in authorizations
    ]


def authority_of(authorization: Authorization) -> Address | None:
    """The account that signed it; None where the signature is nobody's."""
    if authorization.s > SECPK1_N // 2:
        return None
    said = [authorization.chain_id, authorization.address, authorization.nonce]
    try:
        signature = Signature(vrs=(authorization.y_parity, authorization.r, authorization.s))
        signer = signature.recover_public_key_from_msg(MAGIC + rlp.encode(said))
    except (BadSignature, ValidationError):
        return None
    return Address(signer.to_canonical_address())


def delegate_of(code: bytes) -> Address | None:
    """Whose code runs in the place of this code, or None."""
    if len(code) != len(DELEGATION_DESIGNATION_PREFIX) + 20:
        return None
    if not code.startswith(DELEGATION_DESIGNATION_PREFIX):
        return None
    return Address(code[len(DELEGATION_DESIGNATION_PREFIX) :])


def signed_by(key: bytes, request: CallRequest, *, chain_id: int, nonce: int, gas: int) -> bytes:
    """A signed transaction of type 4 in its wire form."""
    unsigned: Any = PragueTransactionBuilder.new_unsigned_set_code_transaction(
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=request.tip_cap_wei,
        max_fee_per_gas=request.fee_cap_wei,
        gas=gas,
        to=EvmAddress(request.to or b""),
        value=request.value_wei,
        data=request.data,
        access_list=[
            (EvmAddress(address), [int.from_bytes(slot) for slot in slots])
            for address, slots in request.access_list
        ],
        authorization_list=for_machine(request.authorizations),
    )
    return bytes(unsigned.as_signed_transaction(PrivateKey(key)).encode())
