"""Runs the console blocks of a document as a person would and compares what they print.

A block is fenced as ```console. `$ ` starts a command, `> ` continues one that ended in a
backslash, any other line is expected output, `...` stands for any number of lines, and `^C` stops
the command above it, or as the first line of a block what still runs in its terminal. A block whose
first line is `# terminal 2` is typed into the terminal of that name; its last command may stay
running (a daemon): it counts as fine once its output has appeared. Blocks without a terminal share
one; all their commands must end, with exit code 0.

Compared is the shape: numbers, hex, spacing and the sandbox's paths differ from run to run.
Ports named in the document are replaced by free ones, the same number by the same port.
"""

import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

WAIT_SECONDS = 300.0
"""For one command: several times what the slowest takes on a busy machine with one core."""

STOP_SECONDS = 20.0
"""For a daemon to end after it was asked to; then it is killed and the walk fails."""

DEFAULT_TERMINAL = "any"
ANY_LINES = "..."
DONE = "~~walkthrough~done~~"

_FENCE = re.compile(r"^```(\w*)\s*$")
_HEADING = re.compile(r"^(#+)\s+(.*?)\s*$")
_TERMINAL = re.compile(r"^#\s*terminal\s+(\S+)")
_PORT = re.compile(r"(?:--port[ =]|127\.0\.0\.1:|localhost:)(\d{2,5})\b")

_SHAPES = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"0x[0-9a-fA-F]*(?:…|\.\.\.)?[0-9a-fA-F]*"), "0x…"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b"), "HEX"),
    (re.compile(r"\d+(?:[,._]\d+)*"), "N"),
    (re.compile(r"[─━═=-]{4,}"), "────"),
    (re.compile(r"\s+"), " "),
)


class WalkError(AssertionError):
    """A command that did not do what the document says; the text shows both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command with the output that the document shows under it."""

    text: str
    expected: tuple[str, ...]
    line: int
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The commands of one fence, typed into one terminal."""

    terminal: str
    commands: tuple[Command, ...]
    interrupts: bool = False


# ---------------------------------------------------------------- reading the document


def blocks(markdown: str, *, section: str | None = None) -> list[Block]:
    """The console blocks of a document, or of one section (with its subsections) of it."""
    found: list[Block] = []
    language: str | None = None
    inside: list[tuple[int, str]] = []
    depth = 0  # of the heading that opened the section; 0 outside of it
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = _FENCE.match(line)
        if language is not None:
            if fence:
                if language == "console" and (section is None or depth):
                    found.append(_block(inside))
                language = None
            else:
                inside.append((number, line))
        elif fence:
            language, inside = fence[1], []
        elif heading := _HEADING.match(line):
            level = len(heading[1])
            if heading[2] == section:
                depth = level
            elif level <= depth:
                depth = 0
    return found


def _block(lines: Sequence[tuple[int, str]]) -> Block:
    terminal = DEFAULT_TERMINAL
    if lines and (named := _TERMINAL.match(lines[0][1])):
        terminal, lines = named[1], lines[1:]
    interrupts = bool(lines) and lines[0][1].strip() == "^C"
    commands: list[Command] = []
    for number, line in lines[1:] if interrupts else lines:
        if line.startswith("$ "):
            commands.append(Command(text=line[2:], expected=(), line=number))
            continue
        if not commands:
            raise WalkError(f"line {number}: output before the first command: {line!r}")
        last = commands.pop()
        if last.text.endswith("\\") and line.startswith("> "):
            last = _with(last, text=f"{last.text}\n{line[2:]}")
        elif line.strip() == "^C":
            last = _with(last, interrupted=True)
        else:
            last = _with(last, expected=(*last.expected, line))
        commands.append(last)
    return Block(terminal=terminal, commands=tuple(commands), interrupts=interrupts)


def _with(
    command: Command,
    *,
    text: str | None = None,
    expected: tuple[str, ...] | None = None,
    interrupted: bool | None = None,
) -> Command:
    return Command(
        text=command.text if text is None else text,
        expected=command.expected if expected is None else expected,
        line=command.line,
        interrupted=command.interrupted if interrupted is None else interrupted,
    )


# ---------------------------------------------------------------- comparing


def shape(line: str, *, folder: str = "") -> str:
    """What stays the same from run to run of one line of output."""
    if folder:
        line = line.replace(folder, "~")
    for pattern, stand_in in _SHAPES:
        line = pattern.sub(stand_in, line)
    return line.strip()


def matches(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether shapes agree line by line; `...` stands for any number of lines."""
    if not expected:
        return not printed
    if expected[0] == ANY_LINES:
        return any(matches(expected[1:], printed[skip:]) for skip in range(len(printed) + 1))
    return bool(printed) and expected[0] == printed[0] and matches(expected[1:], printed[1:])


def shapes(lines: Iterable[str], *, folder: str = "") -> list[str]:
    """The shapes of lines that are not blank."""
    found = (
        line.strip() if line.strip() == ANY_LINES else shape(line, folder=folder) for line in lines
    )
    return [line for line in found if line]


# ---------------------------------------------------------------- running


