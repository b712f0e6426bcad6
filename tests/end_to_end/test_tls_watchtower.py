"""A watchtower with TLS: its process, wallets that know its certificate, and what they refuse."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.tls import Trust, dial, parse_fingerprint
from farthing.channels.client.wire import ConnectionLost, Refused, Wire
from farthing.channels.ids import address_from_hex
from farthing.devnet.processes import Process
from farthing.node.administration import Role
from farthing.node.tls import load_tls

from ..agency import Agency, running_agency
from ..certificates import Authority
from ..hub_world import FLOW_UCENT, City, farthing, new_signer
from ..tower_world import Depositor, deposit_of, make_street, running_tower, tower_folder


@dataclass
class SecureTower:
    """A watchtower as its operator makes it with --tls, and its running process."""

    config: Path
    process: Process
    signer: str
    certificate: str

    def start(self) -> str:
        """Where it listens."""
        self.process.start()
        ready = self.process.wait_ready()
        assert ready["certificate"] == self.certificate
        return f"127.0.0.1:{ready['port']}"

    def ask(self, command: str, *arguments: str) -> Any:
        done = farthing("watchtower", command, *arguments, "--config", self.config, "--json")
        assert done.code == 0, done.err
        return done.json


@pytest.fixture
def tower(hub_city: City, tmp_path: Path) -> Iterator[SecureTower]:
    folder = tmp_path / "tower"
    made = farthing(
        *("watchtower", "init", folder, "--listen-port", "0", "--tls", "--host", "127.0.0.1"),
        *("--rpc", hub_city.rpc_url, "--deployment", hub_city.deployment_file, "--json"),
    )
    assert made.code == 0, made.err
    hub_city.register(address_from_hex(made.json["watchtower"]), role=Role.RELAYER)
    config = Path(made.json["config"])
    process = Process(
        "watchtower", ["watchtower", "serve", "--config", str(config)], tmp_path / "tower.log"
    )
    yield SecureTower(config, process, made.json["watchtower"], made.json["certificate"])
    process.stop()


def test_a_towers_folder_is_made_with_its_certificate(tower: SecureTower, tmp_path: Path) -> None:
    assert len(parse_fingerprint(tower.certificate)) == 32
    key_file = tower.config.parent / "certificate-key.pem"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert tower.ask("address")["certificate"] == tower.certificate
    alone = farthing("watchtower", "address", "--certificate", "--config", tower.config)
    assert alone.out.strip() == tower.certificate
    plain = farthing("watchtower", "address", "--config", tower.config)
    assert plain.out.strip() == tower.signer
    without = tmp_path / "host"
    wrong = farthing(
        *("watchtower", "init", without, "--host", "tower.example", "--rpc", "http://127.0.0.1:1"),
        *("--deployment", tower.config),
    )
    assert (wrong.code, without.exists()) == (64, False)


def test_a_tower_without_tls_has_no_certificate_and_listens_to_no_other_machine(
    hub_city: City, tmp_path: Path
) -> None:
    config = tower_folder(hub_city, tmp_path / "tower")
    asked = farthing("watchtower", "address", "--config", config, "--certificate", "--json")
    assert (asked.code, asked.json["error"]["code"]) == (1, "no-certificate")
    config.write_text('listen_host = "0.0.0.0"\n' + config.read_text())
    served = farthing("watchtower", "serve", "--config", config, "--json")
    assert (served.code, served.json["error"]["code"]) == (1, "not-loopback")
    assert "tls_certificate_file" in served.json["error"]["what_to_do"]


def test_a_wallet_deposits_over_tls_and_refuses_another_certificate(
    hub_city: City, tower: SecureTower, tmp_path: Path
) -> None:
    with running_agency(hub_city, tmp_path / "agency") as agency:
        agency.earn(1)
        at = tower.start()
        add(agency, at, tower, "--certificate", "sha256:" + "5a" * 32)
        agency.until(lambda: "not the pinned sha256:5a5a" in str(row(agency)["trouble"]))
        trouble = row(agency)["trouble"]
        assert f"the tower's certificate is {tower.certificate}" in trouble
        assert "farthing wallet tower" in trouble
        assert "not the pinned" in agency.ask_wallet("status").out
        assert (row(agency)["connected"], row(agency)["uncovered_ucent"]) == (False, FLOW_UCENT)
        checks = verdicts(agency)
        assert checks[f"tower {at}"] == "ok"
        assert checks[f"certificate of tower {at}"] == "problem"
        add(agency, at, tower)
        agency.until(lambda: "nothing but TLS" in str(row(agency)["trouble"]))
        assert "farthing wallet tower add" in row(agency)["trouble"]
        assert tower.ask("channels") == []
        add(agency, at, tower, "--certificate", tower.certificate)
        agency.until(
            lambda: [r["transferred_ucent"] for r in tower.ask("channels")] == [FLOW_UCENT]
        )
        agency.until(lambda: bool(row(agency)["uncovered_ucent"] == 0))
        assert row(agency)["certificates"] == [tower.certificate]
        assert verdicts(agency)[f"certificate of tower {at}"] == "ok"
        stored = json.loads((agency.folder.path / "wallet.json").read_text())["towers"]
        assert stored == [
            {"address": at, "signer": tower.signer, "certificates": [tower.certificate]}
        ]
        bundle = tmp_path / "alice.bundle"
        agency.ask_wallet("backup", str(bundle))
        assert json.loads(bundle.read_text())["settings"]["towers"] == stored


def add(agency: Agency, at: str, tower: SecureTower, *options: str) -> None:
    """Put the tower on the list in this way, and in no other."""
    if agency.ask_wallet("tower", "list", "--json").json:
        agency.ask_wallet("tower", "remove", tower.signer)
    agency.ask_wallet("tower", "add", at, tower.signer, *options)


def row(agency: Agency) -> dict[str, Any]:
    (only,) = agency.ask_wallet("tower", "list", "--json").json
    return dict(only)


def verdicts(agency: Agency) -> dict[str, str]:
    done = farthing("wallet", "doctor", agency.folder.path, "--json")
    return {check["what"]: check["verdict"] for check in done.json}


@asynccontextmanager
async def in_between(authority: Authority, port: int, trust: Trust) -> AsyncIterator[int]:
    """Mallory ends TLS with a certificate of her own and hands every byte on, both ways."""
    leaf = authority.leaf("mallory")
    context = load_tls(leaf.certificate, leaf.key).context

    async def copy(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
        try:
            async for some in source:
                await target.send_all(some)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # an end has hung up, which ends the other
        await trio.aclose_forcefully(target)

    async def serve(stream: trio.SocketStream) -> None:
        ours = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        theirs = (await dial("127.0.0.1", port, trust)).stream
        async with ours, theirs, trio.open_nursery() as both:
            both.start_soon(copy, ours, theirs)
            both.start_soon(copy, theirs, ours)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_somebody_in_between_with_another_valid_certificate_gets_no_voucher(
    hub_city: City, tmp_path: Path
) -> None:
    """The wallet trusts a CA that has been deceived; both ends sign what each of them sees."""
    authority = Authority(tmp_path)
    leaf, trust, alice = authority.leaf("tower"), Trust(ca=str(authority.file)), new_signer()
    street = await trio.to_thread.run_sync(make_street, hub_city)
    (terms,) = await trio.to_thread.run_sync(street.open, alice)
    files = {"tls_certificate_file": str(leaf.certificate), "tls_key_file": str(leaf.key)}
    config = await trio.to_thread.run_sync(
        lambda: tower_folder(hub_city, tmp_path / "tower", **files)
    )
    domain = hub_city.deployment.domain()
    async with running_tower(config) as tower:
        async with in_between(authority, tower.port, trust) as port:
            dialled = await dial("127.0.0.1", port, trust)
            wire = Wire(dialled.stream, certificate=dialled.certificate)
            with pytest.raises((Refused, ConnectionLost)):
                await wire.dial(domain, alice, tower.signer.address)
            await wire.finish()
            assert tower.status()["connections"] == 0
        dialled = await dial("127.0.0.1", tower.port, trust)
        wire = Wire(dialled.stream, certificate=dialled.certificate)
        await wire.dial(domain, alice, tower.signer.address)
        await Depositor(wire).kept(deposit_of(terms, street.voucher(terms, 40_000)))
        await wire.finish()
