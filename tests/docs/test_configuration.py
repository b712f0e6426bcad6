"""docs/configuration.md lists the settings that the hub has, with their defaults."""

import json
import re
import tomllib
from pathlib import Path

from farthing.node.config import SETTINGS, VARIABLE_PREFIX, load
from farthing.node.programme import parse_programme

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()


def table() -> str:
    """The table as it must stand on the page; printed where it differs, to be copied there."""
    rows = ["| key | default | meaning | environment |", "|---|---|---|---|"]
    for key, setting in SETTINGS.items():
        default = "must be given" if setting.default is None else f"`{json.dumps(setting.default)}`"
        rows.append(f"| `{key}` | {default} | {setting.what} | `{VARIABLE_PREFIX}{key.upper()}` |")
    return "\n".join(rows)


def test_the_table_is_the_one_of_the_code() -> None:
    section = PAGE.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert section.strip() == table()


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_example_of_a_hub_loads_once_its_files_are_there(tmp_path: Path) -> None:
    hub, _ = blocks("toml")
    given = tomllib.loads(hub)
    assert {key for key, setting in SETTINGS.items() if setting.default is None} <= set(given)
    for name in ("account.json", "signer.json", "password", "deployment.json", "city-block.toml"):
        (tmp_path / name).touch(mode=0o600)
    path = tmp_path / "hub.toml"
    path.write_text(hub)
    assert load(path, {}).data_dir == tmp_path / "data"


def test_the_example_of_a_programme_loads() -> None:
    _, programme = blocks("toml")
    assert parse_programme(programme.encode(), file="example.toml").tariffs
