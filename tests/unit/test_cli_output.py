"""How commands speak: tables for people, JSON and CSV for programs, errors as exit codes."""

import csv
import io
import json
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from farthing.channels.errors import ChainError, FarthingError, LocalError, PeerError
from farthing.cli.output import Form, emit, emit_rows, fail, reports_errors, rows_options


class Refusal(LocalError):
    """Something that is not allowed."""

    code = "refusal"
    remedy = "do something else"


class Misbehaviour(PeerError):
    """Something that a peer did."""

    code = "misbehaviour"


class Silence(ChainError):
    """No answer."""

    code = "silence"
    remedy = "wait"


class Revert(ChainError):
    """The chain's answer: no."""

    code = "transaction-failed"


def test_a_record_is_lines_for_people_and_one_object_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = {"a": 1, "longer": None, "list": ["x", "y"], "empty": [], "text": "ä"}
    emit(record, as_json=False)
    lines = ["a       1", "longer  ", "list    x, y", "empty   none", "text    ä"]
    assert capsys.readouterr().out.splitlines() == lines
    emit(record, as_json=True)
    assert json.loads(capsys.readouterr().out) == record
    emit({}, as_json=False)
    assert capsys.readouterr().out == ""


ROWS: list[dict[str, Any]] = [
    {"id": "0x1", "ucent": 5, "more": 1},
    {"id": "0x22", "ucent": 1_000, "more": None},
]


def printed(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], form: Form) -> str:
    emit_rows(rows, ("id", "ucent", "more"), form, shown=("id", "ucent"))
    return capsys.readouterr().out


def test_rows_are_a_table_with_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, ROWS, Form.TABLE).splitlines()
    assert lines == ["id    ucent", "0x1       5", "0x22   1000"]
    assert printed(capsys, [], Form.TABLE) == "none\n"
    gap: list[dict[str, Any]] = [
        {"id": "a", "ucent": None, "more": 1},
        {"id": "b", "ucent": 12, "more": 1},
    ]
    assert printed(capsys, gap, Form.TABLE).splitlines() == ["id  ucent", "a", "b      12"]


def test_a_long_id_stays_whole_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    long = "0x" + "5d" * 32
    row = {"id": long, "ucent": 1, "more": 1}
    assert printed(capsys, [row], Form.TABLE).splitlines()[1].split() == [long, "1"]


def test_rows_are_a_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, ROWS, Form.JSON)) == ROWS
    assert json.loads(printed(capsys, [], Form.JSON)) == []


def test_rows_are_csv_for_spreadsheets(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, ROWS, Form.CSV) == "id,ucent,more\r\n0x1,5,1\r\n0x22,1000,\r\n"
    assert printed(capsys, [], Form.CSV) == "id,ucent,more\r\n"
    text: list[dict[str, Any]] = [{"id": 'a, "b"\nc', "ucent": -5, "more": None}]
    [_, row] = csv.reader(io.StringIO(printed(capsys, text, Form.CSV)))
    assert row == ['a, "b"\nc', "-5", ""]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "\uff1d1"])
def test_a_text_is_never_a_formula(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": text, "ucent": 1, "more": 1}
    [_, cells] = csv.reader(io.StringIO(printed(capsys, [row], Form.CSV), newline=""))
    assert cells[0] == "'" + text.replace("\t", "?").replace("\r", "?")
    assert json.loads(printed(capsys, [row], Form.JSON))[0]["id"] == text


def test_what_others_wrote_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "a\x1b[2Jb\nc\u202e"
    assert "a?[2Jb?c?" in printed(capsys, [{"id": nasty, "ucent": 1, "more": 1}], Form.TABLE)
    emit({"purpose": nasty, "list": [nasty]}, as_json=False)
    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b" not in printed(capsys, [{"id": nasty, "ucent": 1, "more": 1}], Form.CSV)
    with pytest.raises(SystemExit):
        fail(Refusal(nasty, remedy=nasty), as_json=False)
    assert "\x1b" not in capsys.readouterr().err


def test_rows_come_in_one_form_at_a_time() -> None:
    @click.command()
    @rows_options
    @reports_errors
    def show(*, form: Form) -> None:
        if form is Form.TABLE:
            raise Refusal("no table")
        emit_rows(ROWS, ("id",), form)

    def ran(*arguments: str) -> Result:
        return CliRunner().invoke(show, list(arguments))

    assert json.loads(ran("--json").stdout) == ROWS
    assert ran("--csv").stdout == "id\n0x1\n0x22\n"
    assert "not both" in ran("--csv", "--json").stderr
    assert (ran().exit_code, ran().stdout) == (1, "")


def test_an_error_of_a_command_with_rows_is_json_where_that_was_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(Refusal("no"), form=Form.JSON)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "refusal"
    with pytest.raises(SystemExit):
        run(Refusal("no"), form=Form.CSV)
    assert capsys.readouterr().out == ""


def run(error: BaseException | None, **options: Any) -> Any:
    @reports_errors
    def command(**_: Any) -> None:
        if error is not None:
            raise error

    return command(**options)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refusal("no"), 1),
        (Misbehaviour("no"), 1),
        (Silence("no"), 2),
        (Revert("no"), 1),
        (ExceptionGroup("g", [ExceptionGroup("h", [Silence("no")])]), 2),
        (ExceptionGroup("g", [Refusal("no"), Silence("later")]), 1),
    ],
)
def test_an_error_ends_with_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(error, as_json=False)
    assert ended.value.code == code
    said = capsys.readouterr()
    assert said.err.startswith("error: no")
    assert said.out == ""


def test_with_json_an_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(Refusal("no"), as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": {"code": "refusal", "text": "no", "what_to_do": "do something else"}
    }
    assert said.err == "error: no: do something else\n"


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        ExceptionGroup("g", [Refusal("no"), ZeroDivisionError()]),
        ExceptionGroup("g", [ZeroDivisionError()]),
        OSError("without a file"),
    ],
)
def test_a_bug_is_not_dressed_up_as_an_error_of_the_user(error: Exception) -> None:
    with pytest.raises((ZeroDivisionError, ExceptionGroup, OSError)):
        run(error)


def test_a_file_that_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(PermissionError(13, "Permission denied", "/root/x"))
    assert ended.value.code == 1
    assert "/root/x cannot be used (Permission denied): check the path" in capsys.readouterr().err


def test_a_command_that_is_fine_ends_with_nothing() -> None:
    assert run(None) is None


def test_the_bases_are_bases() -> None:
    for base in (FarthingError, LocalError, PeerError, ChainError):
        with pytest.raises(TypeError):
            base("it has no reason")
