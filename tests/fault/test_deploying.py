"""Deploying over endpoints that lie, forget and fall silent, and going on where it was left."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from farthing.channels.client.outbox import Outbox
from farthing.channels.errors import FarthingError
from farthing.channels.ids import Address, address_to_hex, to_hex
from farthing.contracts.artifacts import load
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.besu import ExtraData
from farthing.node import deploying
from farthing.node import sender as sender_module
from farthing.node.audit.creations import created_address
from farthing.node.audit.deployed import Deployed
from farthing.node.chain import Web3Chain
from farthing.node.deploying import (
    PLAN_NAME,
    AlreadyDeployed,
    ChainContradicts,
    DeployedDiffers,
    DeploymentInUse,
    NoGovernance,
    PlanDiffers,
    PlanUnusable,
    deploy,
)
from farthing.node.home import OUTBOX_NAME
from farthing.node.sender import (
    ChainUnreachable,
    TransactionFailed,
    TransactionUnknown,
    connect,
)

from ..deploying import (
    DEPLOYER,
    GOVERNANCE,
    MALLORY,
    Answer,
    World,
    chain_world,
    flipped,
    hex_of,
    result,
)

SILENT = requests.exceptions.ConnectionError("no route")


@pytest.fixture
def world() -> Iterator[World]:
    with chain_world() as made:
        yield made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deployment.json"


def partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def finish(world: World, out: Path, **options: Any) -> Deployed:
    """Deploy, or go on with it, over an endpoint that is honest now; nothing is there twice."""
    world.endpoint.lies.clear()
    deployed = deploy(world.web3, DEPLOYER, out, **options)
    assert Deployed.from_json(out.read_text()) == deployed
    assert contracts_of_the_deployer(world) == set(deployed.addresses.values())
    assert world.verify(deployed).ok
    assert not partial(out).exists()
    return deployed


def contracts_of_the_deployer(world: World) -> set[Address]:
    """Whatever it has put on the chain, wanted or not."""
    places = {
        created_address(DEPLOYER.address, nonce) for nonce in range(world.sent_by(DEPLOYER.address))
    }
    return {
        place
        for place in places
        if world.ask("eth_getCode", address_to_hex(place), "latest") != "0x"
    }


def silent_after(world: World, sends: int) -> None:
    """Fall silent when so many transactions were sent."""

    def send(params: Any, ask: Any) -> Answer:
        if len(world.endpoint.sent) > sends:
            raise SILENT
        answer: Answer = ask()
        return answer

    world.endpoint.lies["eth_sendRawTransaction"] = send


def half_done(world: World, out: Path, **options: Any) -> None:
    """Deploy the registry and no more."""
    silent_after(world, 1)
    with pytest.raises(ChainUnreachable):
        deploy(world.web3, DEPLOYER, out, **options)
    assert world.sent_by(DEPLOYER.address) == 1
    assert not out.exists()
    world.endpoint.lies.clear()


# -- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sends", [0, 1, 2])
def test_an_endpoint_that_falls_silent_costs_no_second_deployment(
    world: World, out: Path, sends: int
) -> None:
    silent_after(world, sends)
    with pytest.raises(ChainUnreachable):
        deploy(world.web3, DEPLOYER, out)
    assert not out.exists()
    assert len(Outbox(partial(out) / OUTBOX_NAME).rows) == sends + 1
    first = [world.endpoint.sent[place] for place in range(sends + 1)]
    finish(world, out)
    assert world.endpoint.sent[: sends + 1] == first
    assert len(set(world.endpoint.sent)) == 3  # what had been signed was sent again as it was


def test_a_block_that_is_taken_back_takes_its_contract_along_and_both_come_again(
    world: World, out: Path
) -> None:
    half_done(world, out)
    world.ask("farthing_reorg", "0x1")
    deployed = finish(world, out)
    assert deployed.deployment.block >= 2


def send_from_another_program(world: World, **fields: Any) -> None:
    """With the deployer's key, under the nonce of the contract that was signed and not sent."""
    transaction: dict[str, Any] = {
        "chainId": world.web3.eth.chain_id,
        "nonce": 1,
        "gas": 100_000,
        "gasPrice": 0,
        "value": 0,
        **fields,
    }
    signed = dev_accounts(1)[0].signer().sign_transaction(transaction)
    world.ask("eth_sendRawTransaction", to_hex(bytes(signed.raw_transaction)))


