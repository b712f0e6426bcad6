"""Checking contracts on the chain: every difference is found and named, by code, hash or role."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.deployment import MalformedDeployment
from farthing.channels.ids import address_to_hex, to_hex
from farthing.contracts.artifacts import load
from farthing.contracts.members import MemberStatus
from farthing.node.administration import Administrator, Registration, Role
from farthing.node.audit.contract import Difference, check_contracts, difference
from farthing.node.audit.creations import CreationUnreadable
from farthing.node.audit.deployed import Deployed, MakingUnknown
from farthing.node.audit.errors import ChainReorganised, WrongChain
from farthing.node.deploying import deploy

from ..deploying import (
    DEPLOYER,
    GOVERNANCE,
    MALLORY,
    World,
    chain_world,
    flipped,
    hex_of,
    result,
    secretly_minting,
    word,
)


@pytest.fixture
def world() -> Iterator[World]:
    with chain_world() as made:
        yield made


def found(world: World, deployed: Deployed, **options: Any) -> list[str]:
    report = world.verify(deployed, **options)
    assert report.exit_code == (1 if report.findings else 0)
    return sorted(str(finding.code) for finding in report.findings)


def administrator(world: World, deployed: Deployed, signer: Any) -> Administrator:
    return Administrator(world.web3, deployed.deployment, signer)


def test_what_was_deployed_as_shipped_is_as_it_was_made(world: World) -> None:
    report = world.verify(world.made())
    assert (report.ok, report.exit_code, report.findings) == (True, 0, ())
    assert report.registrars == (DEPLOYER.address,)
    assert report.treasuries == ()
    assert (
        report.code_bytes["payment_channels"] == len(load("payment_channels").runtime_bytecode) + 96
    )
    assert "as it was made" in report.to_text()
    assert report.to_json()["registrars"] == [hex_of(DEPLOYER)]


def test_code_that_differs_by_one_byte_is_found_with_its_place(world: World) -> None:
    artifact = load("city_credit")
    reason = artifact.bytecode.index(b"credit: not the treasury")
    deployed = world.made(creations={"city_credit": flipped(artifact.bytecode, reason)})
    report = world.verify(deployed)
    assert [finding.code for finding in report.findings] == [
        Difference.CODE_DIFFERS,
        Difference.CREATION_DIFFERS,
    ]
    at = artifact.runtime_bytecode.index(b"credit: not the treasury")
    assert f"1 bytes differ, the first at {at}: 0x62, not 0x63" in report.findings[0].text
    assert address_to_hex(deployed.deployment.city_credit) in report.findings[0].subject
    assert f"the first at {reason}" in report.findings[1].text


@pytest.mark.parametrize("which", ["token", "registry"])
def test_an_immutable_of_another_value_is_found_by_its_name(world: World, which: str) -> None:
    other = world.made()
    places = {"token": other.deployment.city_credit, "registry": other.deployment.member_registry}
    deployed = world.made(other={which: places[which]})
    report = world.verify(deployed)
    assert [f.code for f in report.findings] == [
        Difference.IMMUTABLE_DIFFERS,
        Difference.CREATION_DIFFERS,
    ]
    assert f"its {which} is {to_hex(word(places[which]))}, not" in report.findings[0].text


def test_a_constructor_that_leaves_the_shipped_code_and_money_of_its_own_is_found(
    world: World,
) -> None:
    """The runtime code is the shipped one, byte for byte: only its storage is not."""
    creation = secretly_minting(world, 10**12)
    deployed = world.made(creations={"city_credit": creation})
    reader = administrator(world, deployed, None)
    assert reader.balance_ucent(MALLORY.address) == 10**12
    assert found(world, deployed) == ["creation-differs"]


def test_contracts_that_are_not_there_are_found(world: World) -> None:
    deployed = world.made()
    nowhere = replace(deployed.deployment, city_credit=MALLORY.address)
    codes = found(world, replace(deployed, deployment=nowhere))
    assert set(codes) == {"code-missing", "immutable-differs", "creation-differs"}


def test_a_record_with_another_deployment_id_or_block_differs(world: World) -> None:
    deployed = world.made()
    other = replace(deployed.deployment, deployment=bytes(32))
    assert found(world, replace(deployed, deployment=other)) == [
        "deployment-id-differs",
        "immutable-differs",
    ]
    early = replace(deployed.deployment, block=deployed.deployment.block - 1)
    assert found(world, replace(deployed, deployment=early)) == ["creation-differs"]
    late = replace(deployed.deployment, block=deployed.deployment.block + 1)
    assert set(found(world, replace(deployed, deployment=late))) == {
        "creation-differs",
        "first-registrar-differs",
        "roles-differ",
    }


def test_a_record_that_names_another_deployer_or_transaction_differs(world: World) -> None:
    deployed = world.made()
    assert found(world, replace(deployed, deployer=MALLORY.address)) == ["creation-differs"] * 3
    hashes = {**deployed.transactions, "city_credit": deployed.transactions["member_registry"]}
    report = world.verify(replace(deployed, transactions=hashes))
    assert {f.code for f in report.findings} == {Difference.CREATION_DIFFERS}
    call = world.web3.eth.get_transaction_count(hex_of(DEPLOYER))  # type: ignore[arg-type]
    administrator(world, deployed, DEPLOYER).set_members(
        [Registration(account=MALLORY.address, role=Role.HUB)]
    )
    block = world.ask("eth_getBlockByNumber", "latest", True)
    (transaction,) = block["transactions"]
    assert int(transaction["nonce"], 16) == call
    hashes["city_credit"] = bytes.fromhex(transaction["hash"][2:])
    text = world.verify(replace(deployed, transactions=hashes)).to_text()
    assert "it is a call of" in text


def test_a_transaction_that_nobody_shows_or_that_is_another_leaves_it_open(world: World) -> None:
    deployed = world.made()
    hashes = {**deployed.transactions, "city_credit": bytes(32)}
    with pytest.raises(CreationUnreadable, match="in no block"):
        world.verify(replace(deployed, transactions=hashes))

    def dressed_up(params: Any, ask: Any) -> Any:
        answer = ask()
        answer["result"] = {**answer["result"], "input": "0x00"}
        return answer

    world.endpoint.lies["eth_getTransactionByHash"] = dressed_up
    with pytest.raises(CreationUnreadable, match="another hash"):
        world.verify(deployed)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "0x1"},
        {"accessList": [{"address": "0x" + "11" * 20, "storageKeys": []}]},
        {"r": "0x0"},
        {"nonce": None},
        {"chainId": "0x1"},
        {"value": "0x1"},
        {"yParity": "0x1b", "v": "0x1b"},
    ],
)
def test_a_transaction_that_is_not_what_its_hash_stands_for_is_not_believed(
    world: World, change: dict[str, Any]
) -> None:
    deployed = world.made()

    def changed(params: Any, ask: Any) -> Any:
        fields = {**ask()["result"], **change}
        return result({key: value for key, value in fields.items() if value is not None})

    world.endpoint.lies["eth_getTransactionByHash"] = changed
    with pytest.raises(CreationUnreadable):
        world.verify(deployed)


# -- roles ----------------------------------------------------------------------------------------


def test_a_role_that_the_deployer_kept_is_found_until_the_governance_takes_it(
    world: World,
) -> None:
    """Handed over by hand: the deployer makes the governance registrar, which removes it."""
    deployed = world.made()
    governance = GOVERNANCE.address
    assert found(world, deployed, governance=governance) == ["registrar-lost", "role-left-behind"]
    administrator(world, deployed, DEPLOYER).set_members(
        [Registration(account=governance, role=Role.REGISTRAR)]
    )
    assert found(world, deployed, governance=governance) == ["role-left-behind"]
    administrator(world, deployed, GOVERNANCE).set_members(
        [Registration(account=DEPLOYER.address, role=Role.TREASURY)]
    )
    report = world.verify(deployed, governance=governance)
    assert "still has the role treasury" in report.findings[0].text
    assert report.treasuries == (DEPLOYER.address,)
    administrator(world, deployed, GOVERNANCE).set_members(
        [Registration(account=DEPLOYER.address, role=Role.TREASURY, status=MemberStatus.REMOVED)]
    )
    report = world.verify(deployed, governance=governance)
    assert report.ok
    assert report.registrars == (governance,)
    assert report.treasuries == ()


def test_a_registry_that_did_not_begin_with_the_recorded_registrar_is_found(world: World) -> None:
    deployed = world.made()
    said = replace(deployed, registrar=GOVERNANCE.address)
    assert found(world, said) == [
        "creation-differs",
        "first-registrar-differs",
        "registrar-lost",
        "role-left-behind",
    ]


def test_a_registrar_whose_time_is_over_is_none(world: World) -> None:
    deployed = world.made(registrar=GOVERNANCE.address)
    assert found(world, deployed) == []
    now = int(world.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    administrator(world, deployed, GOVERNANCE).set_members(
        [Registration(account=MALLORY.address, role=Role.REGISTRAR)]
    )
    administrator(world, deployed, MALLORY).set_members(
        [Registration(account=GOVERNANCE.address, role=Role.REGISTRAR, valid_until=now + 1_000)]
    )
    assert found(world, deployed) == []
    block = int(world.ask("eth_blockNumber"), 16)
    world.ask("evm_increaseTime", hex(2_000))
    world.ask("evm_mine")
    assert found(world, deployed) == ["registrar-lost"]
    assert found(world, deployed, block=block) == []


def test_an_endpoint_that_hides_a_role_contradicts_the_registrys_state(world: World) -> None:
    deployed = world.made(registrar=GOVERNANCE.address)
    administrator(world, deployed, GOVERNANCE).set_members(
        [Registration(account=DEPLOYER.address, role=Role.TREASURY)]
    )
    hidden = address_to_hex(DEPLOYER.address).lower()[2:]

    def without(params: Any, ask: Any) -> Any:
        return result([log for log in ask()["result"] if hidden not in log["topics"][1].lower()])

    world.endpoint.lies["eth_getLogs"] = without
    assert found(world, deployed) == ["role-left-behind", "roles-differ"]


# -- what leaves it open --------------------------------------------------------------------------


def test_another_chain_is_no_finding_but_leaves_it_open(world: World) -> None:
    deployed = world.made()
    other = replace(deployed.deployment, chain_id=1)
    with pytest.raises(WrongChain):
        world.verify(replace(deployed, deployment=other))


def test_a_chain_that_changes_while_it_is_read_leaves_it_open(world: World) -> None:
    deployed = world.made()

    def elsewhere(params: Any, ask: Any) -> Any:
        answer = ask()
        seen.append(params[0])
        if seen.count(params[0]) > 2 and params[0] != "0x0":
            answer["result"] = {**answer["result"], "hash": to_hex(bytes(32))}
        return answer

    seen: list[str] = []
    world.endpoint.lies["eth_getBlockByNumber"] = elsewhere
    with pytest.raises(ChainReorganised):
        world.verify(deployed)


def test_records_without_their_making_or_damaged_ones_say_so(world: World, tmp_path: Path) -> None:
    deployed = world.made()
    assert Deployed.from_json(deployed.to_json()) == deployed
    with pytest.raises(MakingUnknown, match="deployer"):
        Deployed.from_json(deployed.deployment.to_json())
    record = json.loads(deployed.to_json())
    for key, value, error in (
        ("transactions", 5, MakingUnknown),
        ("transactions", {}, MakingUnknown),
        ("deployer", 5, MakingUnknown),
        ("deployer", "0x12", MalformedDeployment),
        ("registrar", hex_of(GOVERNANCE).replace("0x7", "0x8"), MalformedDeployment),
    ):
        with pytest.raises(error):
            Deployed.from_json(json.dumps({**record, key: value}))
    path = tmp_path / "deployment.json"
    path.write_text(deployed.deployment.to_json())
    outcome = check_contracts(rpc_url="http://127.0.0.1:9", deployment=path)
    assert (outcome.exit_code, outcome.to_json()["reason"]) == (2, "making-unknown")
    path.write_text(deployed.to_json())
    outcome = check_contracts(rpc_url="http://127.0.0.1:9", deployment=path)
    assert (outcome.exit_code, outcome.to_json()["reason"]) == (2, "rpc-unreachable")
    outcome = check_contracts(rpc_url="http://127.0.0.1:9", deployment=tmp_path / "none.json")
    assert (outcome.exit_code, outcome.to_json()["reason"]) == (2, "unreadable-file")


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (b"abc", b"abd", "1 bytes differ, the first at 2: 0x64, not 0x63"),
        (b"abc", b"ab", "2 bytes, not 3"),
        (b"abc", b"", "0 bytes, not 3"),
        (b"abc", b"xbyd", "4 bytes, not 3, 2 bytes differ, the first at 0: 0x78, not 0x61"),
    ],
)
def test_a_difference_says_lengths_and_the_first_byte(
    expected: bytes, got: bytes, text: str
) -> None:
    assert difference(expected, got) == text


def test_what_is_deployed_by_the_command_is_as_it_was_made(world: World, tmp_path: Path) -> None:
    deployed = deploy(world.web3, DEPLOYER, tmp_path / "d.json", governance=GOVERNANCE.address)
    assert found(world, deployed) == []
