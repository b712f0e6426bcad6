"""What a disk holds after a power cut: what was synced, and anything or nothing of the rest.

The model is meaner than any real disk. Content is durable once a sync that began after the write
has returned 0, and a name (made, changed or removed) once its folder was synced. Of all else each
sector may be there or not, in any order. What a failed sync should have written is never
written by a later one, although readers still see it: that is how Linux treats it.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path, PurePath

from .trace import Call, Edge, Unreadable

SECTORS = (512, 4096)
SHARED_MEMORY = "-shm"
"""SQLite's index of its log: made anew after a power cut, and never synced."""


class State(Enum):
    PENDING = "not synced"
    DURABLE = "synced"
    LOST = "its sync failed"


@dataclass(eq=False)
class Change:
    """A write or a truncation."""

    offset: int
    data: bytes | None
    """None: the file ends at `offset` from now on."""
    has_ended: bool = False
    state: State = State.PENDING


@dataclass(eq=False)
class File:
    """A file's synced content, and what was done to it since."""

    base: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)

    def settle(self) -> None:
        """Take up changes that every later state builds upon."""
        done = 0
        for change in self.changes:
            if change.state is not State.DURABLE:
                break
            apply(self.base, change)
            done += 1
        del self.changes[:done]

    def synced(self) -> bytes:
        """The content of which no byte needs luck."""
        content = bytearray(self.base)
        for change in self.changes:
            if change.state is State.DURABLE:
                apply(content, change)
        return bytes(content)

    def seen(self) -> bytes:
        """The content as readers see it while the power is on."""
        content = bytearray(self.base)
        for change in self.changes:
            apply(content, change)
        return bytes(content)

    def torn(self, dice: random.Random, sector: int) -> bytes:
        """The synced content with any sectors of the rest."""
        content = bytearray(self.base)
        for change in self.changes:
            if change.state is State.DURABLE:
                apply(content, change)
            elif change.data is None:
                if dice.random() < 0.5:
                    apply(content, change)
            else:
                for part in parts(change.offset, change.data, sector):
                    if dice.random() < 0.5:
                        apply(content, part)
        return bytes(content)


def apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    end = change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.offset : end] = change.data


def parts(offset: int, data: bytes, sector: int) -> list[Change]:
    """A write, cut where the disk's sectors meet."""
    cuts = [0, *range(sector - offset % sector, len(data), sector), len(data)]
    return [Change(offset + a, data[a:b]) for a, b in pairwise(cuts)]


class Folder(File):
    """Stands for a folder among the names."""


@dataclass(eq=False)
class Renaming:
    """Names that change at once; None: the name goes."""

    names: dict[str, File | None]


