"""A beat that wakes everybody who waits for a change, and the notices a wallet gives its owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

NOTICES_MAX: Final = 1024
"""An owner who does not listen misses the oldest; what matters is in the ledger."""


class Pulse:
    """Waits for conditions that only change when somebody beats; nothing is polled."""

    def __init__(self) -> None:
        self._next = trio.Event()

    def beat(self) -> None:
        """Something changed: let everybody look again."""
        last, self._next = self._next, trio.Event()
        last.set()

    async def wait(self) -> None:
        """Wait for the next beat."""
        await self._next.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; it is looked at now and after every beat."""
        while not condition():
            await self._next.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened: a kind for programs, a sentence for people, its values."""

    kind: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)


class Notices:
    """Hands each notice to everybody who listens at that time."""

    def __init__(self) -> None:
        self._listeners: set[trio.MemorySendChannel[Notice]] = set()

    def tell(self, kind: str, text: str, **values: Any) -> None:
        """Give a notice; a listener with `NOTICES_MAX` unread ones misses it."""
        notice = Notice(kind=kind, text=text, values=values)
        for listener in list(self._listeners):
            try:
                listener.send_nowait(notice)
            except trio.WouldBlock:
                continue
            except trio.BrokenResourceError:  # nobody listens there any more
                self._listeners.discard(listener)

    def listen(self) -> trio.MemoryReceiveChannel[Notice]:
        """Every notice from now on; close it when done."""
        send, receive = trio.open_memory_channel[Notice](NOTICES_MAX)
        self._listeners.add(send)
        return receive