def test_a_nonce_that_another_program_used_is_not_waited_for(world: World, out: Path) -> None:
    half_done(world, out)
    send_from_another_program(world, to=MALLORY.address)
    finish(world, out)


def test_a_contract_that_another_program_made_there_is_not_taken_for_ours(
    world: World, out: Path
) -> None:
    half_done(world, out)
    send_from_another_program(world, data="0x60016000f3")  # returns one byte, which is its code
    strange = created_address(DEPLOYER.address, 1)
    assert contracts_of_the_deployer(world) > {strange}
    deployed = deploy(world.web3, DEPLOYER, out)
    assert contracts_of_the_deployer(world) == {strange, *deployed.addresses.values()}
    assert strange not in deployed.addresses.values()
    assert world.verify(deployed).ok


@pytest.mark.parametrize("depth", [2, 3])
def test_what_is_taken_back_before_it_is_confirmed_is_found_where_it_is_then(
    world: World, out: Path, depth: int
) -> None:
    """Its deployment id is another then, as it is made of the block before."""
    looks, ids = 0, []

    def a_block_with_each_look(params: Any, ask: Any) -> Answer:
        nonlocal looks
        if world.sent_by(DEPLOYER.address) == 3:
            looks += 1
            world.ask("evm_mine")
        if looks == 3:
            ids.append(deployment_id_at(world, before.addresses["payment_channels"]))
            world.ask("farthing_reorg", hex(depth + 3))  # three of them are empty
            world.ask("evm_increaseTime", hex(100))
            world.ask("evm_mine")
        answer: Answer = ask()
        return answer

    before = deploy_to_a_copy(out)
    world.endpoint.lies["eth_blockNumber"] = a_block_with_each_look
    deployed = deploy(world.web3, DEPLOYER, out, confirmations=8)
    world.endpoint.lies.clear()
    assert looks > 8
    ids.append(deployment_id_at(world, before.addresses["payment_channels"]))
    assert ids[0] != ids[1] == to_hex(deployed.deployment.deployment)[2:]
    assert deployed.addresses == before.addresses
    assert world.sent_by(DEPLOYER.address) == 3
    assert world.verify(deployed).ok


def deployment_id_at(world: World, channels: Address) -> str:
    return str(world.ask("eth_getCode", address_to_hex(channels), "latest")[-64:])


def deploy_to_a_copy(out: Path) -> Deployed:
    with chain_world() as other:
        return deploy(other.web3, DEPLOYER, out.with_name("copy.json"))


def test_a_chain_that_stands_still_is_not_waited_for_without_end(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "RECEIPT_SECONDS_MAX", 0)
    with pytest.raises(TransactionUnknown, match="not confirmed yet"):
        deploy(world.web3, DEPLOYER, out, confirmations=1)
    assert not out.exists()
    world.ask("evm_mine")
    finish(world, out, confirmations=1)


