"""The control socket: what a command asks, what it hears, and what cannot take the process down."""

import json
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client import control
from farthing.channels.client.control import (
    ControlUnusable,
    NotRunning,
    RemoteRefusal,
    RemoteUncertainty,
    call_control,
    read_answer,
    serve_control,
)
from farthing.channels.errors import ChainError, FarthingError, LocalError


class Refusal(LocalError):
    """Something that is not allowed."""

    code = "refusal"
    remedy = "do something else"


class Silence(ChainError):
    """No answer."""

    code = "silence"
    remedy = "wait"


async def echo(params: Mapping[str, Any]) -> Any:
    return dict(params)


async def refuse(_: Mapping[str, Any]) -> Any:
    raise Refusal("no")


async def silent(_: Mapping[str, Any]) -> Any:
    raise Silence("nothing")


async def large(_: Mapping[str, Any]) -> Any:
    return ["x" * 1000] * 5000


METHODS = {"echo": echo, "refuse": refuse, "silent": silent, "large": large}


@pytest.fixture
async def place(tmp_path: Path, nursery: trio.Nursery) -> Path:
    """A served socket."""
    path = tmp_path / "control.sock"
    await nursery.start(serve_control, path, METHODS)
    return path


async def call(path: Path, method: str, **params: Any) -> Any:
    return await trio.to_thread.run_sync(lambda: call_control(path, method, params))


async def said(path: Path, sent: bytes) -> bytes:
    """Everything that the socket answers to these bytes."""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(sent)
        await stream.send_eof()
        data = b""
        with trio.fail_after(10):
            async for part in stream:
                data += part
        return data


async def test_a_method_is_asked_and_answers(place: Path) -> None:
    assert await call(place, "echo", a=1, text="µ¢") == {"a": 1, "text": "µ¢"}
    assert stat.S_IMODE((await trio.Path(place).stat()).st_mode) == 0o600


async def test_a_refusal_comes_across_with_code_and_advice(place: Path) -> None:
    with pytest.raises(RemoteRefusal) as caught:
        await call(place, "refuse")
    refusal = caught.value
    assert (refusal.code, refusal.text, refusal.what_to_do) == (
        "refusal",
        "no",
        "do something else",
    )
    with pytest.raises(RemoteUncertainty) as silence:
        await call(place, "silent")
    assert silence.value.code == "silence"


async def test_an_answer_may_be_large(place: Path) -> None:
    assert len(await call(place, "large")) == 5000


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"nonsense\n",
        b"[1]\n",
        b'{"method": "echo"}\n',
        b'{"method": "nothing", "params": {}}\n',
        b'{"method": ["echo"], "params": {}}\n',
        b'{"method": "echo", "params": []}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
async def test_a_malformed_request_is_refused_and_the_next_is_served(
    place: Path, sent: bytes
) -> None:
    answer = json.loads(await said(place, sent))
    assert answer["error"]["code"] == "malformed-request"
    assert await call(place, "echo") == {}


async def test_a_request_without_end_is_dropped(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await said(place, b"") == b""
    assert await said(place, b'{"method"') == b""
    monkeypatch.setattr(control, "LINE_BYTES_MAX", 100)
    assert await said(place, b"x" * 200) == b""
    assert await call(place, "echo") == {}


async def test_commands_that_say_nothing_do_not_keep_others_out(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_SECONDS_MAX", 0.05)
    idle = [await trio.open_unix_socket(str(place)) for _ in range(control.CONNECTIONS_MAX)]
    with trio.fail_after(10):
        assert await call(place, "echo") == {}
    for stream in idle:
        await stream.aclose()


async def test_a_command_that_was_interrupted_does_no_harm(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path = tmp_path / "control.sock"
    asked, go_on, answered = trio.Event(), trio.Event(), trio.Event()

    async def slow(_: Mapping[str, Any]) -> Any:
        asked.set()
        await go_on.wait()
        answered.set()
        return ["x" * 1000] * 5000  # more than a socket's buffer holds

    await nursery.start(serve_control, path, {"slow": slow, "echo": echo})
    stream = await trio.open_unix_socket(str(path))
    await stream.send_all(b'{"method": "slow", "params": {}}\n')
    await asked.wait()
    await stream.aclose()
    go_on.set()
    await answered.wait()
    assert await call(path, "echo") == {}


async def test_where_nothing_runs_a_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="nothing answers"):
        await call(tmp_path / "none.sock", "echo")
    left = socket.socket(socket.AF_UNIX)  # as a killed process leaves it
    left.bind(str(tmp_path / "left.sock"))
    left.close()
    with pytest.raises(NotRunning):
        await call(tmp_path / "left.sock", "echo")


async def test_a_socket_that_a_killed_process_left_is_replaced(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path = tmp_path / "control.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    await nursery.start(serve_control, path, METHODS)
    assert await call(path, "echo") == {}


async def test_a_process_that_ends_before_its_answer_leaves_it_open_what_is_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def end_early() -> None:
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, end_early)
        with pytest.raises(RemoteUncertainty, match="it ended"):
            await call(path, "echo")
    with pytest.raises(RemoteUncertainty, match="timed out"):
        await trio.to_thread.run_sync(lambda: call_control(path, "echo", {}, timeout_seconds=0.05))
    listener.close()


async def test_a_deep_folder_has_a_socket_too(tmp_path: Path, nursery: trio.Nursery) -> None:
    deep = tmp_path.joinpath(*["a" * 60] * 3)
    deep.mkdir(parents=True)
    await nursery.start(serve_control, deep / "control.sock", METHODS)
    assert await call(deep / "control.sock", "echo") == {}


async def test_a_socket_that_cannot_be_made_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ControlUnusable, match="no socket can be made"):
        await serve_control(tmp_path / "none" / "control.sock", METHODS)


async def test_the_socket_is_gone_when_the_process_stops(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, METHODS)
        assert path.exists()
        nursery.cancel_scope.cancel()
    assert not path.exists()
    assert issubclass(ControlUnusable, FarthingError)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]\n",
        b"{}\n",
        b'{"error":[]}\n',
        b'{"error":{"text":"t"}}\n',
        b'{"error":{"kind":"local","code":"","text":"t","what_to_do":""}}\n',
    ],
)
def test_an_answer_of_another_program_leaves_it_open_what_is_so(line: bytes) -> None:
    with pytest.raises(RemoteUncertainty) as caught:
        read_answer(Path("control.sock"), line)
    assert caught.value.what_to_do
