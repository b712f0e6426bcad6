"""`farthing bench memory`: what connected wallets take of a hub, and all of them coming back."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..chaos.gauge import resident_kib
from .checked import check_hub, expect
from .crowd import generator
from .pair import Stand, open_stand, payee

CONNECTIONS = 10_000
TLS_CONNECTIONS = 1_000
STAY_SECONDS = 25.0
"""More than a heartbeat's period, so that each has answered one."""
HANDSHAKES_PER_SECOND = 200
"""The configuration's own default."""


def bench_memory(
    *,
    connections: int = CONNECTIONS,
    tls_connections: int = TLS_CONNECTIONS,
    stay_seconds: float = STAY_SECONDS,
    within: Path | None = None,
) -> dict[str, Any]:
    """Measure without TLS, a storm of reconnects after a restart, and with TLS.

    Raises `FigureVoid`.
    """
    with open_stand(within, quick=connections < CONNECTIONS) as stand:
        empty = {tls: _empty(stand, tls=tls) for tls in (False, True)}
        plain = _crowded(stand, "plain", connections, stay_seconds, empty_kib=empty[False])
        tls = _crowded(stand, "tls", tls_connections, stay_seconds, empty_kib=empty[True], tls=True)
        stand.measure()
        return _result(stand, plain, tls)


def _result(stand: Stand, plain: dict[str, Any], tls: dict[str, Any]) -> dict[str, Any]:
    return {
        "benchmark": "memory",
        **plain,
        "tls": tls,
        "handshakes_per_second_max": HANDSHAKES_PER_SECOND,
        **stand.record(),
    }


def _arguments(channels: int) -> list[str]:
    return [
        *("--channels", str(channels)),
        *("--handshakes-per-second", str(HANDSHAKES_PER_SECOND)),
    ]


def _empty(stand: Stand, *, tls: bool) -> int:
    """KiB of a hub that has no channel and no connection."""
    folder = stand.sub("empty-tls" if tls else "empty")
    with payee(folder, _arguments(0), tls=tls) as (hub, _):
        return resident_kib(hub.process.pid)


def _crowded(
    stand: Stand,
    name: str,
    connections: int,
    stay_seconds: float,
    *,
    empty_kib: int,
    tls: bool = False,
) -> dict[str, Any]:
    """Connect all, let each pay once and stay; restart the hub, and let all come back at once."""
    folder = stand.sub(name)
    with ExitStack() as stack:
        hub, pin = stack.enter_context(payee(folder, _arguments(connections), tls=tls))
        crowd = stack.enter_context(generator(folder, connections, pin))
        channels_kib = resident_kib(hub.process.pid)
        kernel_before = _kernel_kib()
        crowd.do("port", int(hub.process.ready["port"]))
        connected = crowd.do("connect")
        expect("connected wallets", connected["connected"], connections)
        crowd.do("pay", 1)
        stayed = crowd.do("stay", stay_seconds)["connected"]
        expect("wallets that stayed connected", stayed, connections)
        resident = resident_kib(hub.process.pid)
        kernel_kib = _kernel_kib() - kernel_before
        expect("connections at the end", hub.end()["connections_at_end"], connections)
        crowd.do("hang-up")
        again, _ = stack.enter_context(payee(folder, _arguments(connections), tls=tls))
        crowd.do("port", int(again.process.ready["port"]))
        storm = crowd.do("storm")
        expect("wallets that came back", storm["connected"], connections)
        crowd.do("pay", 1)
        said = again.end()
        expect("connections after the storm", said["connections_at_end"], connections)
    checked = check_hub(folder, [2] * connections)
    return {
        "kib_per_connection": round((resident - empty_kib) / connections, 2),
        "kib_per_channel": round((channels_kib - empty_kib) / connections, 2),
        "kernel_kib_per_connection": round(kernel_kib / connections, 2),
        "connections": connections,
        "disconnected": connections - stayed,
        "hub_resident_kib": resident,
        "hub_empty_kib": empty_kib,
        "connect_seconds": connected["seconds"],
        "connect_tries": connected["tries"],
        "storm_seconds": storm["seconds"],
        "storm_tries": storm["tries"],
        "storm_hub_cpu_seconds": said["cpu_seconds"],
        "limits_hit_in_storm": said["limits_hit"],
        "checked": checked,
    }


def _kernel_kib() -> int:
    """KiB of the kernel's slabs and TCP buffers, of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    slab = next((int(line.split()[1]) for line in lines if line.startswith("Slab:")), 0)
    sockets = Path("/proc/net/sockstat").read_text().split()
    pages = int(sockets[sockets.index("mem") + 1]) if "mem" in sockets else 0
    return slab + 4 * pages
