"""A connection opens only between the two parties that both mean, on the chain that both mean."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.eip712 import Domain
from farthing.channels.handshake import (
    GreetingMismatch,
    Role,
    Transcript,
    answer_hello,
    check_challenge,
    make_hello,
)
from farthing.channels.ids import Address
from farthing.channels.messages import PROTOCOL_VERSION

from ..people import ALICE, BOB, CAROL, DOMAIN, MALLORY

HELLO = make_hello(DOMAIN, signer=BOB.address, peer=ALICE.address, nonce=b"\x01" * 32)
CHALLENGE = answer_hello(DOMAIN, HELLO, signer=ALICE.address, nonce=b"\x02" * 32)
TRANSCRIPT = Transcript(domain=DOMAIN, hello=HELLO, challenge=CHALLENGE)


def test_two_that_mean_each_other_agree_on_what_is_signed() -> None:
    check_challenge(HELLO, CHALLENGE)
    assert (HELLO.signer, HELLO.peer) == (BOB.address, ALICE.address)
    assert CHALLENGE.signer == ALICE.address
    assert TRANSCRIPT.digest(Role.DIALER) == replace(TRANSCRIPT).digest(Role.DIALER)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": PROTOCOL_VERSION + 1}, "protocol version 2"),
        ({"version": 0}, "protocol version 0"),
        ({"chain_id": 1}, "on chain 1"),
        ({"contract": Address(b"\x77" * 20)}, "another payment_channels contract"),
        ({"peer": CAROL.address}, "another hub"),
        ({"signer": ALICE.address}, "own signer"),
    ],
)
def test_a_greeting_for_another_chain_contract_or_party_is_refused_with_advice(
    changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(GreetingMismatch, match=why) as caught:
        answer_hello(DOMAIN, replace(HELLO, **changes), signer=ALICE.address, nonce=bytes(32))
    assert caught.value.what_to_do


def test_unknown_features_are_ignored_so_that_newer_peers_can_greet() -> None:
    newer = replace(HELLO, features=2**64 - 1)
    assert answer_hello(DOMAIN, newer, signer=ALICE.address, nonce=bytes(32)).features == 0


def test_an_answer_by_another_signer_or_version_is_refused() -> None:
    with pytest.raises(GreetingMismatch, match="another signer"):
        check_challenge(HELLO, replace(CHALLENGE, signer=MALLORY.address))
    with pytest.raises(GreetingMismatch, match="version"):
        check_challenge(HELLO, replace(CHALLENGE, version=2))


def test_what_is_signed_changes_with_everything_that_it_must_bind() -> None:
    others = [
        replace(TRANSCRIPT, domain=Domain(chain_id=1, contract=DOMAIN.contract)),
        replace(TRANSCRIPT, domain=Domain(chain_id=DOMAIN.chain_id, contract=Address(bytes(20)))),
        replace(TRANSCRIPT, certificate=b"\x01" * 32),
        *(
            replace(TRANSCRIPT, hello=replace(HELLO, **changes))
            for changes in (
                {"version": 2},
                {"features": 1},
                {"chain_id": 1},
                {"contract": Address(bytes(20))},
                {"signer": CAROL.address},
                {"peer": CAROL.address},
                {"nonce": bytes(32)},
            )
        ),
        *(
            replace(TRANSCRIPT, challenge=replace(CHALLENGE, **changes))
            for changes in (
                {"version": 2},
                {"features": 1},
                {"signer": CAROL.address},
                {"nonce": bytes(32)},
            )
        ),
    ]
    digests = {transcript.digest(role) for transcript in (TRANSCRIPT, *others) for role in Role}
    assert len(digests) == 2 * (len(others) + 1)
