"""docs/watchtower.md: its commands run beside the hub of docs/operators.md, its table is true."""

import json
import re
import sys
from pathlib import Path

from farthing.channels.client import towers
from farthing.node.watchtower import answerer, reception
from farthing.node.watchtower.book import CLOSED_SECONDS_KEPT
from farthing.node.watchtower.config import SETTINGS, VARIABLE_PREFIX, load

from .pages import page, running_hub
from .walkthrough import Sandbox, blocks

PAGE = page("watchtower.md")


def table() -> str:
    """The table as it must stand on the page; printed where it differs, to be copied there."""
    rows = ["| key | default | meaning | environment |", "|---|---|---|---|"]
    for key, setting in SETTINGS.items():
        default = "must be given" if setting.default is None else f"`{json.dumps(setting.default)}`"
        rows.append(f"| `{key}` | {default} | {setting.what} | `{VARIABLE_PREFIX}{key.upper()}` |")
    return "\n".join(rows)


def test_the_page_works_as_written(tmp_path: Path) -> None:
    steps = blocks(PAGE)
    assert sum(len(block.commands) for block in steps) > 10
    with Sandbox(tmp_path, path=[Path(sys.executable).parent]) as sandbox:
        sandbox.walk(running_hub() + steps)


def test_the_table_is_the_one_of_the_code() -> None:
    section = PAGE.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert section.strip() == table()


def test_the_example_loads_once_its_files_are_there(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names = ("keystore.json", "password", "deployment.json", "certificate.pem")
    for name in (*names, "certificate-key.pem"):
        (tmp_path / name).touch(mode=0o600)
    path = tmp_path / "watchtower.toml"
    path.write_text(text)
    assert load(path, {}).data_dir == tmp_path / "data"
    assert load(path, {VARIABLE_PREFIX + "SILENCE_SECONDS": "60"}).silence_seconds == 60


def test_the_page_s_figures_are_the_code_s() -> None:
    assert f"at most every {towers.DEPOSIT_SECONDS:g} s" in PAGE
    assert f"over 10 ¢ ({towers.DEPOSIT_UCENT:,} µ¢)" in PAGE
    assert towers.DEPOSIT_SECONDS_MIN == 1
    assert f"waits up to {towers.HAND_OVER_SECONDS_MAX:g} s" in PAGE
    assert f"{reception.CHANNELS_OF_A_DEPOSITOR_MAX} channels" in PAGE
    assert f"{reception.BURST_MAX} messages at once" in PAGE
    assert f"{reception.BURST_PER_SECOND} a second" in PAGE
    assert answerer.LATE_DIVISOR == 4
    assert CLOSED_SECONDS_KEPT == 7 * 24 * 3600
