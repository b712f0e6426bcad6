"""The model of a disk and the reader of traces, on calls that are written out here."""

import random
from pathlib import Path

import pytest

from .disk import Descriptors, Disk
from .trace import Trace, Unreadable, read_trace

LOG = "data.log"


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


class Calls:
    """Writes a trace as strace would, of a process that works in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lines: list[str] = []

    def line(self, text: str, thread: int = 7) -> None:
        self._lines.append(f"{thread} {1000 + len(self._lines)}.000000 {text}\n")

    def path(self, name: str = LOG) -> str:
        return hexed(str(self.root / name) if name else str(self.root))

    def open(self, name: str = LOG, flags: str = "O_RDWR|O_CREAT", fd: int = 3) -> None:
        place = f"AT_FDCWD<{hexed('/')}>"
        self.line(
            f'openat({place}, "{self.path(name)}", {flags}, 0600) = {fd}<{self.path(name)}> <0.1>'
        )

    def write(self, text: str, offset: int, fd: int = 3) -> None:
        data = f'"{hexed(text)}", {len(text)}, {offset}'
        self.line(f"pwrite64({fd}<{self.path()}>, {data}) = {len(text)} <0.000010>")

    def sync(self, name: str = LOG, fd: int = 3, result: str = "0") -> None:
        self.line(f"fdatasync({fd}<{self.path(name)}>) = {result} <0.000010>")

    def trace(self) -> Trace:
        path = self.root.parent / "trace"
        path.write_text("".join(self._lines))
        return read_trace(path)

    def disk(self) -> Disk:
        disk = Disk(self.root)
        descriptors = Descriptors(disk)
        for edge in self.trace().edges:
            descriptors.take(edge)
        return disk


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    root = tmp_path / "root"
    root.mkdir()
    return Calls(root)


@pytest.fixture
def known(calls: Calls) -> Calls:
    """A log that was there, and is open as 3."""
    (calls.root / LOG).write_bytes(b"....")
    calls.open()
    return calls


def torn_contents(disk: Disk, sector: int = 512) -> set[bytes | None]:
    dice = random.Random(1)  # noqa: S311 - the same each time
    return {disk.torn(dice, sector).get(LOG) for _ in range(64)}


def test_what_is_written_is_durable_once_it_is_synced(known: Calls) -> None:
    known.write("ab", 1)
    assert known.disk().synced() == {LOG: b"...."}
    assert known.disk().seen() == {LOG: b".ab."}
    assert torn_contents(known.disk()) == {b"....", b".ab."}
    known.sync()
    assert known.disk().synced() == {LOG: b".ab."}
    assert torn_contents(known.disk()) == {b".ab."}


def test_a_sync_does_not_cover_what_is_written_while_it_runs(known: Calls) -> None:
    known.write("a", 0)
    known.line(f"fdatasync(3<{known.path()}> <unfinished ...>", thread=8)
    known.write("b", 1)
    assert known.disk().synced() == {LOG: b"...."}
    known.line("<... fdatasync resumed>) = 0 <0.000100>", thread=8)
    assert known.disk().synced() == {LOG: b"a..."}
    known.sync()
    assert known.disk().synced() == {LOG: b"ab.."}


def test_what_a_failed_sync_left_out_no_later_sync_brings_back(known: Calls) -> None:
    known.write("ab", 0)
    known.sync(result="-1 EIO (Input/output error) (INJECTED)")
    known.write("c", 2)
    known.sync()
    disk = known.disk()
    assert disk.synced() == {LOG: b"..c."}
    assert disk.seen() == {LOG: b"abc."}
    assert torn_contents(disk) == {b"..c.", b"abc."}


def test_a_write_over_two_sectors_may_be_there_in_part(known: Calls) -> None:
    known.write("ab" * 2, 510)
    whole = b"....".ljust(510, b"\0")
    assert torn_contents(known.disk()) == {
        b"....",
        whole + b"ab",
        whole + b"\0\0ab",
        whole + b"abab",
    }
    assert torn_contents(known.disk(), 4096) == {b"....", whole + b"abab"}


def test_a_file_ends_where_it_was_cut_once_that_is_synced(known: Calls) -> None:
    known.line(f"ftruncate(3<{known.path()}>, 1) = 0 <0.000010>")
    assert known.disk().synced() == {LOG: b"...."}
    known.sync()
    assert known.disk().synced() == {LOG: b"."}


def test_a_new_file_is_there_once_its_folder_is_synced(calls: Calls) -> None:
    calls.open()
    calls.write("a", 0)
    calls.sync()
    assert calls.disk().synced() == {}
    assert torn_contents(calls.disk()) == {None, b"a"}
    calls.open("", "O_RDONLY|O_DIRECTORY", fd=4)
    calls.sync("", fd=4)
    assert calls.disk().synced() == {LOG: b"a"}


def test_what_is_in_a_new_folder_is_there_once_the_folder_s_own_name_is(calls: Calls) -> None:
    calls.line(f'mkdir("{calls.path("sub")}", 0700) = 0 <0.000010>')
    calls.open("sub/x")
    calls.open("sub", "O_RDONLY|O_DIRECTORY", fd=4)
    calls.sync("sub", fd=4)
    assert calls.disk().synced() == {}
    calls.open("", "O_RDONLY|O_DIRECTORY", fd=5)
    calls.sync("", fd=5)
    assert calls.disk().synced() == {"sub/x": b""}


def test_a_name_that_is_changed_or_removed_is_the_old_one_until_its_folder_is_synced(
    known: Calls,
) -> None:
    known.open("draft", fd=4)
    known.line(f'rename("{known.path("draft")}", "{known.path()}") = 0 <0.000010>')
    assert known.disk().synced() == {LOG: b"...."}
    known.open("", "O_RDONLY|O_DIRECTORY", fd=5)
    known.sync("", fd=5)
    assert known.disk().synced() == {LOG: b""}
    known.line(f'unlink("{known.path()}") = 0 <0.000010>')
    assert known.disk().synced() == {LOG: b""}
    known.sync("", fd=5)
    assert known.disk().synced() == {}


@pytest.mark.parametrize(
    "call",
    [
        'writev(3<{path}>, [{{iov_base="\\x61", iov_len=1}}], 1) = 1 <0.1>',
        'linkat(AT_FDCWD<{root}>, "{path}", AT_FDCWD<{root}>, "{path}", 0) = 0 <0.1>',
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{path}>, 0) = 0x7f00 <0.1>",
        "dup(3<{path}>) = 9 <0.1>",
        "sync() = 0 <0.1>",
    ],
)
def test_a_call_that_is_not_modelled_is_not_passed_over(known: Calls, call: str) -> None:
    known.line(call.format(path=known.path(), root=known.path("")))
    with pytest.raises(Unreadable):
        known.disk()


def test_what_another_process_does_with_its_own_descriptors_is_left_out(known: Calls) -> None:
    known.line("vfork( <unfinished ...>")
    known.line("clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 9 <0.1>", thread=8)
    known.line(f"close(3<{known.path()}>) = 0 <0.1>", thread=8)
    known.line(f"close(3<{known.path()}>) = 0 <0.1>", thread=9)
    known.line("<... vfork resumed>) = 8 <0.1>")
    known.write("a", 0)
    known.sync()
    assert known.disk().synced() == {LOG: b"a..."}


def test_a_file_that_nobody_opened_is_not_passed_over(known: Calls) -> None:
    known.line(f"close(3<{known.path()}>) = 0 <0.1>")
    known.write("a", 0)
    with pytest.raises(Unreadable, match="nobody opened"):
        known.disk()


def test_a_line_that_is_not_understood_is_not_passed_over(known: Calls) -> None:
    known.line("something new")
    with pytest.raises(Unreadable):
        known.trace()


def test_bytes_that_were_cut_off_are_not_taken_for_all(known: Calls) -> None:
    known.line(f'pwrite64(3<{known.path()}>, "\\x61"..., 9, 0) = 9 <0.1>')
    with pytest.raises(Unreadable, match="more bytes"):
        known.disk()