def test_who_is_killed_before_tidying_up_tidies_up_and_deploys_nothing(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SILENT

    with monkeypatch.context() as patch:
        patch.setattr(deploying, "_clear", killed)
        with pytest.raises(requests.exceptions.ConnectionError):
            deploy(world.web3, DEPLOYER, out)
    assert partial(out).exists()
    before = out.read_text()
    with pytest.raises(PlanDiffers):
        deploy(world.web3, MALLORY, out)
    finish(world, out)
    assert out.read_text() == before
    with pytest.raises(AlreadyDeployed):
        deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(MALLORY.address) == 0


def test_a_record_beside_somebody_elses_unfinished_deployment_is_not_taken_for_its_own(
    world: World, out: Path, tmp_path: Path
) -> None:
    other = deploy(world.web3, MALLORY, tmp_path / "other.json")
    world.endpoint.sent.clear()
    half_done(world, out)
    for text in (other.to_json(), other.deployment.to_json(), "{}"):
        out.write_text(text)
        with pytest.raises(AlreadyDeployed):
            deploy(world.web3, DEPLOYER, out)
        assert out.read_text() == text
        assert (partial(out) / PLAN_NAME).exists()
    out.unlink()
    finish(world, out)


def test_the_governance_is_the_only_registrar_from_the_first_block_on(
    world: World, out: Path
) -> None:
    governance = GOVERNANCE.address
    half_done(world, out, governance=governance)
    row, _ = Outbox(partial(out) / OUTBOX_NAME).rows  # the second is signed, and not sent
    receipt = world.ask("eth_getTransactionReceipt", to_hex(row.transaction_hash))
    registry = world.web3.to_checksum_address(receipt["contractAddress"])
    abi: Any = load("member_registry").abi
    contract = world.web3.eth.contract(address=registry, abi=abi)
    assert not contract.functions.has_role(hex_of(DEPLOYER), 1).call()
    assert contract.functions.has_role(hex_of(GOVERNANCE), 1).call()
    with pytest.raises(PlanDiffers, match="first registrar"):
        deploy(world.web3, DEPLOYER, out)
    deployed = finish(world, out, governance=governance)
    report = world.verify(deployed)
    assert report.registrars == (governance,)
    assert deployed.registrar == governance
    with pytest.raises(NoGovernance):
        deploy(world.web3, DEPLOYER, out.with_name("x"), governance=DEPLOYER.address)


# -- what is not gone on with ---------------------------------------------------------------------


def test_another_deployer_does_not_go_on_with_what_somebody_began(world: World, out: Path) -> None:
    half_done(world, out)
    with pytest.raises(PlanDiffers, match="deployer") as caught:
        deploy(world.web3, MALLORY, out)
    assert (caught.value.planned, caught.value.asked) == (hex_of(DEPLOYER), hex_of(MALLORY))
    assert world.sent_by(MALLORY.address) == 0
    finish(world, out)


@pytest.mark.parametrize(("same_id", "what"), [(True, "genesis block"), (False, "chain id")])
def test_on_another_chain_nothing_is_gone_on_with(
    world: World, out: Path, same_id: bool, what: str
) -> None:
    half_done(world, out)
    settings: dict[str, Any] = {"accounts": 3} if same_id else {"chain_id": 77}
    with chain_world(**settings) as other:
        with pytest.raises(PlanDiffers, match=what):
            deploy(other.web3, DEPLOYER, out)
        assert other.sent_by(DEPLOYER.address) == 0
    finish(world, out)


def test_another_release_does_not_go_on_with_other_code(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(world, out)
    with monkeypatch.context() as patch:
        patch.setattr(deploying, "NAMES", ("city_credit",))
        with pytest.raises(PlanDiffers, match="contracts"):
            deploy(world.web3, DEPLOYER, out)
    finish(world, out)


@pytest.mark.parametrize("content", [b"", b"{", b'{"chain_id": "1"}', b"[]", b"\xff"])
def test_a_damaged_plan_stops_it_aloud(world: World, out: Path, content: bytes) -> None:
    half_done(world, out)
    plan = partial(out) / PLAN_NAME
    plan.write_bytes(content)
    with pytest.raises(PlanUnusable, match="damaged"):
        deploy(world.web3, DEPLOYER, out)
    plan.unlink()
    with pytest.raises(PlanUnusable, match="no plan"):
        deploy(world.web3, DEPLOYER, out)
    plan.mkdir()
    with pytest.raises(PlanUnusable, match="cannot be read"):
        deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(DEPLOYER.address) == 1


def test_two_at_once_do_not_deploy_into_one_record(world: World, out: Path) -> None:
    half_done(world, out)
    with (partial(out) / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(DeploymentInUse, match="run the same command again"):
            deploy(world.web3, DEPLOYER, out)
    finish(world, out)


def test_what_was_refused_before_anything_was_signed_leaves_nothing(
    world: World, out: Path
) -> None:
    def refused(params: Any, ask: Any) -> Answer:
        said = {"code": -32007, "message": "Sender account not authorized to send transactions"}
        return {"jsonrpc": "2.0", "id": 1, "error": said}

    world.endpoint.lies["eth_sendRawTransaction"] = refused
    with pytest.raises(TransactionFailed, match="not authorized"):
        deploy(world.web3, DEPLOYER, out)
    assert list(out.parent.iterdir()) == []
    world.endpoint.lies["eth_getBlockByNumber"] = lambda *_: result(None)
    with pytest.raises(FarthingError, match="block 0x0"):
        deploy(world.web3, DEPLOYER, out)
    world.endpoint.lies["eth_getBlockByNumber"] = lambda *_: {"jsonrpc": "2.0", "id": 1}
    with pytest.raises(FarthingError, match="in JSON-RPC"):
        deploy(world.web3, DEPLOYER, out)
    said = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "not today"}}
    world.endpoint.lies["eth_getBlockByNumber"] = lambda *_: said
    with pytest.raises(FarthingError, match="not today"):
        deploy(world.web3, DEPLOYER, out)
    assert list(out.parent.iterdir()) == []
    finish(world, out)


def test_a_folder_that_cannot_be_used_is_named(world: World, tmp_path: Path) -> None:
    out = tmp_path / "deployment.json"
    partial(out).touch()
    with pytest.raises(PlanUnusable, match=r"deployment\.json\.partial"):
        deploy(world.web3, DEPLOYER, out)


# -- endpoints that lie ---------------------------------------------------------------------------


def test_code_that_differs_by_a_byte_is_not_called_deployed(world: World, out: Path) -> None:
    def byte(params: Any, ask: Any) -> Answer:
        code = bytes.fromhex(ask()["result"][2:])
        return result(to_hex(flipped(code, 1000)) if code else "0x")

    world.endpoint.lies["eth_getCode"] = byte
    with pytest.raises(DeployedDiffers, match="the first at 1000") as caught:
        deploy(world.web3, DEPLOYER, out)
    assert len(caught.value.report.findings) == 3
    assert not out.exists()
    finish(world, out)


def test_an_immutable_of_another_value_is_not_called_deployed(world: World, out: Path) -> None:
    def last_word(params: Any, ask: Any) -> Answer:
        code = bytes.fromhex(ask()["result"][2:])
        return result(to_hex(flipped(code, len(code) - 1)) if code else "0x")

    world.endpoint.lies["eth_getCode"] = last_word
    with pytest.raises(DeployedDiffers, match="differs"):
        deploy(world.web3, DEPLOYER, out)
    finish(world, out)


def test_a_receipt_that_says_reverted_of_what_took_effect_is_not_believed(
    world: World, out: Path
) -> None:
    def reverted(params: Any, ask: Any) -> Answer:
        answer = ask()["result"]
        return result(answer and {**answer, "status": "0x0"})

    world.endpoint.lies["eth_getTransactionReceipt"] = reverted
    deployed = deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(DEPLOYER.address) == 3
    assert world.verify(deployed).ok


def test_a_receipt_that_names_another_contract_is_not_asked(world: World, out: Path) -> None:
    def elsewhere(params: Any, ask: Any) -> Answer:
        answer = ask()["result"]
        return result(answer and {**answer, "contractAddress": address_to_hex(MALLORY.address)})

    world.endpoint.lies["eth_getTransactionReceipt"] = elsewhere
    deployed = deploy(world.web3, DEPLOYER, out)
    assert MALLORY.address not in deployed.addresses.values()
    assert world.verify(deployed).ok


def test_a_receipt_for_what_no_block_holds_is_found_out(world: World, out: Path) -> None:
    """The endpoint swallows the transaction and says that it is mined."""

    def receipt(params: Any, ask: Any) -> Answer:
        return result({**made_up(world), "transactionHash": params[0]})

    world.endpoint.lies["eth_sendRawTransaction"] = lambda params, _: result("0x" + "11" * 32)
    world.endpoint.lies["eth_getTransactionReceipt"] = receipt
    with pytest.raises(ChainContradicts, match="does not hold"):
        deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(DEPLOYER.address) == 0
    assert not out.exists()
    first = world.endpoint.sent[0]
    finish(world, out)
    assert world.endpoint.sent[1] == first


def made_up(world: World) -> dict[str, Any]:
    """A receipt of something else, for the shape of it."""
    zero = "0x" + "00" * 32
    return {
        "transactionHash": zero,
        "blockHash": zero,
        "blockNumber": world.ask("eth_blockNumber"),
        "transactionIndex": "0x0",
        "from": hex_of(DEPLOYER),
        "to": None,
        "gasUsed": "0x1",
        "cumulativeGasUsed": "0x1",
        "effectiveGasPrice": "0x0",
        "contractAddress": hex_of(MALLORY),
        "logs": [],
        "logsBloom": "0x" + "00" * 256,
        "status": "0x1",
        "type": "0x2",
    }


def test_a_receipt_that_is_kept_back_leaves_it_open(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0)
    world.endpoint.lies["eth_getTransactionReceipt"] = lambda *_: result(None)
    with pytest.raises(TransactionUnknown):
        deploy(world.web3, DEPLOYER, out)
    with pytest.raises(ChainContradicts, match="its code is there, its transaction is not"):
        deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(DEPLOYER.address) == 1
    finish(world, out)


def test_code_that_is_kept_back_is_not_deployed_again(world: World, out: Path) -> None:
    world.endpoint.lies["eth_getCode"] = lambda *_: result("0x")
    with pytest.raises(ChainContradicts, match="left no code"):
        deploy(world.web3, DEPLOYER, out)
    with pytest.raises(ChainContradicts, match="left no code"):
        deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(DEPLOYER.address) == 1
    finish(world, out)


def test_code_of_an_older_state_than_the_count_is_not_deployed_again(
    world: World, out: Path
) -> None:
    """Two nodes behind one address, one of them a block behind."""

    def older(params: Any, ask: Any) -> Answer:
        return result(hex(int(ask()["result"], 16) - 1))

    world.endpoint.lies["eth_blockNumber"] = older
    with pytest.raises(ChainContradicts, match="does not hold what is in the chain"):
        deploy(world.web3, DEPLOYER, out)
    assert world.sent_by(DEPLOYER.address) == 1
    finish(world, out)


def test_a_chain_that_does_not_take_it_in_time_leaves_it_open(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "RECEIPT_SECONDS_MAX", 0)
    monkeypatch.setattr(deploying, "RECEIPT_SECONDS_MAX", 0)
    with chain_world(automine=False) as world:
        for _ in range(2):
            with pytest.raises(TransactionUnknown):
                deploy(world.web3, DEPLOYER, out)
        assert len(set(world.endpoint.sent)) == 1
        monkeypatch.undo()

        def mined(params: Any, ask: Any) -> Answer:
            answer: Answer = ask()
            world.ask("evm_mine")
            return answer

        world.ask("evm_mine")
        world.endpoint.lies["eth_sendRawTransaction"] = mined
        deployed = deploy(world.web3, DEPLOYER, out)
        assert world.sent_by(DEPLOYER.address) == 3
        assert world.verify(deployed).ok


# -- fees -----------------------------------------------------------------------------------------


def test_a_chain_without_a_base_fee_is_sent_legacy_transactions(world: World, out: Path) -> None:
    def without(params: Any, ask: Any) -> Answer:
        block = ask()["result"]
        return result({key: value for key, value in block.items() if key != "baseFeePerGas"})

    def old_only(params: Any, ask: Any) -> Answer:
        assert params[0][2:4] >= "c0", "a typed transaction"
        answer: Answer = ask()
        return answer

    world.endpoint.lies["eth_getBlockByNumber"] = without
    world.endpoint.lies["eth_sendRawTransaction"] = old_only
    world.endpoint.lies["eth_gasPrice"] = lambda *_: result(hex(10**9))
    deployed = deploy(world.web3, DEPLOYER, out)
    assert world.verify(deployed).ok
    sent = world.ask("eth_getTransactionByHash", to_hex(deployed.transactions["city_credit"]))
    assert (sent["type"], sent["gasPrice"]) == ("0x0", hex(10**9))


@pytest.mark.parametrize("price", [0, 3 * 10**9])
def test_a_chain_with_a_base_fee_is_paid_what_it_asks_zero_too(
    world: World, out: Path, price: int
) -> None:
    world.endpoint.lies["eth_gasPrice"] = lambda *_: result(hex(price))
    deployed = deploy(world.web3, DEPLOYER, out)
    sent = world.ask("eth_getTransactionByHash", to_hex(deployed.transactions["city_credit"]))
    assert (sent["type"], sent["maxFeePerGas"]) == ("0x2", hex(price))
    assert world.verify(deployed).ok


def test_blocks_of_a_proof_of_authority_with_long_extra_data_and_no_fee_are_read(
    world: World, out: Path
) -> None:
    """As QBFT's: vanity, validators and seals in the extra-data, a base fee of zero."""

    def qbft(params: Any, ask: Any) -> Answer:
        block = ask()["result"]
        seals = tuple(bytes([n]) * 65 for n in range(3))
        extra = ExtraData(validators=(MALLORY.address,) * 4, seals=seals)
        return result(
            block and {**block, "extraData": to_hex(extra.encode()), "baseFeePerGas": "0x0"}
        )

    world.endpoint.lies["eth_getBlockByNumber"] = qbft
    web3 = connect("http://127.0.0.1:9")
    web3.provider = world.endpoint
    deployed = deploy(web3, DEPLOYER, out)
    chain = Web3Chain(web3, deployed.deployment, signer=None)
    chain.check_identity()
    assert chain.head().number == int(world.ask("eth_blockNumber"), 16)
    assert chain.block_hash(0) == deployed.deployment.genesis_hash
    assert world.verify(deployed).ok