class Terminal:
    """A shell that remembers folder and variables between commands, like the one a person has."""

    def __init__(self, *, name: str, folder: Path, environment: dict[str, str]) -> None:
        self._name = name
        self._folder = folder
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._running: Command | None = None
        self._shell = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,  # so that ^C and the end reach what it started, and only that
        )
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._typed: IO[str] = self._shell.stdin
        self._reader = threading.Thread(target=self._read, args=(self._shell.stdout,), daemon=True)
        self._reader.start()
        self._typed.write("trap : INT\n")  # the shell outlives ^C, its commands do not

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def type(self, command: Command, *, may_stay: bool) -> None:
        """Types a command and waits until it did what the document says.

        With may_stay it counts as fine while it is still running once its output is there.
        """
        self.wait()
        self._running = command
        self._typed.write(f"{{ {command.text}\n}} </dev/null; printf '\\n{DONE} %d\\n' $?\n")
        if command.interrupted:
            self._await_output(command, may_stay=True)
            self.interrupt()
        else:
            self._await_output(command, may_stay=may_stay)

    def interrupt(self) -> None:
        """Types ^C and waits until what ran there has ended."""
        os.killpg(self._shell.pid, signal.SIGINT)
        self.wait(interrupted=True)

    def wait(self, *, interrupted: bool = False) -> None:
        """Waits for the end of a command that was left running."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self._running is not None:
            line = self._next(deadline, printed=[])
            if line.startswith(DONE):
                self._finished(line, printed=[], interrupted=interrupted)

    def _await_output(self, command: Command, *, may_stay: bool) -> None:
        expected = shapes(command.expected)
        printed: list[str] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            if may_stay and matches(expected, shapes(printed, folder=str(self._folder))):
                return
            line = self._next(deadline, printed=printed)
            if line.startswith(DONE):
                break
            printed.append(line)
        self._finished(line, printed=printed, interrupted=False)
        if not matches(expected, shapes(printed, folder=str(self._folder))):
            raise self._wrong(command, "printed something else", printed)

    def _finished(self, line: str, *, printed: list[str], interrupted: bool) -> None:
        command, self._running = self._running, None
        code = int(line.removeprefix(DONE))
        if command is not None and code != 0 and not interrupted:
            raise self._wrong(command, f"ended with exit code {code}", printed)

    def _next(self, deadline: float, *, printed: list[str]) -> str:
        assert self._running is not None
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise self._wrong(self._running, f"took over {WAIT_SECONDS:.0f} s", printed) from None
        if line is None:
            raise self._wrong(self._running, "ended its shell", printed)
        return line

    def _wrong(self, command: Command, what: str, printed: Sequence[str]) -> WalkError:
        return WalkError(
            f"line {command.line}, terminal {self._name}: `{command.text}` {what}\n"
            "the document says:\n"
            + "".join(f"  | {line}\n" for line in command.expected)
            + "it printed:\n"
            + "".join(f"  | {line}\n" for line in printed)
        )

    def close(self) -> None:
        """Ends the shell and what still runs in it; an error when that has to be forced."""
        self._typed.close()
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGTERM)
        try:
            self._shell.wait(timeout=STOP_SECONDS)
            self._reader.join(timeout=STOP_SECONDS)
            stuck = self._reader.is_alive()
        except subprocess.TimeoutExpired:
            stuck = True
        if stuck:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
            self._reader.join()
            raise WalkError(f"terminal {self._name}: what ran there did not end when asked to")


class Sandbox:
    """An empty folder as home, a PATH and the terminals opened in it; closes them all."""

    def __init__(self, folder: Path, *, path: Sequence[Path] = ()) -> None:
        self._folder = folder
        keep = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        search = os.pathsep.join([*map(str, path), os.environ.get("PATH", os.defpath)])
        self._environment = {**keep, "PATH": search, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        self._terminals: dict[str, Terminal] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        errors = []
        for terminal in reversed(self._terminals.values()):
            try:
                terminal.close()
            except WalkError as error:
                errors.append(str(error))
        if errors:
            raise WalkError("\n".join(errors))

    def walk(self, steps: Sequence[Block]) -> None:
        """Types every block into its terminal, in the order of the document."""
        ports = free_ports(command.text for block in steps for command in block.commands)
        for block in steps:
            if block.terminal not in self._terminals:
                self._terminals[block.terminal] = Terminal(
                    name=block.terminal, folder=self._folder, environment=self._environment
                )
            terminal = self._terminals[block.terminal]
            if block.interrupts:
                terminal.interrupt()
            for index, command in enumerate(block.commands, start=1):
                last = index == len(block.commands)
                terminal.type(
                    _with(command, text=_on_ports(command.text, ports)),
                    may_stay=last and block.terminal != DEFAULT_TERMINAL,
                )


def free_ports(commands: Iterable[str]) -> dict[str, str]:
    """A free port for each one named in the commands; 0 means any and stays."""
    named = sorted({port for text in commands for port in _PORT.findall(text) if int(port)})
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in named]
    free = [str(listener.getsockname()[1]) for listener in with_sockets]
    for listener in with_sockets:
        listener.close()
    return dict(zip(named, free, strict=True))


def _on_ports(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"\b\d{2,5}\b", lambda number: ports.get(number[0], number[0]), text)
