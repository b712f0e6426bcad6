"""The deployment record together with how it came to be, as `farthing deploy` writes it.

Clients pin what `Deployment` holds and pass over the rest; who checks the contracts needs it all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...channels import bounded_json
from ...channels.deployment import Deployment, MalformedDeployment
from ...channels.ids import (
    WORD_BYTES,
    Address,
    ChecksumMismatch,
    MalformedHex,
    address_from_hex,
    address_to_hex,
    bytes_from_hex,
    to_hex,
)
from ...contracts.artifacts import NAMES


class MakingUnknown(MalformedDeployment):
    """A record that pins a deployment and does not say who made it by which transactions."""

    code = "making-unknown"
    remedy = "get the record that `farthing deploy` wrote: it names deployer and transactions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A deployment, who sent it, whom its registry began with, and each contract's transaction."""

    deployment: Deployment
    deployer: Address
    registrar: Address
    transactions: Mapping[str, bytes]

    @property
    def addresses(self) -> dict[str, Address]:
        """Where each contract is, by its name."""
        record = self.deployment
        return {
            "city_credit": record.city_credit,
            "member_registry": record.member_registry,
            "payment_channels": record.payment_channels,
        }

    def to_json(self) -> str:
        """Write the record as JSON text that ends in a newline."""
        record = {
            **json.loads(self.deployment.to_json()),
            "deployer": address_to_hex(self.deployer),
            "registrar": address_to_hex(self.registrar),
            "transactions": {name: to_hex(self.transactions[name]) for name in NAMES},
        }
        return json.dumps(record, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Deployed:
        """Read the record; raises `MalformedDeployment`, `MakingUnknown`."""
        deployment = Deployment.from_json(text)
        record: Any = bounded_json.parse(text.encode(errors="surrogatepass"))
        try:
            return cls(
                deployment=deployment,
                deployer=address_from_hex(record["deployer"]),
                registrar=address_from_hex(record["registrar"]),
                transactions={
                    name: bytes_from_hex(record["transactions"][name], WORD_BYTES, what=name)
                    for name in NAMES
                },
            )
        except KeyError as error:
            raise MakingUnknown(f"the deployment record has no {error}") from None
        except (TypeError, AttributeError):
            raise MakingUnknown("the deployment record's making is not of its format") from None
        except (MalformedHex, ChecksumMismatch) as error:
            raise MalformedDeployment(f"{error.text} in the deployment record") from error
