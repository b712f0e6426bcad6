"""An address is told once the key behind it, and what unlocks it, would survive a power cut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farthing.channels.client.keystore import read_password_file, unlock
from farthing.node.config import load

from ..hub_world import City
from .disk import Descriptors, Disk, write_image
from .trace import CALLS, Edge, read_trace
from .traced import OPTIONS, is_whole
from .verdict import Image

COMMANDS = {
    "wallet": ("wallet", "init", "--hub", "127.0.0.1:1", "--hub-signer", "0x" + "11" * 20),
    "hub": ("hub", "init"),
}


def is_told(edge: Edge) -> bool:
    """The command writes its result to standard output."""
    call = edge.call
    return call.name == "write" and call.descriptor == 1 and b"{" in call.texts()[0]


def image_when_told(strace: str, root: Path, command: list[str]) -> Image:
    """What a power cut would leave when the command tells its result."""
    trace = root.parent / "trace"
    disk = Disk(root)
    options = [*OPTIONS, "-e", f"trace={','.join(CALLS)}", "-o", str(trace)]
    subprocess.run(
        [strace, *(o for o in options if o != "-D"), *command],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert is_whole(trace)
    descriptors = Descriptors(disk)
    for edge in read_trace(trace).edges:
        if is_told(edge):
            return disk.synced()
        descriptors.take(edge)
    raise AssertionError("nothing was told")


@pytest.mark.parametrize("what", COMMANDS)
def test_an_address_is_told_once_its_key_would_survive_a_power_cut(
    strace: str, hub_city: City, tmp_path: Path, what: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    new = root / "deep" / "folder"
    place = [str(new)] if what == "hub" else ["--folder", str(new)]
    chain = ["--rpc", hub_city.rpc_url, "--deployment", str(hub_city.deployment_file)]
    command = [sys.executable, "-m", "farthing.cli.main", *COMMANDS[what], *place, *chain, "--json"]
    image = image_when_told(strace, root, command)
    names = {"wallet": ["keystore.json"], "hub": ["account.json", "signer.json"]}[what]
    settings = {"wallet": "wallet.json", "hub": "hub.toml"}[what]
    for name in (*names, "password", settings):
        assert image[f"deep/folder/{name}"] == (new / name).read_bytes()
    copy = write_image(image, tmp_path / "copy") / "deep" / "folder"
    password = read_password_file(copy / "password")
    for name in names:
        unlock(copy / name, password)
    if what == "hub":
        assert load(copy / "hub.toml", {}).programme_files[0].read_bytes()
