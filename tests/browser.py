"""A headless Chromium, spoken to over two pipes (the DevTools protocol): no driver, no port."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ANSWER_SECONDS_MAX = 60
DESKTOP = (1280, 900)
PHONE = (390, 844)
OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
    *("--disable-extensions", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage"),
    "--no-sandbox",  # it opens pages of this repository alone, and root has no sandbox
)


def need_chromium() -> str:
    """The path of a Chromium; without one this fails in CI and skips elsewhere."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    problem = "no Chromium is installed: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)


@dataclass
class Browser:
    """One page. What the browser itself complains of is in `complaints`."""

    process: subprocess.Popen[bytes]
    commands: int
    answers: int
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _unread: bytes = b""
    _events: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == number:
                assert "error" not in said, said
                answer: dict[str, Any] = said["result"]
                return answer
            self._note(said)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self.answers, 1 << 16)
            assert part, "the browser ended"
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        return said

    def _note(self, said: dict[str, Any]) -> None:
        params = said.get("params", {})
        match said.get("method"):
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(str(params))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case _:
                self._events.append(said)

    def open(self, url: str) -> None:
        """Load a page to its end."""
        self._events.clear()
        self.ask("Page.navigate", url=url)
        while not any(said.get("method") == "Page.loadEventFired" for said in self._events):
            self._note(self._read())

    def look(self, expression: str) -> Any:
        """The value of an expression on the page; the page's own policy does not bind it."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Look through a window of this size; a narrow one is a phone's."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def scheme(self, name: str) -> None:
        """Prefer light or dark."""
        media = [{"name": "prefers-color-scheme", "value": name}]
        self.ask("Emulation.setEmulatedMedia", features=media)


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, whose pages run no script, until the block ends."""
    commands_read, commands_write = os.pipe()
    answers_read, answers_write = os.pipe()

    def wire() -> None:
        """In the child: the protocol is spoken on descriptors 3 and 4."""
        os.dup2(commands_read, 103)
        os.dup2(answers_write, 104)
        os.dup2(103, 3)
        os.dup2(104, 4)

    process = subprocess.Popen(
        [need_chromium(), *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=wire,  # noqa: PLW1509 - it copies descriptors and does nothing else
        close_fds=False,
    )
    os.close(commands_read)
    os.close(answers_write)
    # A browser that hangs is ended, and the read that waits for it with it.
    guard = threading.Timer(ANSWER_SECONDS_MAX * 2, process.kill)
    guard.start()
    try:
        browser = Browser(process, commands_write, answers_read)
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.ask("Target.attachToTarget", targetId=target, flatten=True)
        browser.session = attached["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            browser.ask(f"{domain}.enable")
        browser.ask("Emulation.setScriptExecutionDisabled", value=True)
        yield browser
    finally:
        guard.cancel()
        process.kill()
        process.wait(ANSWER_SECONDS_MAX)
        os.close(commands_write)
        os.close(answers_read)
