"""The demo's live table: redrawn in place on a terminal, with what is said above it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..city import City
from .stage import Part
from .watch import Figures, HubFigures, WalletFigures, read_figures

REFRESH_SECONDS = 1.0
"""Asking the hub and reading the databases takes milliseconds of a core that the demo needs."""

COLUMN_GAP = 2
"""Blanks between two columns."""


class LiveStage:
    """A stage on a terminal; the table is there while the `with` block of `opened` lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._part = Part.START
        self._figures: Figures | None = None
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Write a line above the table; one that is longer than the terminal is wide is wrapped."""
        seconds = time.monotonic() - self._began
        self._console.print(Text(f"{seconds:5.1f} s  {text}"))

    def progress(self, text: str) -> None:
        """Write nothing: the table shows it."""

    def begin(self, part: Part) -> None:
        """Mark a part as running, and those before as over."""
        self._part = part
        self._draw()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Draw until the block ends; the last table stays, and the terminal is as it was before."""
        # The console writes to stderr alone; nothing of stdout is taken over.
        with Live(
            self._render(),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    @contextmanager
    def watching(self, city: City) -> Iterator[None]:
        """Read the city's figures every second, and once more at the end."""
        stop = threading.Event()
        reader = threading.Thread(target=self._watch, args=(city, stop), name="figures")
        reader.start()
        try:
            yield
        finally:
            stop.set()
            reader.join()

    def _watch(self, city: City, stop: threading.Event) -> None:
        while True:
            self._figures = read_figures(city)
            self._draw()
            if stop.wait(REFRESH_SECONDS):
                return

    def _draw(self) -> None:
        live = self._live
        if live is not None:
            live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        seconds = time.monotonic() - self._began
        return render(self._part, self._figures, seconds=seconds, width=self._console.width)


def render(part: Part, figures: Figures | None, *, seconds: float, width: int) -> RenderableType:
    """The whole picture; the narrower the terminal, the fewer columns, and no figure is cut."""
    pieces: list[RenderableType] = [_parts(part)]
    if figures is not None:
        pieces += [_hub(figures.hub), Text(f"{seconds:.0f} s\n"), _wallets(figures.wallets, width)]
    return Group(*pieces)


_MARKS = {-1: ("✓", "green"), 0: ("▶", "bold"), 1: ("·", "dim")}
"""Over, running, to come."""


def _parts(running: Part) -> Text:
    parts = list(Part)
    at = parts.index(running)
    line = Text()
    for index, part in enumerate(parts[:-1]):  # without "done"
        mark, style = _MARKS[(index > at) - (index < at)]
        line.append(f"{mark} {part.value}   ", style=style)
    return line


def _hub(hub: HubFigures | None) -> Text:
    if hub is None:
        return Text("hub     does not answer")
    return Text(
        f"hub     paid {hub.paid_ucent:,} µ¢: {hub.settled_ucent:,} µ¢ settled,"
        f" {hub.unsettled_ucent:,} µ¢ not yet\n"
        f"chain   block {hub.block:,}; settlements {hub.settlements:,}, their gas {hub.gas:,}\n"
        f"wallets {hub.connections:,} connected"
    )


_Column = tuple[str, Callable[[WalletFigures], str]]

_COLUMNS: dict[str, _Column] = {
    "wallet": ("wallet", lambda wallet: wallet.name),
    "channel": ("channel", lambda wallet: wallet.channel),
    "sent": ("sent", lambda wallet: f"{wallet.sent:,}"),
    "rewarded": ("rewarded", lambda wallet: f"{wallet.rewarded:,}"),
    "refused": ("refused", lambda wallet: f"{wallet.refused:,}"),
    "earned": ("earned µ¢", lambda wallet: f"{wallet.earned_ucent:,}"),
    "spent": ("spent µ¢", lambda wallet: f"{wallet.spent_ucent:,}"),
    "settled": ("settled µ¢", lambda wallet: f"{wallet.settled_ucent:,}"),
}
_CHOICES = (
    ("wallet", "channel", "sent", "rewarded", "refused", "earned", "spent", "settled"),
    ("wallet", "channel", "sent", "rewarded", "refused", "earned", "spent"),
    ("wallet", "channel", "rewarded", "refused", "earned", "spent"),
    ("wallet", "channel", "earned", "spent"),
    ("wallet", "earned"),
)
"""What is shown, from the widest to the narrowest; the first that fits whole is taken."""


def _wallets(wallets: tuple[WalletFigures, ...], width: int) -> RenderableType:
    for choice in _CHOICES:
        columns = [_COLUMNS[name] for name in choice]
        cells = [[cell(wallet) for _, cell in columns] for wallet in wallets]
        lines = [[title for title, _ in columns], *cells]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        if sum(widths) + COLUMN_GAP * (len(widths) - 1) <= width:
            return _table(lines, choice)
    return Text("widen the terminal to see the wallets")


def _table(lines: Sequence[Sequence[str]], names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, COLUMN_GAP, 0, 0))
    for name, title in zip(names, lines[0], strict=True):
        justify: JustifyMethod = "left" if name in ("wallet", "channel") else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for line in lines[1:]:
        table.add_row(*line)
    return table


def live_console(stream: TextIO) -> Console | None:
    """Give a console where a table can be redrawn on this stream: a terminal that can do so."""
    console = Console(file=stream, highlight=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None
