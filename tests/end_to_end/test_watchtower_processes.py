"""`farthing watchtower serve` as a process of its own, killed and asked by its commands."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.keystore import unlock
from farthing.channels.ids import Address, address_from_hex, address_to_hex
from farthing.channels.terms import Terms
from farthing.devnet.processes import Process
from farthing.node.administration import Role
from farthing.node.chain import Web3Chain
from farthing.node.sender import connect

from ..agency import running_agency
from ..hub_world import FLOW_UCENT, PASSWORD, City, Outcome, farthing, hub_config, new_signer
from ..tower_world import Street, deposit_of, depositor, make_street, tower_folder

PATIENCE_SECONDS = 60


@dataclass
class Watch:
    """A watchtower's process and its configuration."""

    config: Path
    process: Process

    def start(self) -> dict[str, Any]:
        self.process.start()
        return self.process.wait_ready()

    def ask(self, command: str, *arguments: str, code: int = 0) -> Outcome:
        done = farthing("watchtower", command, *arguments, "--config", self.config)
        assert done.code == code, (done.out, done.err)
        return done

    def rows(self) -> list[dict[str, Any]]:
        return list(self.ask("channels", "--json").json)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the process does; it answers and tells nothing by itself."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, self.rows()
            pause.wait(0.1)


def made_watch(config: Path) -> Watch:
    log = config.parent / "watchtower.log"
    arguments = ["watchtower", "serve", "--config", str(config)]
    return Watch(config=config, process=Process("watchtower", arguments, log))


@pytest.fixture
def street(hub_city: City) -> Street:
    return make_street(hub_city)


@pytest.fixture
def watch(hub_city: City, street: Street, tmp_path: Path) -> Iterator[Watch]:
    watch = made_watch(tower_folder(hub_city, tmp_path / "tower"))
    yield watch
    watch.process.stop()


def deposit(city: City, ready: dict[str, Any], street: Street, terms: Terms, owner: Any) -> None:
    async def run() -> None:
        peer = ready["port"], address_from_hex(ready["watchtower"])
        async with depositor(city, peer, owner) as wallet:
            await wallet.kept(deposit_of(terms, street.voucher(terms, 40_000)))

    trio.run(run)


def test_a_tower_killed_between_its_acknowledgement_and_the_close_answers_after_a_restart(
    hub_city: City, street: Street, watch: Watch
) -> None:
    alice = new_signer()
    (terms,) = street.open(alice)
    ready = watch.start()
    deposit(hub_city, ready, street, terms, alice)
    watch.process.kill()
    street.start_close(terms)
    assert street.view(terms).settled_ucent == (0, 0)
    watch.start()
    watch.until(lambda: street.view(terms).settled_ucent == (40_000, 0))
    street.pass_window()
    watch.until(lambda: watch.rows()[0]["status"] == "closed")
    assert street.tokens(alice.address) == 40_000
    (row,) = watch.rows()
    assert row["wallet"] == address_to_hex(alice.address)
    assert (row["transferred_ucent"], row["answered_ucent"]) == (40_000, 40_000)
    assert 0 < row["seen_at"] <= row["answered_at"]


def test_a_tower_killed_after_its_answer_does_not_answer_twice_and_finishes_the_close(
    hub_city: City, street: Street, watch: Watch
) -> None:
    alice = new_signer()
    (terms,) = street.open(alice)
    deposit(hub_city, watch.start(), street, terms, alice)
    street.start_close(terms)
    watch.until(lambda: watch.rows()[0]["settled_ucent"] == 40_000)
    watch.process.kill()
    street.pass_window()
    watch.start()
    watch.until(lambda: watch.rows()[0]["status"] == "closed")
    assert watch.ask("status", "--json").json["answered"] == 0
    assert street.tokens(alice.address) == 40_000


def test_two_towers_do_not_share_a_folder(street: Street, watch: Watch) -> None:
    watch.start()
    refused = watch.ask("serve", code=1)
    assert "the watchtower in" in refused.err
    assert "is run by process" in refused.err


def test_a_tower_put_under_another_key_refuses_its_database(
    hub_city: City, watch: Watch, tmp_path: Path
) -> None:
    watch.start()
    watch.process.stop()
    other = tower_folder(hub_city, tmp_path / "other")
    shutil.copy(other.parent / "keystore.json", watch.config.parent / "keystore.json")
    assert "give a new data_dir" in watch.ask("serve", code=1).err


def initialised(city: City, folder: Path) -> tuple[Watch, str]:
    """A watchtower as its operator makes it, and its address."""
    made = farthing(
        *("watchtower", "init", folder, "--listen-port", "0", "--json"),
        *("--rpc", city.rpc_url, "--deployment", city.deployment_file),
    )
    assert made.code == 0, made.err
    watch = made_watch(Path(made.json["config"]))
    signer = str(made.json["watchtower"])
    assert watch.ask("address").out.strip() == signer
    assert watch.ask("address", "--json").json == {"watchtower": signer}
    assert (folder / "password").stat().st_mode & 0o077 == 0
    return watch, signer


