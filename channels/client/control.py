"""A Unix socket by which commands reach a running process: one JSON object a line, each way.

Request: {"method": name, "params": {…}}. Answer: {"result": …} or {"error": {"kind", "code",
"text", "what_to_do"}}. The socket has mode 0600; who may write it may use the process's money.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from .. import bounded_json
from ..errors import ChainError, FarthingError, LocalError

LINE_BYTES_MAX = 2**20
"""A request: the largest holds one pack of readings, or a hundred pairs of addresses."""
ANSWER_BYTES_MAX = 64 * 2**20
"""An answer: a row for each of a large hub's channels; more belongs into a file."""
CONNECTIONS_MAX = 16
REQUEST_SECONDS_MAX = 10
"""A command writes its line at once; one that does not would keep others out."""
CALL_SECONDS_MAX = 120
SOCKET_NAME_BYTES_MAX = 103
"""Of `sun_path`: 108 with the end mark on Linux, 104 on other systems."""

_ERROR_KEYS = ("kind", "code", "text", "what_to_do")

Method = Callable[[Mapping[str, Any]], Awaitable[Any]]


class NotRunning(LocalError):
    """Nothing answers on the socket."""

    code = "not-running"
    remedy = "start it first, and give the same folder"
    retryable = True


class ControlUnusable(LocalError):
    """The socket cannot be made."""

    code = "control-unusable"
    remedy = "check that the folder exists, may be written, and that its path is short"


class MalformedRequest(LocalError):
    """A request that is no JSON object with a known method."""

    code = "malformed-request"
    remedy = "use the farthing command of the same version"


class RemoteRefusal(LocalError):
    """The running process refused; its text and advice are passed on."""

    code = "refused"


class RemoteUncertainty(ChainError):
    """The running process could not tell, as the chain gave it no answer, or did not answer."""

    code = "uncertain"
    remedy = "look at its status and its log: what was asked may have been done"


async def serve_control(
    path: Path,
    methods: Mapping[str, Method],
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; a socket file left by a killed process is replaced."""
    place = trio.Path(path)
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            await place.unlink(missing_ok=True)
            with _short(path) as name, _for_the_owner():
                await sock.bind(name)
            await place.chmod(0o600)
        except OSError as error:
            raise ControlUnusable(f"no socket can be made at {path} ({error})") from None
        sock.listen(CONNECTIONS_MAX)
        limiter = trio.CapacityLimiter(CONNECTIONS_MAX)

        async def one(stream: trio.SocketStream) -> None:
            async with limiter, stream:
                await _answer(stream, methods)

        await trio.serve_listeners(one, [trio.SocketListener(sock)], task_status=task_status)
    finally:
        sock.close()
        with trio.CancelScope(shield=True):
            await place.unlink(missing_ok=True)


@contextmanager
def _for_the_owner() -> Iterator[None]:
    """Make what is made meanwhile for its owner alone: a socket takes its mode from the umask.

    The umask is the process's: what else is made in this moment is as tight.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name of the socket that fits: the kernel takes 107 bytes, folders may be deeper."""
    name = str(path)
    if len(os.fsencode(name)) <= SOCKET_NAME_BYTES_MAX or not Path("/proc/self/fd").is_dir():
        yield name
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def _answer(stream: trio.SocketStream, methods: Mapping[str, Method]) -> None:
    try:
        line = None
        with trio.move_on_after(REQUEST_SECONDS_MAX):
            line = await _read_line(stream)
        if line is None:
            return
        try:
            answer: dict[str, Any] = {"result": await _call(line, methods)}
        except FarthingError as error:
            answer = {"error": _error_record(error)}
        with trio.move_on_after(CALL_SECONDS_MAX):  # to one that does not read it
            await stream.send_all(json.dumps(answer).encode() + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # the command was interrupted; what it asked for is done or not, as it reads later


async def _call(line: bytes, methods: Mapping[str, Method]) -> Any:
    try:
        request = bounded_json.parse(line)
        method, params = methods[request["method"]], request["params"]
    except (ValueError, KeyError, TypeError):
        raise MalformedRequest("the request is no JSON object with a known method") from None
    if not isinstance(params, dict):
        raise MalformedRequest("the request's params are no JSON object")
    return await method(params)


def _error_record(error: FarthingError) -> dict[str, str]:
    kind = "chain" if isinstance(error, ChainError) else "local"
    return {"kind": kind, "code": error.code, "text": error.text, "what_to_do": error.what_to_do}


async def _read_line(stream: trio.SocketStream) -> bytes | None:
    data = bytearray()
    while not data.endswith(b"\n"):
        if len(data) > LINE_BYTES_MAX:
            return None
        part = await stream.receive_some(2**16)
        if not part:
            return None
        data += part
    return bytes(data)


def call_control(
    path: Path, method: str, params: Mapping[str, Any], *, timeout_seconds: float = CALL_SECONDS_MAX
) -> Any:
    """Ask a running process, blocking; raises what the process answered.

    Raises `NotRunning` where nothing was asked, `RemoteUncertainty` where no answer came.
    """
    request = json.dumps({"method": method, "params": dict(params)}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_seconds)
        try:
            with _short(path) as name:
                sock.connect(name)
        except OSError as error:
            raise NotRunning(f"nothing answers at {path} ({error})") from error
        try:
            sock.sendall(request)
            with sock.makefile("rb") as file:
                line = file.readline(ANSWER_BYTES_MAX)
        except OSError as error:
            raise RemoteUncertainty(f"the process at {path} gave no answer ({error})") from None
    return read_answer(path, line)


def read_answer(path: Path, line: bytes) -> Any:
    """The result in a line of answer; raises what it says, or `RemoteUncertainty`."""
    try:
        answer = bounded_json.parse(line)
    except ValueError:
        raise RemoteUncertainty(f"the process at {path} gave no answer (it ended)") from None
    if isinstance(answer, dict) and _is_error(answer.get("error")):
        raise _remote_error(answer["error"])
    if not isinstance(answer, dict) or "result" not in answer:
        raise RemoteUncertainty(f"what answers at {path} is no farthing of this version")
    return answer["result"]


def _is_error(record: object) -> bool:
    if not isinstance(record, dict) or not record.get("code"):
        return False
    return all(isinstance(record.get(key), str) for key in _ERROR_KEYS)


def _remote_error(record: Mapping[str, str]) -> FarthingError:
    base = RemoteUncertainty if record["kind"] == "chain" else RemoteRefusal
    kind = type(base.__name__, (base,), {"code": record["code"]})  # a program needs its reason
    error: FarthingError = kind(record["text"], remedy=record["what_to_do"])
    return error
