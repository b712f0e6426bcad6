"""A hub with TLS and its wallets, from the command that makes the certificate to its renewal."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from farthing.channels.client.folder import Folder, write_settings
from farthing.channels.client.results import TookTooLong
from farthing.channels.client.tls import Trust, fingerprint, parse_fingerprint

from .. import real_wallet
from ..certificates import Leaf
from ..hub_world import FLOW_UCENT, City, farthing, hub_folder, reading, running_hub, until
from ..real_wallet import make_device


def certificate_in(folder: Path) -> Leaf:
    made = farthing("hub", "certificate", "--out", folder, "--host", "127.0.0.1", "--json")
    assert made.code == 0, made
    leaf = Leaf(Path(made.json["tls_certificate_file"]), Path(made.json["tls_key_file"]))
    assert made.json["certificate"] == fingerprint(leaf.hash)
    return leaf


def with_certificate(config: Path, leaf: Leaf) -> None:
    """Serve this certificate, and no other, from the next start on."""
    lines = [
        line for line in config.read_text().splitlines(keepends=True) if not line.startswith("tls")
    ]
    lines.append(f'tls_certificate_file = "{leaf.certificate}"\ntls_key_file = "{leaf.key}"\n')
    config.write_text("".join(lines))


@pytest.mark.usefixtures("quick_hub")
async def test_a_wallet_pays_over_tls_and_across_a_renewed_certificate(
    hub_city: City, tmp_path: Path
) -> None:
    old, new = certificate_in(tmp_path / "old"), certificate_in(tmp_path / "new")
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    with_certificate(config, old)
    async with running_hub(config) as hub:
        trust = Trust(pins=(old.hash, new.hash))
        device = await make_device(hub_city, hub, tmp_path / "alice", trust)
        port = hub.port
        async with device.wallet() as wallet:
            await wallet.join()
            submission = await wallet.submit([reading()])
            outcome = await wallet.wait_outcome(submission, timeout_seconds=30)
            assert outcome.paid_ucent == FLOW_UCENT
            await real_wallet.until(wallet, lambda: wallet.balance().in_channel_ucent > 0)
            assert (await wallet.pay(5, "parking")).acknowledged
    with_certificate(config, new)
    config.write_text(config.read_text().replace("listen_port = 0", f"listen_port = {port}"))
    async with running_hub(config) as hub, device.wallet() as wallet:
        await wallet.join()
        assert wallet.status()["hub"]["trouble"] is None
        assert hub.status()["connections"] == 1
    write_settings(
        Folder(path=device.path),
        replace(Folder(path=device.path).settings(), trust=Trust(pins=(old.hash,))),
    )
    async with running_hub(config) as hub, device.wallet() as wallet:
        with pytest.raises(TookTooLong, match="not the pinned"):
            await wallet.join(timeout_seconds=2)
        assert "farthing wallet trust" in wallet.status()["hub"]["trouble"]
        assert hub.status()["connections"] == 0


@pytest.mark.usefixtures("quick_hub")
async def test_a_wallet_and_a_hub_that_differ_about_tls_both_say_so(
    hub_city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    leaf = certificate_in(tmp_path / "certificate")
    config = await trio.to_thread.run_sync(hub_folder, hub_city, tmp_path / "hub")
    async with running_hub(config) as hub:
        device = await make_device(hub_city, hub, tmp_path / "bob", Trust(pins=(leaf.hash,)))
        async with device.wallet() as wallet:
            await until(lambda: "does not speak TLS" in str(wallet.status()["hub"]["trouble"]))
            await until(lambda: "the peer speaks TLS and this side has none" in caplog.text)
            await until(lambda: wallet.status()["chain"]["head_block"] > 0)
    with_certificate(config, leaf)
    async with running_hub(config) as hub:
        device = await make_device(hub_city, hub, tmp_path / "carol")
        async with device.wallet() as wallet:
            await until(lambda: "nothing but TLS" in str(wallet.status()["hub"]["trouble"]))
            await until(lambda: "this side speaks nothing but TLS" in caplog.text)
            await until(lambda: wallet.status()["chain"]["head_block"] > 0)
        assert f"wallets see the certificate {fingerprint(leaf.hash)}" in caplog.text


def test_a_hubs_folder_is_made_with_its_certificate(hub_city: City, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    init = ["hub", "init", folder, "--rpc", hub_city.rpc_url, "--port", "0", "--json"]
    init += ["--deployment", hub_city.deployment_file]
    wrong = farthing(*init, "--host", "hub.example")
    assert wrong.code == 64
    made = farthing(*init, "--tls", "--host", "hub.example")
    assert made.code == 0, made
    assert (folder / "certificate-key.pem").stat().st_mode & 0o777 == 0o600
    config = made.json["config"]
    addresses = farthing("hub", "addresses", "--config", config, "--json")
    assert addresses.json["certificate"] == made.json["certificate"]
    alone = farthing("hub", "addresses", "--config", config, "--certificate")
    assert len(parse_fingerprint(alone.out)) == 32
    assert alone.out.strip() == made.json["certificate"]
    plain = farthing("hub", "addresses", "--config", config)
    assert plain.out.split() == [made.json["account"], made.json["signer"]]
    again = farthing("hub", "certificate", "--out", folder, "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "certificate-exists")


def test_a_hub_without_tls_has_no_certificate_to_show(hub_city: City, tmp_path: Path) -> None:
    config = hub_folder(hub_city, tmp_path / "hub")
    asked = farthing("hub", "addresses", "--config", config, "--certificate", "--json")
    assert (asked.code, asked.json["error"]["code"]) == (1, "no-certificate")
