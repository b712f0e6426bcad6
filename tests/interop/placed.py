"""The compiled contracts on py-evm, at the chain id, address and time that a vector names."""

import re
from typing import Any

from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext
from eth_abi.abi import decode, encode
from eth_typing import Address
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector
from eth_utils.address import to_canonical_address, to_checksum_address

from farthing.contracts.artifacts import load

from ..contract.city import (
    RESIDENT,
    TREASURY,
    City,
    MemberRow,
    OpenRow,
    Terms,
    deploy,
    hub,
    registrar,
    treasury,
)
from ..contract.evm import BLOCK_GAS, Contract, Evm, Outcome, Person

RICH = 2**80
NUMBERS = ("challenge_seconds", "challenge_blocks", "sequence")


def evm_terms(written: dict[str, str]) -> Terms:
    values: dict[str, Any] = {
        name: int(value) if name in NUMBERS else to_checksum_address(value)
        for name, value in written.items()
    }
    return Terms(**values)


def placed_city(chain_id: int, contract: bytes, timestamp: int) -> City:
    """Deploy everything; the channels' own constructor runs at the wanted address and time."""
    evm = Evm()
    registry = deploy(evm, "member_registry", registrar.address)
    registry.send(registrar, "set_members", [MemberRow(treasury.address, TREASURY)])
    token = deploy(evm, "city_credit", registry.address)
    token.send(treasury, "mint", hub.address, RICH, b"\x01" * 32)
    token.send(hub, "approve", to_checksum_address(contract), RICH)
    evm.chain_id, evm.time = chain_id, timestamp
    evm.pass_time()
    artifact = load("payment_channels")
    arguments = encode(["address", "address"], [token.address, registry.address])
    _create(evm, contract, artifact.bytecode + arguments)
    channels = Contract(evm, to_checksum_address(contract), artifact.abi)
    evm.contracts[contract] = channels
    return City(evm, token, registry, channels)


def _create(evm: Evm, address: bytes, code: bytes) -> None:
    evm.state.lock_changes()
    message = Message(
        gas=BLOCK_GAS,
        to=Address(b""),
        sender=to_canonical_address(registrar.address),
        value=0,
        data=b"",
        code=code,
        create_address=Address(address),
    )
    context = BaseTransactionContext(gas_price=0, origin=message.sender)
    computation = evm.state.computation_class.apply_create_message(evm.state, message, context)
    computation.raise_if_error()


def view(city: City, name: str, *arguments: Any) -> Any:
    """The one value of a view, by a bare message: a chain id may be too great to sign for."""
    evm, channels = city.evm, city.channels
    evm.state.lock_changes()
    to = to_canonical_address(channels.address)
    message = Message(
        gas=BLOCK_GAS,
        to=to,
        sender=to_canonical_address(registrar.address),
        value=0,
        data=channels.data(name, *arguments),
        code=evm.state.get_code(to),
    )
    context = BaseTransactionContext(gas_price=0, origin=message.sender)
    computation = evm.state.computation_class.apply_message(evm.state, message, context)
    computation.raise_if_error()
    types = [collapse_if_tuple(item) for item in channels.functions[name]["outputs"]]
    [value] = decode(types, computation.output)
    return value


def send_wide(city: City, sender: Person, name: str, *arguments: Any) -> Outcome:
    """Call a function with every number as a full word, whatever the ABI's type can hold."""
    entry = city.channels.functions[name]
    types = [re.sub(r"uint\d+", "uint256", collapse_if_tuple(item)) for item in entry["inputs"]]
    data = function_abi_to_4byte_selector(entry) + encode(types, arguments)
    return city.evm.send(sender, to_canonical_address(city.channels.address), data)


def open_channel(city: City, terms: Terms, deposit_a: int, deposit_b: int) -> Terms:
    """Enrol the four addresses and open their channel; the terms as the contract has them."""
    rows = [MemberRow(address, RESIDENT) for address in dict.fromkeys(terms[:4])]
    city.registry.send(registrar, "set_members", rows)
    row = OpenRow(*terms[:6], deposit=deposit_a)
    [opened] = city.opened(city.channels.send(hub, "open", row))
    if deposit_b:
        city.channels.send(hub, "deposit", opened, opened.account_b, deposit_b)
    return opened


def stand_at(city: City, timestamp: int) -> None:
    """Let the block have this time."""
    city.evm.time = timestamp
    city.evm.pass_time()
