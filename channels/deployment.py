"""The record of one deployment (deployment.json): what a client pins before it trusts a chain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import bounded_json
from .bounded_json import NotJson
from .eip712 import Domain
from .errors import LocalError
from .ids import (
    WORD_BYTES,
    Address,
    ChannelId,
    ChecksumMismatch,
    MalformedHex,
    address_from_hex,
    address_to_hex,
    bytes_from_hex,
    to_hex,
)
from .terms import Terms, channel_id

RECORD_VERSION = 1
DEVELOPMENT_CHAIN_ID = 20_262_026
"""Of a chain on one machine for developers and tests, whose clock its owner moves as he likes."""
CHAIN_AHEAD_SECONDS_MAX = 900
"""How far a block's time may be ahead of the local clock; validators keep theirs within seconds."""


class MalformedDeployment(LocalError):
    """A deployment record that cannot be read."""

    code = "malformed-deployment"
    remedy = "write it anew with `farthing deploy`, or copy it again from whoever deployed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Chain, contracts and the deployment id that makes channel ids unique to them."""

    chain_id: int
    genesis_hash: bytes
    block: int
    city_credit: Address
    member_registry: Address
    payment_channels: Address
    deployment: bytes

    @property
    def is_development(self) -> bool:
        """Whether time on this chain is what somebody says it is."""
        return self.chain_id == DEVELOPMENT_CHAIN_ID

    def domain(self) -> Domain:
        """The EIP-712 domain of every signature under this deployment."""
        return Domain(chain_id=self.chain_id, contract=self.payment_channels)

    def channel_id(self, terms: Terms) -> ChannelId:
        """The id of the channel with these terms."""
        return channel_id(
            chain_id=self.chain_id,
            contract=self.payment_channels,
            deployment=self.deployment,
            terms=terms,
        )

    def to_json(self) -> str:
        """Write the record as JSON text that ends in a newline."""
        record = {
            "version": RECORD_VERSION,
            "chain_id": self.chain_id,
            "genesis_hash": to_hex(self.genesis_hash),
            "block": self.block,
            "city_credit": address_to_hex(self.city_credit),
            "member_registry": address_to_hex(self.member_registry),
            "payment_channels": address_to_hex(self.payment_channels),
            "deployment": to_hex(self.deployment),
        }
        return json.dumps(record, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Deployment:
        """Read the record; raises `MalformedDeployment`, which names the field."""
        try:
            record = bounded_json.parse(text.encode(errors="surrogatepass"))
        except NotJson as error:
            raise MalformedDeployment(f"the deployment record is not JSON ({error})") from None
        if not isinstance(record, dict) or record.get("version") != RECORD_VERSION:
            raise MalformedDeployment(f"the deployment record has no version {RECORD_VERSION}")
        return cls(
            chain_id=_number(record, "chain_id"),
            genesis_hash=_word(record, "genesis_hash"),
            block=_number(record, "block"),
            city_credit=_address(record, "city_credit"),
            member_registry=_address(record, "member_registry"),
            payment_channels=_address(record, "payment_channels"),
            deployment=_word(record, "deployment"),
        )


def _number(record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if type(value) is not int or value < 0:
        raise MalformedDeployment(f"{key!r} of the deployment record is not a whole number")
    return value


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise MalformedDeployment(f"{key!r} of the deployment record is missing or not a text")
    return value


def _word(record: dict[str, Any], key: str) -> bytes:
    try:
        return bytes_from_hex(_text(record, key), WORD_BYTES, what=key)
    except MalformedHex as error:
        raise MalformedDeployment(f"{error.text} in the deployment record") from error


def _address(record: dict[str, Any], key: str) -> Address:
    try:
        return address_from_hex(_text(record, key))
    except (MalformedHex, ChecksumMismatch) as error:
        raise MalformedDeployment(f"{key!r} of the deployment record: {error.text}") from error
