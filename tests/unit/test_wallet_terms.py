"""Rule 8: what a wallet checks before its first signature on a channel."""

from dataclasses import fields, replace

import pytest

from farthing.channels.client.adoption import NotConfirmed, adopt, check_terms, terms_of
from farthing.channels.client.folder import HubAddress, Policy, Settings
from farthing.channels.deployment import Deployment
from farthing.channels.hashing import keccak256
from farthing.channels.ids import ZERO_ADDRESS, Address
from farthing.channels.messages import ChannelTerms
from farthing.channels.state import ChainStatus, ChainView
from farthing.channels.terms import Side, Terms, UnsafeTerms


def address(name: str) -> Address:
    return Address(keccak256(name.encode())[12:])


ALICE, ALICE_SIGNER, HUB, HUB_SIGNER, MALLORY = (
    address(name) for name in ("alice", "alice signer", "hub", "hub signer", "mallory")
)
DEPLOYMENT = Deployment(
    chain_id=7,
    genesis_hash=bytes(32),
    block=1,
    city_credit=address("token"),
    member_registry=address("registry"),
    payment_channels=address("channels"),
    deployment=keccak256(b"deployment"),
)
SETTINGS = Settings(
    hub=HubAddress(host="127.0.0.1", port=7171),
    hub_signer=HUB_SIGNER,
    rpc_url="http://127.0.0.1:8545",
    account=ALICE,
    deployment=DEPLOYMENT,
    policy=Policy(
        challenge_seconds_min=1000,
        challenge_seconds_max=2000,
        challenge_blocks_min=100,
        challenge_blocks_max=200,
    ),
)
TERMS = Terms(
    account_a=HUB,
    signer_a=HUB_SIGNER,
    account_b=ALICE,
    signer_b=ALICE_SIGNER,
    challenge_seconds=1500,
    challenge_blocks=150,
    sequence=3,
)
OPEN = ChainView(block=5, timestamp=50, status=ChainStatus.OPEN, deposit_ucent=(9, 0))


def test_terms_that_hold_give_the_id_that_the_contract_gives() -> None:
    assert check_terms(TERMS, SETTINGS, ALICE_SIGNER) == DEPLOYMENT.channel_id(TERMS)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"signer_b": MALLORY}, "our signer"),
        ({"account_b": MALLORY}, "our account"),
        ({"signer_a": MALLORY}, "the hub's signer"),
        ({"challenge_seconds": 999}, "999 s is outside"),
        ({"challenge_seconds": 2001}, "2001 s is outside"),
        ({"challenge_blocks": 99}, "99 blocks is outside"),
        ({"challenge_blocks": 201}, "201 blocks is outside"),
    ],
)
def test_terms_that_do_not_hold_are_refused_with_the_reason(
    change: dict[str, object], what: str
) -> None:
    with pytest.raises(UnsafeTerms, match=what):
        check_terms(replace(TERMS, **change), SETTINGS, ALICE_SIGNER)  # type: ignore[arg-type]


def test_the_window_may_be_as_short_and_as_long_as_the_policy_says() -> None:
    for seconds, blocks in ((1000, 100), (2000, 200)):
        terms = replace(TERMS, challenge_seconds=seconds, challenge_blocks=blocks)
        check_terms(terms, SETTINGS, ALICE_SIGNER)


@pytest.mark.parametrize(
    "change",
    [
        {"account_a": ZERO_ADDRESS},
        {"account_a": ALICE},
        {"signer_a": ALICE_SIGNER},
        {"challenge_seconds": 1},
        {"challenge_blocks": 1},
        {"sequence": 0},
    ],
)
def test_terms_that_no_channel_can_have_are_refused_as_read(change: dict[str, object]) -> None:
    values = {field.name: getattr(TERMS, field.name) for field in fields(Terms)}
    with pytest.raises(UnsafeTerms):
        terms_of(ChannelTerms(**{**values, **change}))


def test_an_open_channel_is_held_as_side_b() -> None:
    channel = adopt(TERMS, SETTINGS, ALICE_SIGNER, OPEN)
    assert (channel.side, channel.terms, channel.chain) == (Side.B, TERMS, None)
    assert channel.id == DEPLOYMENT.channel_id(TERMS)


def test_a_channel_that_the_chain_does_not_show_is_not_taken_up() -> None:
    with pytest.raises(NotConfirmed, match="at block 5"):
        adopt(TERMS, SETTINGS, ALICE_SIGNER, replace(OPEN, status=ChainStatus.NEVER))
    with pytest.raises(UnsafeTerms, match="closed already"):
        adopt(TERMS, SETTINGS, ALICE_SIGNER, replace(OPEN, status=ChainStatus.CLOSED))


def test_the_same_terms_under_another_deployment_are_another_channel() -> None:
    elsewhere = replace(SETTINGS, deployment=replace(DEPLOYMENT, deployment=keccak256(b"2")))
    assert check_terms(TERMS, elsewhere, ALICE_SIGNER) != DEPLOYMENT.channel_id(TERMS)
