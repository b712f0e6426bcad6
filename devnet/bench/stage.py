"""What both sides of a benchmark know: keys, terms and channels that are open from the start.

The chain is not on the path of an update, so there is none here: a channel's view is what a
follower would have written, and the head is as new as the clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from ...channels.deployment import DEVELOPMENT_CHAIN_ID, Deployment
from ...channels.hashing import keccak256
from ...channels.ids import Address
from ...channels.signing import Signer
from ...channels.state import ChainStatus, ChainView, Channel, Moment
from ...channels.terms import Side, Terms

HEAD_BLOCK: Final = 1_000
DEPOSIT_UCENT: Final = 2**70
"""More than any benchmark spends."""
AMOUNT_UCENT: Final = 125
PURPOSE: Final = "parking in the old town, a minute"
HUB_DATABASE: Final = "hub.sqlite"
WALLET_DATABASE: Final = "wallet.sqlite"
HOST: Final = "127.0.0.1"


def key_of(name: str) -> Signer:
    """The key of that name: known to everybody, worth nothing."""
    return Signer(_word(name))


def _word(name: str) -> bytes:
    return keccak256(f"farthing bench: {name}".encode())


def _address(name: str) -> Address:
    return Address(_word(name)[12:])


DEPLOYMENT: Final = Deployment(
    chain_id=DEVELOPMENT_CHAIN_ID,
    genesis_hash=_word("genesis"),
    block=1,
    city_credit=_address("credit"),
    member_registry=_address("registry"),
    payment_channels=_address("channels"),
    deployment=_word("deployment"),
)
HUB: Final = key_of("hub, signer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One wallet of a benchmark: its signer and its channel with the hub."""

    signer: Signer
    terms: Terms

    def channel(self, side: Side) -> Channel:
        """The channel as one side holds it before the first payment."""
        return Channel(
            id=DEPLOYMENT.channel_id(self.terms),
            terms=self.terms,
            side=side,
            chain=ChainView(
                block=HEAD_BLOCK,
                timestamp=int(time.time()),
                status=ChainStatus.OPEN,
                deposit_ucent=(DEPOSIT_UCENT, DEPOSIT_UCENT),
            ),
        )


def member(number: int) -> Member:
    """The wallet of that number; the same keys in each run."""
    signer = key_of(f"wallet {number}, signer")
    terms = Terms(
        account_a=_address("hub, account"),
        signer_a=HUB.address,
        account_b=_address(f"wallet {number}, account"),
        signer_b=signer.address,
        challenge_seconds=3_600,
        challenge_blocks=20,
        sequence=number + 1,
    )
    return Member(signer=signer, terms=terms)


def moment() -> Moment:
    """Now, with a head that has just been seen."""
    now = int(time.time())
    return Moment(now=now, head_block=HEAD_BLOCK, head_timestamp=now, head_seen=now)
