"""The demo's live table: every width shows whole figures or fewer of them, never a cut one."""

import io
import os
import pty
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from farthing.channels.client.ledger import Ledger
from farthing.channels.client.schema import SCHEMA
from farthing.channels.ids import Address, address_to_hex
from farthing.devnet.city import City
from farthing.devnet.demo.live import LiveStage, live_console, render
from farthing.devnet.demo.stage import Part
from farthing.devnet.demo.watch import Figures, HubFigures, WalletFigures, read_figures
from farthing.devnet.processes import ProcessFailed

HUB = HubFigures(
    block=1_234,
    connections=2,
    paid_ucent=33_961_250,
    settled_ucent=20_000_000,
    settlements=3,
    gas=246_949,
)
WALLET = WalletFigures(
    name="alice-device-1",
    sent=829,
    rewarded=827,
    refused=2,
    earned_ucent=5_397_500,
    spent_ucent=1_200_000,
    settled_ucent=4_999_999,
    channel="closing",
)
FIGURES = Figures(hub=HUB, wallets=(WALLET,))


def drawn(width: int, figures: Figures | None = FIGURES, part: Part = Part.REPLAY) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(part, figures, seconds=12.3, width=width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", range(14, 140, 7))
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width: int) -> None:
    text = drawn(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert (WALLET.name in text) or width < 27


def test_a_wide_terminal_shows_everything() -> None:
    text = drawn(120)
    for shown in ("829", "827", "5,397,500", "1,200,000", "4,999,999", "closing"):
        assert shown in text
    for shown in ("33,961,250 µ¢", "20,000,000 µ¢ settled", "13,961,250 µ¢ not yet", "1,234"):
        assert shown in text
    assert "246,949" in text
    assert "12 s" in text


def test_eighty_columns_show_what_the_readings_became() -> None:
    heads = drawn(80).splitlines()[-2].split()
    assert heads[:5] == ["wallet", "channel", "sent", "rewarded", "refused"]


def test_the_parts_are_marked() -> None:
    line = drawn(100, None, Part.CLOSE).splitlines()[0]
    assert line.split("   ")[:4] == [
        "✓ start",
        "✓ replay and pay",
        "▶ settle and close",
        "· audit",
    ]
    assert "▶" not in drawn(100, None, Part.DONE)


def test_a_hub_that_does_not_answer_is_told() -> None:
    assert "does not answer" in drawn(80, Figures(hub=None, wallets=()))


def test_only_a_terminal_that_can_redraw_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    assert live_console(io.StringIO()) is None
    master, theirs = pty.openpty()
    with os.fdopen(master), os.fdopen(theirs, "w") as screen:
        monkeypatch.setenv("TERM", "xterm")
        assert live_console(screen) is not None
        monkeypatch.setenv("TERM", "dumb")
        assert live_console(screen) is None


# -- what is read ---------------------------------------------------------------------------------

ALICE = Address(b"\xa1" * 20)
ROW = {"account": address_to_hex(ALICE), "rewarded_ucent": 50, "received_ucent": 7}
STATUS = {"head_block": 9, "connections": 1, "settlements": 2, "settlement_gas": 3}


class FakeHub:
    """Answers as the hub's control socket does."""

    def __init__(self, **row: Any) -> None:
        self.answers = {"status": STATUS, "channels": [{**ROW, **row}]}

    def ask(self, method: str) -> Any:
        return self.answers[method]


class GoneHub:
    """Answers nothing."""

    def ask(self, method: str) -> Any:
        raise ProcessFailed(f"hub does not answer {method}")


def city(folder: Path, hub: object) -> City:
    alice = SimpleNamespace(name="alice", account=ALICE)
    return cast(City, SimpleNamespace(folder=folder, hub=hub, wallets={"alice": alice}))


def make_ledger(folder: Path) -> None:
    home = folder / "wallets" / "alice"
    home.mkdir(parents=True)
    Ledger(home / "ledger.sqlite", schema=SCHEMA).close()
    with sqlite3.connect(home / "ledger.sqlite") as db:
        db.execute("INSERT INTO submission VALUES (1, x'01', x'02', 110, x'03', 4, 1)")
        db.executemany(
            "INSERT INTO outcome VALUES (x'01', ?, '5', '1', ?, '', '')",
            [(0, ""), (1, ""), (2, "implausible")],
        )
    db.close()


def test_a_wallet_s_readings_come_from_its_own_database(tmp_path: Path) -> None:
    make_ledger(tmp_path)
    figures = read_figures(city(tmp_path, FakeHub(phase="live", settled_ucent=20)))
    [alice] = figures.wallets
    assert (alice.sent, alice.rewarded, alice.refused) == (4, 2, 1)
    assert (alice.earned_ucent, alice.spent_ucent, alice.settled_ucent) == (50, 7, 20)
    assert figures.hub is not None
    assert (figures.hub.paid_ucent, figures.hub.unsettled_ucent) == (57, 37)


def test_a_closed_channel_was_paid_out_by_its_final_totals(tmp_path: Path) -> None:
    figures = read_figures(city(tmp_path, FakeHub(phase="closed", settled_ucent=20)))
    assert figures.hub is not None
    assert (figures.hub.settled_ucent, figures.hub.unsettled_ucent) == (57, 0)
    assert figures.wallets[0].settled_ucent == 57


def test_what_is_not_there_yet_is_nought_and_nothing_is_made(tmp_path: Path) -> None:
    figures = read_figures(city(tmp_path, GoneHub()))
    assert figures.hub is None
    assert (figures.wallets[0].sent, figures.wallets[0].channel) == (0, "none")
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_read_anew_until_the_end(tmp_path: Path) -> None:
    out = io.StringIO()
    stage = LiveStage(Console(file=out, force_terminal=True, width=100, color_system=None))
    with stage.opened():
        stage.say("a line")
        stage.progress("not shown: the table has it")
        stage.begin(Part.REPLAY)
        with stage.watching(city(tmp_path, FakeHub(phase="live", settled_ucent=20))):
            pass
        stage.begin(Part.DONE)
    text = out.getvalue()
    assert "a line" in text
    assert "not shown" not in text
    assert "alice" in text.split("✓ audit")[1]
    assert text.rstrip().endswith("\x1b[?25h")
