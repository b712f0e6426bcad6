"""The chain under the tests: the devnet, anvil, or anvil behind the proxy that looks like QBFT.

FARTHING_TEST_CHAIN chooses: devnet (the default), anvil, qbft. The last two need the binary that
`sh ./run clients` installs; `sh ./run anvil` and `sh ./run qbft` run the node's tests on them.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from farthing.devnet.evm import GAS_LIMIT
from farthing.devnet.faults.qbft_proxy import QbftProxy
from farthing.devnet.opening import CHAIN_ID_DEFAULT
from farthing.devnet.up import DevnetConfig, serve

CHAIN: Final = os.environ.get("FARTHING_TEST_CHAIN", "devnet")
CHAINS: Final = ("devnet", "anvil", "qbft")
CLIENTS: Final = Path(__file__).parent / "clients"
START_SECONDS: Final = 60


@contextmanager
def served_chain() -> Iterator[str]:
    """The chain that the tests are run on, empty, with a block for each transaction; its URL."""
    if CHAIN not in CHAINS:
        raise ValueError(f"FARTHING_TEST_CHAIN={CHAIN}: one of {', '.join(CHAINS)}")
    if CHAIN == "devnet":
        with served_devnet() as url:
            yield url
        return
    with served_anvil() as url:
        if CHAIN == "anvil":
            yield url
            return
        with served_qbft(url) as proxied:
            yield proxied


@contextmanager
def served_qbft(upstream: str) -> Iterator[str]:
    """The proxy that makes a node look like a QBFT chain, in a thread with its own loop."""

    async def start(nursery: trio.Nursery) -> str:
        async def keep(task_status: trio.TaskStatus[str]) -> None:
            async with QbftProxy(upstream) as proxy:
                task_status.started(proxy.url)
                await trio.sleep_forever()

        url: str = await nursery.start(keep)
        return url

    with _in_thread(start) as url:
        yield url


@contextmanager
def served_devnet() -> Iterator[str]:
    """A devnet in a thread with its own loop, until the block ends; gives its URL."""

    async def start(nursery: trio.Nursery) -> str:
        running = await nursery.start(serve, DevnetConfig(port=0, block_time_ms=0))
        url: str = running.rpc_url
        return url

    with _in_thread(start) as url:
        yield url


@contextmanager
def _in_thread(start: Callable[[trio.Nursery], Awaitable[str]]) -> Iterator[str]:
    """What `start` starts, in a thread with a loop of its own, until the block ends."""
    ready: list[str] = []
    started = threading.Event()
    control: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            ready.append(await start(nursery))
            control.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.set()

    thread = threading.Thread(target=trio.run, args=(run,), daemon=True)
    thread.start()
    assert started.wait(START_SECONDS)
    try:
        yield ready[0]
    finally:
        token, scope = control[0]
        token.run_sync_soon(scope.cancel)
        thread.join(30)


# -- anvil ----------------------------------------------------------------------------------------


def anvil_binary() -> Path:
    """Foundry's own binary, which npm put there; not the script beside it, which starts it."""
    found = sorted(CLIENTS.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))
    assert found, "anvil is not installed: sh ./run clients installs it"
    return found[0]


@contextmanager
def served_anvil(*options: str) -> Iterator[str]:
    """Anvil as near to the devnet as its flags allow: the same chain id, accounts, fork and gas."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    # It needs a port that is free: nothing else on this machine was given this one just now.
    command = [
        *(str(anvil_binary()), "--silent", "--port", str(port)),
        *("--chain-id", str(CHAIN_ID_DEFAULT), "--hardfork", "prague"),
        *("--gas-limit", str(GAS_LIMIT), "--gas-price", "0", "--base-fee", "0"),
        "--disable-min-priority-fee",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_ready(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    while True:
        assert process.poll() is None, f"anvil ended with {process.returncode}"
        try:
            answer: dict[str, Any] = httpx.post(url, json=request, trust_env=False).json()
        except httpx.TransportError:
            assert time.monotonic() < deadline, "anvil does not answer"
            threading.Event().wait(0.05)
            continue
        assert answer["result"] == hex(CHAIN_ID_DEFAULT), answer
        return
