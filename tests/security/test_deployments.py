"""Deployments that are not what was shipped: whoever checks them is told in what."""

from collections.abc import Iterator

import pytest

from farthing.contracts.artifacts import load
from farthing.node.administration import Administrator, Registration, Role
from farthing.node.audit.contract import Difference
from farthing.node.audit.deployed import Deployed

from ..deploying import (
    DEPLOYER,
    GOVERNANCE,
    MALLORY,
    World,
    chain_world,
    flipped,
    secretly_minting,
)


@pytest.fixture
def world() -> Iterator[World]:
    with chain_world() as made:
        yield made


def differences(world: World, deployed: Deployed) -> set[Difference]:
    return {finding.code for finding in world.verify(deployed).findings}


def test_code_with_one_other_byte_is_not_taken_for_the_shipped_one(world: World) -> None:
    code = load("city_credit").bytecode
    place = code.index(b"credit: not the treasury")
    deployed = world.made(creations={"city_credit": flipped(code, place)})
    assert Difference.CODE_DIFFERS in differences(world, deployed)


def test_channels_of_another_token_are_not_taken_for_those_of_the_record(world: World) -> None:
    other = world.made().deployment.city_credit
    assert Difference.IMMUTABLE_DIFFERS in differences(world, world.made(other={"token": other}))


def test_money_that_a_constructor_minted_in_secret_is_not_passed_over(world: World) -> None:
    deployed = world.made(creations={"city_credit": secretly_minting(world, 10**12)})
    reader = Administrator(world.web3, deployed.deployment, None)
    assert reader.balance_ucent(MALLORY.address) == 10**12
    assert differences(world, deployed)


def test_a_deployer_does_not_keep_the_treasury_beside_a_governance(world: World) -> None:
    deployed = world.made(registrar=GOVERNANCE.address)
    Administrator(world.web3, deployed.deployment, GOVERNANCE).set_members(
        [Registration(account=DEPLOYER.address, role=Role.TREASURY)]
    )
    assert differences(world, deployed)
