"""Other people's clients against a running devnet: cast, ethers, viem and web3.py.

Each does the same task, as its own users would, and reports what it saw in its own decoding; every
claim is tested of each. docs/clients.md lists them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from farthing.channels.ids import address_from_hex
from farthing.contracts.artifacts import load
from farthing.node.audit.creations import created_address

from . import cast, web3_py
from .conftest import Endpoint, node_report, task_of

Report = dict[str, Any]
Use = Callable[[dict[str, Any], Path], Report]

CLIENTS: dict[str, Use] = {
    "cast": cast.use,
    "ethers": lambda task, _: node_report("ethers.mjs", task),
    "viem": lambda task, _: node_report("viem.mjs", task),
    "web3.py": lambda task, _: web3_py.use(task),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a client was told to do, and what it reported."""

    name: str
    task: dict[str, Any]
    report: Report

    @property
    def treasury(self) -> str:
        return str(self.task["treasury"]["address"])

    @property
    def minted(self) -> list[Any]:
        """To whom, how much and under which reference the task mints."""
        return [self.treasury, self.task["amount"], self.task["word"]]

    @property
    def heard(self) -> dict[str, Any]:
        """The mint's event as it is heard by whoever waits for it."""
        mint = self.report["mint"]
        return {"args": self.minted, "transaction": mint["hash"], "block": mint["block"]}


@pytest.fixture(scope="module", params=CLIENTS)
def seen(
    request: pytest.FixtureRequest, devnet: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    name: str = request.param
    task = task_of(devnet, list(CLIENTS).index(name))
    return Seen(name=name, task=task, report=CLIENTS[name](task, tmp_path_factory.mktemp("home")))


def test_a_client_deploys_contracts_where_their_sender_and_nonce_say(seen: Seen) -> None:
    registrar = address_from_hex(seen.task["registrar"]["address"])
    places = [to_checksum_address(created_address(registrar, nonce)) for nonce in (0, 1)]
    assert [seen.report["registry"], seen.report["credit"]] == places
    assert seen.report["created"]["status"] == 1
    assert seen.report["created"]["address"] == places[0]
    assert seen.report["chain_id"] == seen.task["chain_id"]


def test_a_client_reads_several_values_of_a_call(seen: Seen) -> None:
    assert seen.report["member"] == ["2", "1", "0", seen.task["word"]]
    assert seen.report["balance"] == seen.task["amount"]


def test_a_client_sends_a_call_and_decodes_its_receipt(seen: Seen) -> None:
    mint = seen.report["mint"]
    assert (mint["status"], mint["logs"]) == (1, ["Transfer", "Minted"])
    assert mint["block"] > seen.report["created"]["block"]
    assert seen.report["block"]["transactions"] == [mint["hash"]]
    assert seen.report["looked"] == {"from": seen.treasury, "nonce": 0, "block": mint["block"]}


def test_a_client_estimates_what_a_call_then_uses(seen: Seen) -> None:
    assert seen.report["estimate"] == seen.report["mint"]["gas"]


def test_a_client_finds_that_gas_is_free(seen: Seen) -> None:
    assert seen.report["fees"] == [0, 0, 0]


def test_a_client_finds_and_decodes_logs(seen: Seen) -> None:
    assert seen.report["logs"] == [seen.minted]


def test_a_client_tells_the_reason_of_a_revert_when_calling_and_estimating(seen: Seen) -> None:
    """The words are the contract's own, `module: reason`; a mined revert has status 0."""
    assert load("city_credit").bytecode.find(b"credit: reference used") > 0
    reason = "credit: reference used"
    assert seen.report["refused"] == {"call": reason, "estimate": reason, "mined": 0}


def test_a_client_decodes_a_custom_error(seen: Seen) -> None:
    assert seen.report["custom"] == ["TooFew", 3, 8]


def test_a_client_sends_each_type_of_transaction(seen: Seen) -> None:
    transfers = seen.report["transfers"]
    plain = {kind: {"status": 1, "type": kind, "gas": 21_000} for kind in (0, 1, 2)}
    assert {int(kind): row for kind, row in transfers.items() if kind != "4"} == plain
    assert set(map(int, transfers)) == set(seen.task["types"])


def test_a_client_lets_an_account_run_a_contracts_code(seen: Seen) -> None:
    """Type 4: it signs an authorization of its own account, for the third contract it deployed."""
    transfer = seen.report["transfers"]["4"]
    assert (transfer["status"], transfer["type"]) == (1, 4)
    registrar = address_from_hex(seen.task["registrar"]["address"])
    delegate = created_address(registrar, 2)
    assert seen.report["code"] == "0xef0100" + delegate.hex()


def test_a_client_that_polls_hears_of_an_event_once(seen: Seen) -> None:
    """cast and web3.py are not asked to poll."""
    polls = seen.name in ("ethers", "viem")
    assert seen.report["polled"] == ([seen.heard] if polls else None)


def test_a_client_that_subscribes_hears_of_an_event_once(seen: Seen) -> None:
    assert seen.report["pushed"]["minted"] == [seen.heard]


def test_a_client_that_subscribes_hears_of_each_new_block(seen: Seen) -> None:
    """cast subscribes to logs alone."""
    heads = seen.report["pushed"]["heads"]
    if seen.name == "cast":
        assert heads is None
        return
    numbers = [number for number, _ in heads]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert dict(heads)[seen.report["mint"]["block"]] == seen.report["block"]["hash"]