class Disk:
    """Everything under one folder; what was there before the first call is durable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: dict[str, File] = {}
        for path in root.rglob("*"):
            if path.is_dir():
                self.names[str(path)] = Folder()
            elif path.is_file():
                self.names[str(path)] = File(bytearray(path.read_bytes()))
        self.names[str(root)] = Folder()
        self._durable = dict(self.names)
        self._renamings: list[Renaming] = []
        self.version = 0
        """Rises with each sync that changed what is durable."""

    def rename(self, names: dict[str, File | None]) -> None:
        for name, file in names.items():
            if file is None:
                self.names.pop(name, None)
            else:
                self.names[name] = file
        self._renamings.append(Renaming(names))

    def begin_sync(self, file: File, path: str) -> Callable[[bool], None]:
        """What this sync covers is fixed when it begins; call the answer with how it ended."""
        if isinstance(file, Folder):
            covered = [r for r in self._renamings if any(parent(n) == path for n in r.names)]
            return lambda succeeded: self._end_folder(covered, succeeded=succeeded)
        changes = [c for c in file.changes if c.has_ended and c.state is State.PENDING]

        def end(succeeded: bool) -> None:
            if changes:
                self.version += 1
            for change in changes:
                change.state = State.DURABLE if succeeded else State.LOST
            file.settle()

        return end

    def _end_folder(self, covered: list[Renaming], *, succeeded: bool) -> None:
        if not succeeded:
            return
        for renaming in self._renamings:
            if renaming in covered:
                change(self._durable, renaming)
                self.version += 1
        self._renamings = [r for r in self._renamings if r not in covered]

    # -- after a power cut

    def synced(self) -> dict[str, bytes]:
        """Only what was synced."""
        return self._image(self._durable, File.synced)

    def torn(self, dice: random.Random, sector: int) -> dict[str, bytes]:
        """What was synced, and any part of what was not."""
        names = dict(self._durable)
        for renaming in self._renamings:
            if dice.random() < 0.5:
                change(names, renaming)
        return self._image(names, lambda file: file.torn(dice, sector))

    def seen(self) -> dict[str, bytes]:
        """What a killed process leaves while the power stays on."""
        return self._image(self.names, File.seen)

    def _image(self, names: dict[str, File], content: Callable[[File], bytes]) -> dict[str, bytes]:
        image = {}
        for name, file in names.items():
            if isinstance(file, Folder) or name.endswith(SHARED_MEMORY):
                continue
            folders = list(PurePath(name).parents)
            inside = folders[: folders.index(self.root)]
            if all(str(folder) in names for folder in inside):
                image[os.path.relpath(name, self.root)] = content(file)
        return image


def change(names: dict[str, File], renaming: Renaming) -> None:
    for name, file in renaming.names.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def parent(name: str) -> str:
    return str(PurePath(name).parent)


def write_image(image: dict[str, bytes], folder: Path) -> Path:
    """Put an image on a real disk, every file for its owner alone."""
    for name, content in image.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)
    return folder


class Descriptors:
    """One process's open files under the disk's root; feeds its calls to the disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[int, tuple[str, File, int]] = {}
        self._syncs: dict[Call, Callable[[bool], None]] = {}
        self._changes: dict[Call, Change] = {}
        self._handlers: dict[str, Callable[[Call, bool], None]] = {
            "openat": self._openat,
            "close": self._close,
            "dup": self._dup,
            "dup2": self._dup,
            "dup3": self._dup,
            "lseek": self._lseek,
            "mmap": self._mmap,
            "write": self._write,
            "pwrite64": self._pwrite64,
            "ftruncate": self._ftruncate,
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "mkdir": self._mkdir,
            "unlink": self._unlink,
            "rename": self._rename,
            "link": self._link,
            # Threads share what is open, and other processes are left out of a trace.
            **dict.fromkeys(("clone", "clone3", "fork", "vfork"), self._no_file),
            # What leaves is no file; see `said`.
            **dict.fromkeys(("sendto", "sendmsg"), self._no_file),
        }

    def take(self, edge: Edge) -> None:
        """Follow one edge; raises `Unreadable` for a call whose effect is not modelled."""
        self._handlers.get(edge.call.name, self._unknown)(edge.call, edge.is_end)

    def will_sync(self, edge: Edge) -> bool:
        """Whether this edge changes what is durable."""
        return edge.is_end and edge.call in self._syncs

    def _unknown(self, call: Call, is_end: bool) -> None:
        if call.name in ("sync", "syncfs", "sync_file_range", "io_uring_setup"):
            raise Unreadable(f"{call.name} is not modelled")
        named = (self._path(text.decode()) for text in call.texts())
        touched = [*call.paths(), *(n for n in named if n is not None)]
        if any(self._is_inside(path) for path in touched):
            raise Unreadable(f"{call.name} is not modelled: {touched}")

    def _is_inside(self, path: str) -> bool:
        return PurePath(path).is_relative_to(self._disk.root)

    def _path(self, text: str, base: str = "") -> str | None:
        path = os.path.normpath(PurePath(base, text))
        return path if self._is_inside(path) else None

    def _named(self, call: Call) -> list[str | None]:
        """The paths that the call names by text."""
        bases = call.paths() or [""]
        texts = [text.decode() for text in call.texts()]
        return [self._path(t, bases[min(i, len(bases) - 1)]) for i, t in enumerate(texts)]

    def _opened(self, call: Call) -> tuple[str, File, int] | None:
        """What the call's descriptor stands for; None where that is outside."""
        found = self._open.get(call.descriptor)
        if found is None and any(self._is_inside(path) for path in call.paths()[:1]):
            raise Unreadable(f"{call.name} of {call.paths()[0]}, which nobody opened")
        return found

    # -- opening and closing

    def _openat(self, call: Call, is_end: bool) -> None:
        if not is_end or not call.succeeded or call.result is None:
            return
        (path,) = self._named(call)
        if path is None:
            self._open.pop(call.result, None)
            return
        file = self._disk.names.get(path)
        if file is None:
            if "O_CREAT" not in call.arguments:
                raise Unreadable(f"{path} was opened, and nobody made it")
            file = File()
            self._disk.rename({path: file})
        if "O_TRUNC" in call.arguments:
            file.changes.append(Change(0, None, has_ended=True))
        position = len(file.seen()) if "O_APPEND" in call.arguments else 0
        self._open[call.result] = path, file, position

    def _close(self, call: Call, is_end: bool) -> None:
        if not is_end:
            self._open.pop(call.descriptor, None)

    def _dup(self, call: Call, is_end: bool) -> None:
        if call.descriptor in self._open:
            raise Unreadable(f"{call.name} of {self._open[call.descriptor][0]}")

    def _lseek(self, call: Call, is_end: bool) -> None:
        if is_end and call.descriptor in self._open and call.result is not None:
            path, file, _ = self._open[call.descriptor]
            self._open[call.descriptor] = path, file, call.result

    def _mmap(self, call: Call, is_end: bool) -> None:
        if "MAP_SHARED" not in call.arguments or "PROT_WRITE" not in call.arguments:
            return
        for path in call.paths():
            if self._is_inside(path) and not path.endswith(SHARED_MEMORY):
                raise Unreadable(f"{path} is written through memory")

    # -- content

    def _write(self, call: Call, is_end: bool) -> None:
        if (opened := self._opened(call)) is not None:
            path, file, position = opened
            self._put(call, is_end, file, position)
            if is_end:
                self._open[call.descriptor] = path, file, position + (call.result or 0)

    def _pwrite64(self, call: Call, is_end: bool) -> None:
        if (opened := self._opened(call)) is not None:
            self._put(call, is_end, opened[1], int(call.arguments.rsplit(", ", 1)[1]))

    def _put(self, call: Call, is_end: bool, file: File, offset: int) -> None:
        """What a write hands over may be on the disk from its beginning on."""
        if is_end:
            self._changes.pop(call).has_ended = True
            return
        (data,) = call.texts()
        written = data if call.result is None else data[: max(call.result, 0)]
        self._begin(call, file, Change(offset, written))

    def _ftruncate(self, call: Call, is_end: bool) -> None:
        opened = self._opened(call)
        if opened is None or not call.succeeded:
            return
        if is_end:
            self._changes.pop(call).has_ended = True
        else:
            self._begin(call, opened[1], Change(call.numbers()[-1], None))

    def _begin(self, call: Call, file: File, change: Change) -> None:
        self._changes[call] = change
        if change.data != b"":
            file.changes.append(change)

    def _fsync(self, call: Call, is_end: bool) -> None:
        if is_end and call in self._syncs:
            self._syncs.pop(call)(call.succeeded)
        elif not is_end and (opened := self._opened(call)) is not None:
            self._syncs[call] = self._disk.begin_sync(opened[1], opened[0])

    # -- names

    def _mkdir(self, call: Call, is_end: bool) -> None:
        (path,) = self._named(call)
        if is_end and call.succeeded and path is not None:
            self._disk.rename({path: Folder()})

    def _unlink(self, call: Call, is_end: bool) -> None:
        (path,) = self._named(call)
        if is_end and call.succeeded and path in self._disk.names:
            self._disk.rename({path: None})

    def _rename(self, call: Call, is_end: bool) -> None:
        old, new = self._named(call)
        if not is_end or not call.succeeded or (old is None and new is None):
            return
        if old is None or new is None or parent(old) != parent(new):
            raise Unreadable(f"{old} went to {new}")
        self._disk.rename({new: self._disk.names[old], old: None})

    def _link(self, call: Call, is_end: bool) -> None:
        old, new = self._named(call)
        if is_end and call.succeeded and old is not None and new is not None:
            self._disk.rename({new: self._disk.names[old]})

    def _no_file(self, call: Call, is_end: bool) -> None:
        """Nothing to do."""
