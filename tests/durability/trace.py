"""What strace wrote, as calls with a beginning and an end, in the order in which they happened.

Only the order of lines is used within a process. A thread waits for strace at both ends of a call,
so what it does because a call has returned stands after that return.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    # files
    *("openat", "open", "creat", "close", "dup", "dup2", "dup3", "lseek", "mmap", "msync"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "truncate", "ftruncate", "fallocate"),
    *("sendfile", "splice", "copy_file_range", "io_uring_setup"),
    # names
    *("unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink"),
    *("symlinkat", "mkdir", "mkdirat", "rmdir"),
    # the disk
    *("fsync", "fdatasync", "sync", "syncfs", "sync_file_range"),
    # who calls
    *("clone", "clone3", "fork", "vfork"),
    # what leaves
    *("sendto", "sendmsg", "sendmmsg"),
)

_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_WHOLE = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)")
_BEGIN = re.compile(r"(\w+)\((.*?),? <unfinished \.\.\.>")
_END = re.compile(r"<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)")
_GONE = re.compile(r"\+\+\+ (exited with|killed by) (\w+)(?: \(core dumped\))? \+\+\+")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_ERROR = re.compile(r" (E[A-Z0-9]+) ")
_TOOK = re.compile(r"<(\d+\.\d+)>$")
_IDLE = (", MAP_PRIVATE", " = -1 ENOENT ")
"""Most of what a Python does before it begins: memory of its own, files that are not there."""
_PATH = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_SOCKET = re.compile(r"\d+<((?:TCP|TCPv6|UNIX|UNIX-STREAM):\[.*?\])>")


class Unreadable(Exception):
    """A line that this reader does not know: a check that skipped it would prove nothing."""


@dataclass(eq=False)
class Call:
    """One call; one that never returned has no result and never ends."""

    thread: int
    name: str
    arguments: str
    begins: float
    ends: float = float("inf")
    result: int | None = None
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return self.result is not None and self.result >= 0

    @property
    def descriptor(self) -> int:
        """The descriptor that the call works on."""
        return int(self.arguments.split("<", 1)[0].split(",", 1)[0])

    def texts(self) -> list[bytes]:
        """The strings among the arguments, whole; a socket's name is none of them."""
        found = []
        socket = _SOCKET.match(self.arguments)
        for text, cut in _TEXT.findall(self.arguments, socket.end() if socket else 0):
            if cut:
                raise Unreadable(f"{self.name} has more bytes than were recorded")
            found.append(unhex(text))
        return found

    def paths(self) -> list[str]:
        """The paths of descriptors among the arguments, `AT_FDCWD` included."""
        return [unhex(path).decode() for _, path in _PATH.findall(self.arguments)]

    def numbers(self) -> list[int]:
        """The arguments that are plain numbers."""
        return [int(a) for a in self.arguments.split(", ") if re.fullmatch(r"-?\d+", a)]

    def socket(self) -> str | None:
        """The socket that the call works on, as strace shows it."""
        found = _SOCKET.match(self.arguments)
        return found and found[1]


@dataclass(frozen=True)
class Edge:
    """A call's beginning or its end."""

    call: Call
    is_end: bool

    @property
    def at(self) -> float:
        return self.call.ends if self.is_end else self.call.begins


@dataclass(frozen=True)
class Trace:
    """Every edge in order; `ended` says how the first thread went, or is empty if it did not."""

    edges: tuple[Edge, ...]
    ended: str

    def calls(self, *names: str) -> Iterator[Call]:
        return (e.call for e in self.edges if not e.is_end and e.call.name in names)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def read_trace(path: Path) -> Trace:
    """Read a whole trace; raises `Unreadable`."""
    reader = _Reader()
    for line in path.read_text().splitlines():
        if any(part in line for part in _IDLE) and "unfinished" not in line:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise Unreadable(line[:200])
        reader.take(int(match[1]), float(match[2]), match[3])
    others = _other_processes(reader.edges)
    edges = [edge for edge in reader.edges if edge.call.thread not in others]
    return Trace(tuple(edges), reader.ended)


def _other_processes(edges: list[Edge]) -> set[int]:
    """Processes that the first one started: their descriptors are their own."""
    others: set[int] = set()
    for edge in edges:  # a parent's call begins before its child's first
        call = edge.call
        starts = not edge.is_end and call.name in ("clone", "clone3", "fork", "vfork")
        is_thread = "CLONE_THREAD" in call.arguments and call.thread not in others
        if starts and not is_thread and call.result:
            others.add(call.result)
    return others


class _Reader:
    def __init__(self) -> None:
        self.edges: list[Edge] = []
        self.ended = ""
        self._first: int | None = None
        self._open: dict[int, Call] = {}

    def take(self, thread: int, at: float, rest: str) -> None:
        if self._first is None:
            self._first = thread
        if rest.startswith("--- "):
            return  # a signal
        if gone := _GONE.fullmatch(rest):
            self._open.pop(thread, None)
            self.ended = gone[2] if thread == self._first else self.ended
        elif begin := _BEGIN.fullmatch(rest):
            self._begin(Call(thread, begin[1], begin[2], at))
        elif end := _END.fullmatch(rest):
            call = self._open.pop(thread)
            call.arguments += end[2]
            self._end(call, end[3], end[4], at)
        elif whole := _WHOLE.fullmatch(rest):
            call = Call(thread, whole[1], whole[2], at)
            took = _TOOK.search(whole[4])
            self._begin(call)
            self._end(
                self._open.pop(thread), whole[3], whole[4], at + float(took[1] if took else 0)
            )
        else:
            raise Unreadable(rest[:200])

    def _begin(self, call: Call) -> None:
        self._open[call.thread] = call
        self.edges.append(Edge(call, is_end=False))

    def _end(self, call: Call, result: str, tail: str, at: float) -> None:
        call.result = None if result == "?" else int(result, 0)
        error = _ERROR.match(tail)
        call.error = error[1] if error and call.result == -1 else ""
        call.ends = at
        self.edges.append(Edge(call, is_end=True))
