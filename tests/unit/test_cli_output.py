"""How commands speak: tables for people, JSON for programs, errors as exit codes."""

import json
from typing import Any

import pytest

from farthing.channels.errors import ChainError, FarthingError, LocalError, PeerError
from farthing.cli.output import emit, reports_errors


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


def test_rows_are_a_table_with_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "0x1", "ucent": 5}, {"id": "0x22", "ucent": 1_000}]
    emit(rows, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["id    ucent", "0x1   5", "0x22  1000"]
    emit([], as_json=False)
    assert capsys.readouterr().out == "none\n"
    emit(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows


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