def cheat(city: City, hub: Path, terms: Terms) -> None:
    """As the hub's owner: start the close with nothing settled."""
    account = unlock(hub_config(hub).account_keystore, PASSWORD)
    Web3Chain(connect(city.rpc_url), city.deployment, signer=account).start_close(terms)


def test_a_person_sets_up_a_tower_and_a_wallet_that_sleeps_is_paid(
    hub_city: City, tmp_path: Path
) -> None:
    watch, signer = initialised(hub_city, tmp_path / "tower")
    with running_agency(hub_city, tmp_path / "agency") as agency:
        agency.earn(1)
        ready = watch.start()
        try:
            assert watch.ask("status", "--json").json["member"] is False
            hub_city.register(address_from_hex(signer), role=Role.RELAYER)
            added = agency.ask_wallet("tower", "add", f"127.0.0.1:{ready['port']}", signer)
            assert signer in added.out
            agency.until(lambda: [r["transferred_ucent"] for r in watch.rows()] == [FLOW_UCENT])
            agency.until(lambda: towers_of(agency.ask_wallet)[0]["uncovered_ucent"] == 0)
            (tower,) = towers_of(agency.ask_wallet)
            assert tower["connected"] is True
            assert tower["acknowledged_ucent"] == FLOW_UCENT
            assert "connected, 0 µ¢ not covered" in agency.ask_wallet("status").out
            agency.earn(2)
            terms = _terms(agency.config, agency.account, agency.city)
            agency.wallet.stop()
            agency.hub.kill()
            (tower,) = towers_of(agency.ask_wallet)  # as stored
            assert (tower["connected"], tower["uncovered_ucent"]) == (False, 0)
            cheat(hub_city, agency.config, terms)
            watch.until(lambda: watch.rows()[0]["settled_ucent"] == 3 * FLOW_UCENT)
            hub_city.warp(terms.challenge_seconds + 1)
            hub_city.mine(terms.challenge_blocks + 1)
            watch.until(lambda: watch.rows()[0]["status"] == "closed")
            assert agency.tokens() == 3 * FLOW_UCENT
            assert signer in agency.ask_wallet("tower", "remove", signer).out
            assert towers_of(agency.ask_wallet) == []
        finally:
            watch.process.stop()


def towers_of(ask: Callable[..., Outcome]) -> list[dict[str, Any]]:
    return list(ask("tower", "list", "--json").json)


def _terms(config: Path, account: Address, city: City) -> Terms:
    """Of alice's channel, as the chain's log has them."""
    head = city.chain.head()
    opened = city.chain.logs(max(0, head.number - 1000), head.number).opened
    return next(one.terms for one in opened if one.terms.account_b == account)


def test_the_list_of_towers_is_changed_while_the_wallet_does_not_run(
    hub_city: City, tmp_path: Path
) -> None:
    home = tmp_path / "alice"
    hub, signer = (address_to_hex(new_signer().address) for _ in range(2))
    made = farthing(
        *("wallet", "init", "--folder", home, "--hub", "127.0.0.1:7171", "--hub-signer", hub),
        *("--rpc", hub_city.rpc_url, "--deployment", hub_city.deployment_file),
    )
    assert made.code == 0, made.err

    def tower(*arguments: str) -> Outcome:
        return farthing("wallet", "tower", *arguments, "--folder", home)

    before = (home / "wallet.json").read_text()
    assert "towers" not in before
    assert tower("list").out.strip() == "none"
    assert tower("add", "localhost:7272", signer).code == 0
    assert (home / "wallet.json").stat().st_mode & 0o077 == 0
    (row,) = tower("list", "--json").json
    assert (row["tower"], row["signer"]) == ("127.0.0.1:7272", signer)
    assert (row["connected"], row["acknowledged_at"], row["uncovered_ucent"]) == (False, None, 0)
    assert "is on the list" in tower("add", "127.0.0.1:7273", signer).err
    for elsewhere in ("192.0.2.1:7272", "tower.example:7272"):
        assert "the tower's host" in tower("add", elsewhere, signer).err
    assert "HOST:PORT" in tower("add", "7272", signer).err
    assert "is the hub's signer" in tower("add", "127.0.0.1:7171", hub).err
    assert tower("remove", signer).code == 0
    assert "there is no tower" in tower("remove", signer).err
    assert (home / "wallet.json").read_text() == before
    wrong: list[Any] = [[{"address": "127.0.0.1:1"}], "x", [[]], [{"address": 1, "signer": signer}]]
    for rows in wrong:
        (home / "wallet.json").write_text(json.dumps({**json.loads(before), "towers": rows}))
        assert tower("list").code == 1
