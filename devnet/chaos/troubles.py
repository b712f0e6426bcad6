"""Faults besides kills: begun and ended as the schedule says, on wire, disk, chain and clocks."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from ..child import set_clock
from ..city import City
from ..faults.rpc_faults import RpcFault
from ..processes import Process, ProcessFailed
from . import disk
from .lives import Life
from .schedule import Entry, Fault, FaultKind
from .wire import Network

RPC_PROXY = "farthing.devnet.faults.rpc_proxy"
RPC_SECONDS_MAX = 30
MISBEHAVIOUR = {
    Fault.CHAIN_CUT: RpcFault.CUT,
    Fault.CHAIN_HANGING: RpcFault.HANGING,
    Fault.CHAIN_LAGGING: RpcFault.LAGGING,
    Fault.CHAIN_FAR_NUMBER: RpcFault.FAR_NUMBER,
    Fault.CHAIN_CHANGING_HASH: RpcFault.CHANGING_HASH,
    Fault.CHAIN_NO_RECEIPTS: RpcFault.NO_RECEIPTS,
    Fault.CHAIN_ERROR: RpcFault.ERROR,
    Fault.CHAIN_NOT_JSON: RpcFault.NOT_JSON,
    Fault.CHAIN_WRONG_TYPE: RpcFault.WRONG_TYPE,
}
"""What the proxy in front of the chain does."""
REORG_BLOCKS_MAX = 3
"""Blocks that are taken back: a settlement is lost with them, no channel's opening."""
CHAIN_TEXTS = ("check the RPC URL", "wait until its node has caught up")
"""What a hub says that does not start because its chain cannot be read, or lied to it before."""


