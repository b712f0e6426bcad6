"""A hub and alice's wallet as processes of their own on a real chain, and the commands to them."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing.channels.client.folder import Folder
from farthing.channels.ids import Address, address_from_hex
from farthing.channels.senml import encode_json
from farthing.devnet.processes import Process
from farthing.node.home import DATABASE_NAME

from .hub_world import FLOW_UCENT, City, Outcome, farthing, hub_folder, reading
from .real_wallet import DYING_WALLET

PATIENCE_SECONDS = 60


_taken = itertools.count(int(time.time()), -20)
"""Moments that no two readings share, however long the processes run."""


@dataclass
class Agency:
    """Both processes, and what a person types."""

    city: City
    config: Path
    folder: Folder
    account: Address
    hub: Process
    wallet: Process

    @property
    def hub_database(self) -> Path:
        return self.config.parent / "data" / DATABASE_NAME

    def ask_wallet(self, command: str, *arguments: str, code: int = 0) -> Outcome:
        done = farthing("wallet", command, *arguments, "--folder", self.folder.path)
        assert done.code == code, (done.out, done.err)
        return done

    def ask_hub(self, command: str, *arguments: str, code: int = 0) -> Outcome:
        done = farthing("hub", command, *arguments, "--config", self.config)
        assert done.code == code, (done.out, done.err)
        return done

    def channel(self) -> dict[str, Any]:
        """Alice's channel as her wallet sees it."""
        (row,) = self.ask_wallet("channels", "--json").json
        return dict(row)

    def hub_channel(self) -> dict[str, Any]:
        """The same as the hub sees it."""
        (row,) = self.ask_hub("channels", "--json").json
        return dict(row)

    def balance(self) -> dict[str, Any]:
        return dict(self.ask_wallet("balance", "--json").json)

    def tokens(self) -> int:
        return self.city.treasury.balance_ucent(self.account)

    def earn(self, records: int) -> None:
        """Be rewarded, and wait until it can be spent."""
        wanted = self.channel()["received_ucent"] + records * FLOW_UCENT
        self.submit(records, "--wait", "20")
        self.until(lambda: self.channel()["received_ucent"] == wanted)

    def submit(self, records: int, *arguments: str) -> None:
        pack = self.folder.path / "pack.json"
        pack.write_bytes(encode_json([reading(taken=next(_taken)) for _ in range(records)]))
        self.ask_wallet("submit", str(pack), *arguments)

    def is_live(self) -> bool:
        return bool(self.channel()["phase"] == self.hub_channel()["phase"] == "live")

    def pass_time(self, seconds: int) -> None:
        """A block that much later, which both processes have taken in."""
        self.city.warp(seconds)
        head = self.city.chain.head().number
        self.until(lambda: self.ask_hub("status", "--json").json["head_block"] >= head)
        self.until(lambda: self.ask_wallet("status", "--json").json["chain"]["head_block"] >= head)

    def audit(self, *files: Path) -> list[str]:
        """What an auditor finds wrong with alice's channel, given these receipts."""
        done = farthing(
            *("audit", "check", "--rpc", self.city.rpc_url, "--json"),
            *("--deployment", self.city.deployment_file),
            *itertools.chain.from_iterable(("--receipts", file) for file in files),
        )
        assert done.code in (0, 1), done.err  # other tests' channels are on this chain too
        texts = [finding["text"] for finding in done.json["findings"]]
        return [text for text in texts if self.channel()["channel"] in text]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what processes do; they have nothing to wait for but what they answer."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, self.hub_channel()
            pause.wait(0.1)

    def wallet_dies(self, moment: str, amount_ucent: int) -> None:
        """In place of the running wallet, one that is killed at a moment of its withdrawal."""
        command = [sys.executable, str(DYING_WALLET), str(self.folder.path)]
        done = subprocess.run(
            [*command, moment, str(amount_ucent)],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env={**os.environ, "XDG_STATE_HOME": str(self.folder.path.parent / "state")},
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    def log(self, process: Process) -> str:
        return process.log.read_text()


@contextmanager
def running_agency(
    city: City,
    folder: Path,
    process: Callable[[str, list[str], Path], Process] = Process,
    **settings: Any,
) -> Iterator[Agency]:
    """Alice has joined; `settings` are the hub's."""
    config = hub_folder(city, folder / "hub", settle_age_seconds=3600, **settings)
    with ExitStack() as stack:
        hub = process("hub", ["hub", "serve", "--config", str(config)], folder / "hub.log")
        stack.callback(hub.stop)
        hub.start()
        ready = hub.wait_ready()
        home = folder / "alice"
        made = farthing(
            *("wallet", "init", "--folder", home, "--json"),
            *("--hub", f"127.0.0.1:{ready['port']}", "--hub-signer", ready["signer"]),
            *("--rpc", city.rpc_url, "--deployment", city.deployment_file),
        )
        assert made.code == 0, made.err
        account = address_from_hex(made.json["account"])
        city.register(account)
        # The next hub process must listen where the wallet looks for it.
        text = config.read_text().replace("listen_port = 0", f"listen_port = {ready['port']}")
        config.write_text(text)
        wallet = process(
            "wallet", ["wallet", "run", "--folder", str(home), "--json"], folder / "alice.log"
        )
        stack.callback(wallet.stop)
        wallet.start()
        wallet.wait_ready()
        agency = Agency(
            city=city,
            config=config,
            folder=Folder(path=home),
            account=account,
            hub=hub,
            wallet=wallet,
        )
        agency.ask_wallet("join", "--timeout", "20")
        agency.until(agency.is_live)
        yield agency


def copy_database(path: Path, to: Path) -> Path:
    """A backup of what a process that has ended left, without what stands beside it."""
    shutil.copy(path, to)
    return to


def remove_database(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def restore_database(copy: Path, path: Path) -> None:
    remove_database(path)
    shutil.copy(copy, path)
