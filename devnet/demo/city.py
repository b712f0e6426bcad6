"""The demo's city: two residents, and the devices that they share between them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eth_account.hdaccount import key_from_seed

from ...channels.signing import SECRET_BYTES, Signer
from ...node.administration import Role
from ..city import City, Person, Plan, Say, open_city

RESIDENTS = ("alice", "bob")


@contextmanager
def open_block(folder: Path, devices: int, programme: Path, say: Say) -> Iterator[City]:
    """Start everything, up to open channels; stop every process at the end of the block."""
    with open_city(folder, Plan(people=_people(devices), programme=programme), say) as city:
        yield city


def _people(devices: int) -> list[Person]:
    """Make keys: each resident's accounts derive from one seed, one account a device."""
    people = []
    for index, resident in enumerate(RESIDENTS):
        seed = secrets.token_bytes(64)
        people.append(_person(resident, Role.RESIDENT, seed, 0))
        people += [
            _person(f"{resident}-device-{number + 1}", Role.DEVICE, seed, number + 1)
            for number in range(index, devices, len(RESIDENTS))
        ]
    return people


def _person(name: str, role: Role, seed: bytes, index: int) -> Person:
    key = key_from_seed(seed, f"m/44'/60'/0'/0/{index}")
    account = Signer(bytes(key)).address
    return Person(name=name, role=role, account=account, key=secrets.token_bytes(SECRET_BYTES))