class Troubles:
    """Stands between the processes of a city where a fault needs it, and makes the faults."""

    def __init__(self, folder: Path, kinds: tuple[FaultKind, ...]) -> None:
        self._folder = folder
        self._kinds = kinds
        self._stack = ExitStack()
        self._counts: Counter[str] = Counter()
        self._stopped: Counter[str] = Counter()
        self._missing: dict[str, str] = {}
        self._network: Network | None = None
        self._rpc: Process | None = None
        self._active: dict[tuple[str, str], Entry] = {}
        self._failing: dict[str, disk.FailingFsync] = {}
        self.hub_port = free_port()
        """The hub comes back where the wallets look for it."""
        self.clocks: Path | None = None
        if FaultKind.CLOCK in kinds:
            self.clocks = folder / "clocks"
            self.clocks.mkdir(mode=0o700)
        if FaultKind.DISK in kinds:
            why = disk.why_no_failing_fsync()
            if why is not None:
                self._missing[Fault.DISK_FSYNC] = why

    def close(self) -> None:
        """End everything that was started."""
        self._stack.close()

    # -- before the city is there ---------------------------------------------------------------

    def make_clocks(self, names: tuple[str, ...]) -> None:
        """Give every process a clock that is right."""
        if self.clocks is not None:
            for name in names:
                set_clock(self.clocks / name, 0.0)

    def rpc_front(self, url: str) -> str:
        """The endpoint that hub and wallets use: a proxy where the chain is to be troubled."""
        if FaultKind.CHAIN not in self._kinds:
            return url
        log = self._folder / "logs" / "rpc.log"
        self._rpc = Process("rpc", ["--upstream", url], log, program=RPC_PROXY)
        self._stack.callback(self._rpc.stop)
        self._rpc.start()
        front: str = self._rpc.wait_ready()["rpc"]
        return front

    def hub_front(self, where: str) -> str:
        """Where wallets find the hub: a proxy where the wire is to be troubled."""
        if FaultKind.WIRE not in self._kinds:
            return where
        self._network = Network(self.hub_port)
        self._network.start()
        self._stack.callback(self._network.stop)
        return f"127.0.0.1:{self._network.port}"

    def attach(self, city: City, lives: Mapping[str, Life]) -> None:
        """Take over what is to be troubled."""
        self._city = city
        self._lives = lives

    # -- faults ---------------------------------------------------------------------------------

    def begin(self, entry: Entry) -> bool:
        """Begin a fault, in place of one of its kind that is on at the same victim.

        Says whether it could be: a process that is down writes nothing that could fail.
        """
        key = (Fault(entry.what).kind, entry.victim)
        before = self._active.get(key)
        if before is not None:
            self.end(before)
        if not self._begin(entry, Fault(entry.what)):
            return False
        self._active[key] = entry
        self._counts[entry.what] += 1
        return True

    def end(self, entry: Entry) -> None:
        """End a fault, unless another one took its place."""
        key = (Fault(entry.what).kind, entry.victim)
        if self._active.get(key) is entry:
            del self._active[key]
            self._end(entry, Fault(entry.what))

    def end_all(self) -> None:
        """End whatever is on."""
        for entry in list(self._active.values()):
            self.end(entry)

    def excuses(self, life: Life) -> bool:
        """Whether a process that ended by itself had to, and has said why.

        One whose disk failed may take its time to end: the fault may be over by then.
        """
        said = life.process.log_end()
        if life.excused and disk.STOPPED_TEXT in said:
            self._stopped[f"{life.excused}-stopped"] += 1
            return True
        # A hub does not start on a chain that it cannot check; whoever runs it starts it again.
        if FaultKind.CHAIN not in self._kinds or life.is_wallet or life.process.ready:
            return False
        return any(text in said for text in CHAIN_TEXTS)

    def hinders(self, life: Life) -> bool:
        """Whether a process that ended by itself is to be started only after a fault's end."""
        return (FaultKind.DISK, life.name) in self._active

    def counts(self) -> dict[str, int]:
        """How often each fault was begun, and how many processes stopped because of their disk."""
        return {**dict(sorted(self._counts.items())), **dict(sorted(self._stopped.items()))}

    def not_available(self) -> dict[str, str]:
        """Faults that this machine cannot make, and why."""
        return dict(self._missing)

    def _begin(self, entry: Entry, fault: Fault) -> bool:
        """Begin a fault; says whether it could be."""
        match fault.kind:
            case FaultKind.WIRE:
                if self._network is not None:
                    self._network.begin(fault)
            case FaultKind.DISK:
                return self._begin_disk(self._lives[entry.victim], fault)
            case FaultKind.CHAIN:
                self._begin_chain(entry, fault)
            case FaultKind.CLOCK:
                self._set_clock(entry.victim, entry.amount)
        return True

    def _end(self, entry: Entry, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.WIRE:
                if self._network is not None:
                    self._network.end()
            case FaultKind.DISK:
                self._end_disk(self._lives[entry.victim])
            case FaultKind.CHAIN:
                self._end_chain(fault)
            case FaultKind.CLOCK:
                self._set_clock(entry.victim, 0.0)

    def _set_clock(self, name: str, ahead_seconds: float) -> None:
        if self.clocks is not None:
            set_clock(self.clocks / name, ahead_seconds)

    # -- disk -----------------------------------------------------------------------------------

    def _begin_disk(self, life: Life, fault: Fault) -> bool:
        if not life.ready or fault in self._missing:
            return False  # a process that is down writes nothing
        if fault is Fault.DISK_FULL and not disk.fill(life.process.pid, life.process.log):
            return False
        if fault is Fault.DISK_FSYNC:
            try:
                self._failing[life.name] = disk.FailingFsync(life.process.pid)
            except disk.NotAttached:  # it can be made here: the process has ended this moment
                return False
        life.excused = fault
        return True

    def _end_disk(self, life: Life) -> None:
        failing = self._failing.pop(life.name, None)
        if failing is not None:
            failing.end()
        if life.stopped_itself:
            life.start()
        elif life.up:
            disk.empty(life.process.pid)

    # -- chain ----------------------------------------------------------------------------------

    def _begin_chain(self, entry: Entry, fault: Fault) -> None:
        match fault:
            case Fault.CHAIN_STALL:
                self._city.devnet.signal(signal.SIGSTOP)
            case Fault.CHAIN_REORG:
                self._reorganise(min(1 + int(entry.seconds), REORG_BLOCKS_MAX))
            case _:
                self._misbehave(fault)

    def _end_chain(self, fault: Fault) -> None:
        match fault:
            case Fault.CHAIN_STALL:
                self._city.devnet.signal(signal.SIGCONT)
            case Fault.CHAIN_REORG:
                pass  # it has happened
            case _:
                self._misbehave(None)

    def _misbehave(self, fault: Fault | None) -> None:
        """Switch the proxy in front of the chain to one fault or to none."""
        if self._rpc is None:
            return
        kinds = [] if fault is None else [{"kind": MISBEHAVIOUR[fault].value}]
        _post(f"{self._rpc.ready['rpc']}/faults", {"faults": kinds})

    def _reorganise(self, blocks: int) -> None:
        """Take back the newest blocks and all that they held."""
        params = [blocks, "dropped"]
        request = {"jsonrpc": "2.0", "id": 1, "method": "farthing_reorg", "params": params}
        answer = _post(self._city.rpc_url, request)
        if "result" not in answer:
            raise ProcessFailed(f"the devnet took no block back: {answer}")


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(url, json=body, timeout=RPC_SECONDS_MAX, trust_env=False)
    answer.raise_for_status()
    record: dict[str, Any] = answer.json()
    return record


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
