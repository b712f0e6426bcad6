"""Rule 8: whose terms, on which chain, funded by what: checked before anything is signed."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.client import abi
from farthing.channels.client.adoption import NotConfirmed, adopt
from farthing.channels.client.chain import ChainReader, WrongContract, WrongGenesis
from farthing.channels.client.folder import HubAddress, Policy, Settings
from farthing.channels.events import Received
from farthing.channels.ids import ZERO_ADDRESS, to_hex
from farthing.channels.state import ChainStatus, Channel, Link
from farthing.channels.terms import CHALLENGE_SECONDS_MIN, Terms, UnsafeTerms
from farthing.channels.transition import step

from ..contract.city import City, alice, hub, hub_signer, hub_to_alice
from ..contract.evm import NOBODY, Reverted
from ..people import ALICE, BOB, DEPLOYMENT, MALLORY, TERMS, channel, moment, view
from .attacks import refused, update

BOBS = Settings(
    hub=HubAddress(host="127.0.0.1", port=7171),
    hub_signer=ALICE.address,
    rpc_url="http://127.0.0.1:8545",
    account=TERMS.account_b,
    deployment=DEPLOYMENT,
    policy=Policy(
        challenge_seconds_min=3600,
        challenge_seconds_max=7200,
        challenge_blocks_min=100,
        challenge_blocks_max=200,
    ),
)


def adopted(terms: Terms, status: ChainStatus = ChainStatus.OPEN) -> Channel:
    """Bob takes up a channel that a hub announces."""
    return adopt(terms, BOBS, BOB.address, view(status))


@pytest.mark.parametrize("what", ["signer_a", "account_b", "signer_b"])
def test_terms_with_mallorys_address_in_place_of_ours_are_not_signed(what: str) -> None:
    assert adopted(TERMS).terms == TERMS
    with pytest.raises(UnsafeTerms, match="the terms name"):
        adopted(replace(TERMS, **{what: MALLORY.address}))  # type: ignore[arg-type]  # an address


def test_a_window_shorter_than_the_wallets_own_policy_is_not_signed() -> None:
    with pytest.raises(UnsafeTerms, match="policy"):
        adopted(replace(TERMS, challenge_seconds=CHALLENGE_SECONDS_MIN))


def test_terms_with_a_window_of_one_second_do_not_exist() -> None:
    with pytest.raises(UnsafeTerms, match="1 s is outside the contract's"):
        replace(TERMS, challenge_seconds=1)


def test_terms_with_an_empty_signer_do_not_exist() -> None:
    with pytest.raises(UnsafeTerms, match="empty"):
        replace(TERMS, signer_a=ZERO_ADDRESS)


def test_terms_in_which_one_key_signs_for_both_sides_do_not_exist() -> None:
    with pytest.raises(UnsafeTerms, match="both sides"):
        replace(TERMS, signer_a=BOB.address)


def test_a_channel_that_no_confirmed_block_shows_is_not_taken_up() -> None:
    with pytest.raises(NotConfirmed):
        adopted(TERMS, ChainStatus.NEVER)


def test_nothing_is_accepted_on_a_deposit_that_is_not_confirmed() -> None:
    unseen = channel(chain=None, link=Link.LIVE)
    result = step(unseen, Received(message=update(5)), moment())
    assert refused(result.effects) == "not-now"


def test_a_promise_of_more_than_was_deposited_is_not_accepted() -> None:
    poor = channel(chain=view(deposit_ucent=(1000, 4)))
    result = step(poor, Received(message=update(5)), moment())
    assert refused(result.effects) == "insufficient-balance"


# -- which chain, contract and token ------------------------------------------------------------


class Endpoint:
    """Mallory's endpoint: it answers as the pinned deployment does, except where told."""

    def __init__(self, **lies: object) -> None:
        word = bytes(12)
        self.answers: dict[str, object] = {
            "eth_chainId": hex(DEPLOYMENT.chain_id),
            "eth_blockNumber": hex(100),
            "eth_getCode": "0x00",
            "genesis": DEPLOYMENT.genesis_hash,
            "DEPLOYMENT": DEPLOYMENT.deployment,
            "TOKEN": word + DEPLOYMENT.city_credit,
            "REGISTRY": word + DEPLOYMENT.member_registry,
            **lies,
        }

    async def call(self, method: str, *params: Any) -> object:
        if method == "eth_getBlockByNumber":
            number = int(params[0], 16)
            digest = self.answers["genesis"] if number == 0 else bytes(32)
            assert isinstance(digest, bytes)
            return {"number": hex(number), "hash": to_hex(digest), "timestamp": hex(1000)}
        if method == "eth_call":
            asked = {
                to_hex(getattr(abi, name).selector): self.answers[name]
                for name in ("DEPLOYMENT", "TOKEN", "REGISTRY")
            }
            answer = asked[params[0]["data"]]
            assert isinstance(answer, bytes)
            return to_hex(answer)
        return self.answers[method]


def reader(*, confirmations: int = 0, **lies: object) -> ChainReader:
    endpoint: Any = Endpoint(**lies)
    return ChainReader(endpoint, DEPLOYMENT, confirmations=confirmations)


async def test_channels_of_another_deployment_of_the_contract_fund_nothing() -> None:
    await reader().check_identity()
    with pytest.raises(WrongContract, match="deployment id"):
        await reader(DEPLOYMENT=b"\x66" * 32).check_identity()


async def test_channels_that_hold_mallorys_own_token_fund_nothing() -> None:
    with pytest.raises(WrongContract, match="token"):
        await reader(TOKEN=bytes(12) + b"\x66" * 20).check_identity()


async def test_a_chain_of_the_same_id_that_began_otherwise_funds_nothing() -> None:
    with pytest.raises(WrongGenesis):
        await reader(genesis=b"\x66" * 32).check_identity()


async def test_a_block_that_may_still_vanish_funds_nothing() -> None:
    assert (await reader(confirmations=6).head()).block == 94


# -- what the contract opens --------------------------------------------------------------------


def test_a_channel_with_a_window_of_one_second_does_not_open(city: City) -> None:
    with pytest.raises(Reverted, match="channels: window out of range"):
        city.channels.send(hub, "open", hub_to_alice(challenge_seconds=1))


def test_a_channel_in_which_one_key_signs_for_both_sides_does_not_open(city: City) -> None:
    with pytest.raises(Reverted, match="channels: not distinct"):
        city.channels.send(hub, "open", hub_to_alice(signer_b=hub_signer.address))


def test_a_channel_whose_signer_is_the_zero_address_does_not_open(city: City) -> None:
    with pytest.raises(Reverted):
        city.channels.send(hub, "open", hub_to_alice(signer_b=NOBODY))
    assert city.balance(alice.address) == 0
