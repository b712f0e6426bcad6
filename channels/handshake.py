"""The opening of a connection, without I/O: who speaks first, what is signed, what is refused.

Dialer: `Hello` → ← `Challenge`, `Authenticate` → ← `Authenticate`. The dialer signs first, so that
a stranger cannot make a listener sign. Both signatures cover the roles, both signers (so the
intended peer), both nonces, both greetings as sent, the domain (chain id and contract) and the
SHA-256 of the server's certificate, 32 zero bytes where there is no TLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .codecs import encode_message
from .eip712 import Domain, authenticate_digest
from .errors import PeerError
from .hashing import keccak256
from .ids import ZERO_WORD, Address
from .messages import FEATURES, PROTOCOL_VERSION, Challenge, Hello


class Role(IntEnum):
    """Which end of the connection signs; part of what it signs, so nothing can be reflected."""

    DIALER = 1
    LISTENER = 2


class GreetingMismatch(PeerError):
    """The peer's greeting names another version, chain, contract or party than ours."""

    code = "greeting-mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Everything that both ends sign at the start of a connection."""

    domain: Domain
    hello: Hello
    challenge: Challenge
    certificate: bytes = ZERO_WORD

    def digest(self, role: Role) -> bytes:
        """32 bytes that the given end signs."""
        return authenticate_digest(
            self.domain.separator(),
            role=role,
            dialer=self.hello.signer,
            listener=self.challenge.signer,
            dialer_nonce=self.hello.nonce,
            listener_nonce=self.challenge.nonce,
            greetings=keccak256(encode_message(self.hello) + encode_message(self.challenge)),
            certificate=self.certificate,
        )


def make_hello(domain: Domain, *, signer: Address, peer: Address, nonce: bytes) -> Hello:
    """Return the dialer's greeting; `nonce` is 32 fresh random bytes."""
    return Hello(
        version=PROTOCOL_VERSION,
        features=FEATURES,
        chain_id=domain.chain_id,
        contract=domain.contract,
        signer=signer,
        peer=peer,
        nonce=nonce,
    )


def answer_hello(domain: Domain, hello: Hello, *, signer: Address, nonce: bytes) -> Challenge:
    """Check the dialer's greeting and return ours; raises `GreetingMismatch`."""
    _check_version(hello.version)
    if hello.chain_id != domain.chain_id:
        raise GreetingMismatch(
            f"the peer is on chain {hello.chain_id}, this hub on {domain.chain_id}",
            remedy="give the wallet the deployment record of this hub's chain",
        )
    if hello.contract != domain.contract:
        raise GreetingMismatch(
            "the peer uses another payment_channels contract",
            remedy="give the wallet the deployment record that this hub uses",
        )
    if hello.peer != signer:
        raise GreetingMismatch(
            "the peer wants to speak to another hub",
            remedy="give the wallet this hub's signer address",
        )
    if hello.signer == signer:
        raise GreetingMismatch("the peer uses this hub's own signer", remedy="use its own key")
    return Challenge(version=PROTOCOL_VERSION, features=FEATURES, signer=signer, nonce=nonce)


def check_challenge(hello: Hello, challenge: Challenge) -> None:
    """Check the listener's greeting; raises `GreetingMismatch`."""
    _check_version(challenge.version)
    if challenge.signer != hello.peer:
        raise GreetingMismatch(
            "the hub at this address has another signer than the one joined",
            remedy="check the hub's address and signer, and trust neither before they match",
        )


def _check_version(version: int) -> None:
    if version != PROTOCOL_VERSION:
        raise GreetingMismatch(
            f"the peer speaks protocol version {version}, this side {PROTOCOL_VERSION}",
            remedy="update the older of the two",
        )
