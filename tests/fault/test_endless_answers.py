"""Endpoints that never stop answering: whoever asks has a bound, and says that it was met."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from farthing.channels.client import chain as chain_module
from farthing.channels.client.chain import ChainReader, SearchEndless
from farthing.channels.client.rpc import RpcClient
from farthing.channels.ids import Address
from farthing.devnet.faults.rpc_faults import Fault, RpcFault
from farthing.devnet.faults.rpc_proxy import RpcProxy
from farthing.node.audit import rpc as audit_rpc
from farthing.node.audit.errors import RpcAnswerTooLarge, RpcUnreachable
from farthing.node.audit.rpc import HttpRpc

from ..hub_world import City, farthing_beside

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def answering(write: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes one request and answers as it is told; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                try:
                    write(connection)
                except OSError:
                    return  # whoever asked has gone, as it should

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(20)
        assert not thread.is_alive()


def ask(url: str) -> None:
    with HttpRpc(url) as rpc:
        rpc.call_many("eth_getLogs", [({},)])


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")


def dripping(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        connection.sendall(b" ")
        if threading.Event().wait(0.01):
            return


def compressed(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n")


def test_an_auditor_reads_no_more_of_an_answer_than_its_bound() -> None:
    with answering(endless) as url, pytest.raises(RpcAnswerTooLarge, match="33,554,432 bytes"):
        ask(url)


def test_an_auditor_does_not_wait_for_ever_for_an_answer_that_drips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_rpc, "_WHOLE_SECONDS_MAX", 0.2)
    with answering(dripping) as url, pytest.raises(RpcUnreachable, match=r"over 0\.2 s"):
        ask(url)


def test_an_auditor_unpacks_no_answer_of_which_a_little_becomes_much() -> None:
    with answering(compressed) as url, pytest.raises(RpcUnreachable, match="compresses"):
        ask(url)


async def test_an_audit_of_an_endpoint_without_end_is_inconclusive(
    hub_city: City, tmp_path: Path
) -> None:
    (tmp_path / "receipts.jsonl").touch()
    with answering(endless) as url:
        ended = await farthing_beside(
            "audit",
            "check",
            *("--rpc", url, "--deployment", hub_city.deployment_file),
            *("--receipts", tmp_path / "receipts.jsonl"),
        )
    assert ended.code == 2
    assert "is longer than 33,554,432 bytes" in ended.out


async def test_a_search_for_channels_ends_where_the_head_is_made_up(
    hub_city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_module, "SEARCH_SECONDS_MAX", 0.5)
    async with RpcProxy(hub_city.rpc_url) as proxy, RpcClient(proxy.url) as client:
        reader = ChainReader(client, hub_city.deployment)
        assert await reader.channels_of(Address(b"\x07" * 20)) == ()
        await proxy.set(Fault(kind=RpcFault.FAR_NUMBER, blocks=2**60))
        with trio.fail_after(20), pytest.raises(SearchEndless, match=r"over 0\.5 s"):
            await reader.channels_of(Address(b"\x07" * 20))
        await proxy.set()
        assert await reader.channels_of(Address(b"\x07" * 20)) == ()
