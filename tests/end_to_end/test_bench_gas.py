"""`farthing bench gas`: its figures stay low, are the same each time, and stand in docs/gas.md."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from farthing.cli.bench import bench
from farthing.devnet.bench import gas
from farthing.devnet.bench.gas import EffectMissing, GasReport, Row, measure_gas
from farthing.node.administration import Administrator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gas.md"

CEILINGS = {
    "open": 105_000,
    "open_many_50_per_channel": 40_000,
    "settle_50_signed_per_channel": 17_000,
    "settle_50_own_per_channel": 13_000,
    "cooperative_close": 80_000,
    "unilateral_close_total": 170_000,
}


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """What `farthing bench gas --json` prints."""
    command = [sys.executable, "-m", "farthing.cli.main", "bench", "gas", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert ran.stderr == ""
    record: dict[str, Any] = json.loads(ran.stdout)
    return record


@pytest.fixture
def report(printed: dict[str, Any]) -> GasReport:
    return GasReport(rows=tuple(Row(**row) for row in printed["rows"]), chain=printed["chain"])


@pytest.mark.parametrize("name", CEILINGS)
def test_a_figure_stays_below_its_ceiling(printed: dict[str, Any], name: str) -> None:
    assert printed["gas"][name] <= CEILINGS[name]


def test_the_json_has_each_figure_with_its_conditions(printed: dict[str, Any]) -> None:
    assert list(printed) == ["gas", "rows", "chain"]
    assert printed["gas"] == {row["name"]: row["gas"] for row in printed["rows"]}
    assert len(printed["gas"]) == len(printed["rows"])
    for row in printed["rows"]:
        assert list(row) == ["name", "gas", "per", "conditions"]
        assert type(row["gas"]) is type(row["per"]) is int
        assert row["gas"] > 0
        assert row["conditions"]
    assert printed["chain"]["rules"] == "Prague"
    assert printed["chain"]["compiler"] == "vyper 0.4.3"


def test_an_unilateral_close_is_the_sum_of_its_three_transactions(printed: dict[str, Any]) -> None:
    figures = printed["gas"]
    three = figures["start_close"] + figures["settle_1_signed"] + figures["finish_close"]
    # Other ids and totals have other zero bytes in their calldata, 12 gas each.
    assert abs(figures["unilateral_close_total"] - three) <= 500


def test_the_table_of_the_docs_is_what_the_command_prints(printed: dict[str, Any]) -> None:
    lines = [
        f"| `{row['name']}` | {row['gas']:,} | {row['per']} | {row['conditions']} |"
        for row in printed["rows"]
    ]
    page = PAGE.read_text(encoding="utf-8")
    in_page = [line for line in page.splitlines() if line.startswith("| `")]
    assert in_page == lines, f"put this table into {PAGE.name}:\n" + "\n".join(lines)


def test_the_docs_compare_the_figures_that_the_command_prints(printed: dict[str, Any]) -> None:
    figures = {name: f"{value:,}" for name, value in printed["gas"].items()}
    with_approve = printed["gas"]["open"] + printed["gas"]["approve"]
    line = (
        "| **Farthing** | {open}, or {open_many_50_per_channel} at 50 | {cooperative_close}"
        " | {unilateral_close_total} | {settle_10_signed_per_channel} at 10,"
        " {settle_50_signed_per_channel} at 50; own: {settle_50_own_per_channel} at 50 |"
    ).format_map(figures)
    page = PAGE.read_text(encoding="utf-8")
    assert line in page.splitlines(), f"put this line into {PAGE.name}:\n{line}"
    assert f"{with_approve:,} with `approve`" in page


def test_without_json_the_command_prints_a_table(
    report: GasReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gas, "measure_gas", lambda: report)
    result = CliRunner().invoke(bench, ["gas"])
    assert result.exit_code == 0
    heading, *lines = result.output.splitlines()
    assert heading.split() == ["name", "gas", "per", "conditions"]
    assert [line.split()[0] for line in lines] == [row.name for row in report.rows]


def test_no_figure_is_given_for_a_transaction_whose_effect_is_not_on_the_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Administrator, "member", lambda self, account: None)
    with pytest.raises(EffectMissing) as caught:
        measure_gas()
    assert (caught.value.name, caught.value.found) == ("set_member", None)
    assert caught.value.expected is not None
