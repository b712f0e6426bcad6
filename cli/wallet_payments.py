"""`farthing wallet`'s commands that move money or readings; all of them ask the running wallet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .keys import AMOUNT, FILE
from .output import (
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    Form,
    emit,
    emit_rows,
    json_option,
    reports_errors,
    rows_options,
)
from .wallet_folder import (
    CALL_SECONDS,
    Seconds,
    ask,
    channel_option,
    folder_option,
    given,
    timeout_option,
    unwritable,
)

REQUEST_COLUMNS = (
    *("asked_by", "amount_ucent", "purpose", "expires", "state", "nonce", "text", "id", "channel"),
)
PACK_FILE_BYTES_MAX = 1 << 20
"""A pack is 48 KiB at most; this much is read to say so."""


@click.command()
@folder_option
@timeout_option
@json_option
@reports_errors
def join(*, folder: Path, timeout_seconds: float | None, as_json: bool) -> None:
    r"""Wait for a channel with the hub, and ask it to open one if there is none.

    \b
    Example:
      farthing wallet join --folder alice
    """
    params = given(timeout_seconds=timeout_seconds)
    emit(ask(folder, "join", params, seconds=timeout_seconds or CALL_SECONDS), as_json=as_json)


@click.command()
@folder_option
@click.argument("file", type=FILE, required=False)
@click.option("--name", help="A sensor's name, instead of FILE.")
@click.option("--unit", help="Its SenML unit, such as l/s.")
@click.option("--value", metavar="NUMBER", help="What it reads now.")
@click.option("--id", "submission", metavar="ID", help="16 bytes of hex, to submit but once.")
@click.option("--wait", "wait_seconds", type=Seconds(0, 600), default=0.0)
@json_option
@reports_errors
def submit(  # noqa: PLR0913 - one argument for each option
    *,
    folder: Path,
    file: Path | None,
    name: str | None,
    unit: str | None,
    value: str | None,
    submission: str | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    r"""Queue readings: a file of SenML (.json or .cbor), or one value read now.

    They are on disk when this returns; --wait shows what the hub decides.

    \b
    Example:
      farthing wallet submit --folder alice --name urn:dev:river:flow --unit l/s --value 12.5 \
        --wait 10
    """
    if (file is None) == (name is None or value is None):
        raise click.UsageError("give FILE, or --name with --value")
    pack = _pack_of_file(file) if file is not None else _pack_of_value(name, unit, value)
    made = ask(folder, "submit", {**pack, **given(id=submission)})
    if not wait_seconds:
        emit({**made, "answered": False}, as_json=as_json)
        return
    params = {**made, "timeout_seconds": wait_seconds}
    outcome = ask(folder, "outcome", params, seconds=wait_seconds)
    emit(outcome if as_json else _outcome_lines(outcome), as_json=as_json)
    if not outcome["answered"]:
        raise SystemExit(EXIT_UNKNOWN)
    if any("code" in row for row in outcome["outcomes"]):
        raise SystemExit(EXIT_REFUSED)


def _outcome_lines(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """One line a record, for people."""
    lines = {key: outcome[key] for key in ("id", "answered", "paid_ucent")}
    for row in outcome["outcomes"]:
        refusal = (
            f"refused ({row['code']}): {row['text']}: {row['what_to_do']}" if "code" in row else ""
        )
        lines[f"record {row['record']}"] = refusal or f"paid {row['amount_ucent']} µ¢"
    return lines


def _pack_of_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(PACK_FILE_BYTES_MAX)
    except OSError as error:
        raise unwritable(file, error) from None
    if file.suffix == ".cbor":
        return {"senml": "0x" + content.hex(), "format": 112}
    return {"senml": content.decode(errors="surrogateescape")}


def _pack_of_value(name: str | None, unit: str | None, value: str | None) -> dict[str, Any]:
    """Write one record with the number as it was typed, so that it stays exact."""
    fields = [f'"n":{json.dumps(name)}', f'"v":{value}', '"t":0']
    if unit is not None:
        fields.append(f'"u":{json.dumps(unit)}')
    return {"senml": "[{" + ",".join(fields) + "}]"}


@click.command()
@click.argument("amount", type=AMOUNT)
@folder_option
@click.option("--purpose", metavar="TEXT", default="use", show_default=True)
@click.option("--id", "payment_id", metavar="ID", help="16 bytes of hex, to pay but once.")
@timeout_option
@json_option
@reports_errors
def pay(
    *,
    amount: int,
    folder: Path,
    purpose: str,
    payment_id: str | None,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    r"""Pay the hub: whole microcents, or cents with a c.

    Exit code 2: sent and not acknowledged yet. It is spent; do not pay again, or only with the
    same --id: then it stays one payment, also after a crash.

    \b
    Example:
      farthing wallet pay 0.0125c --purpose parking --folder alice
    """
    params = given(
        amount_ucent=amount, purpose=purpose, id=payment_id, timeout_seconds=timeout_seconds
    )
    seconds = timeout_seconds or CALL_SECONDS
    _emit_paid(ask(folder, "pay", params, seconds=seconds), as_json=as_json)


def _emit_paid(payment: Mapping[str, Any], *, as_json: bool) -> None:
    emit(payment, as_json=as_json)
    if not payment["acknowledged"]:
        raise SystemExit(EXIT_UNKNOWN)


@click.command()
@click.argument("amount", type=AMOUNT)
@folder_option
@click.option("--purpose", metavar="TEXT", required=True, help="Up to 64 characters.")
@json_option
@reports_errors
def request(*, amount: int, folder: Path, purpose: str, as_json: bool) -> None:
    r"""Ask the hub for a payment.

    \b
    Example:
      farthing wallet request 5c --purpose refund --folder alice
    """
    params = {"amount_ucent": amount, "purpose": purpose}
    emit(ask(folder, "request", params), as_json=as_json)


@click.command()
@folder_option
@rows_options
@reports_errors
def requests(*, folder: Path, form: Form) -> None:
    r"""List the payments that the hub asks for, and those that this wallet asked for.

    \b
    Example:
      farthing wallet requests --folder alice
    """
    emit_rows(ask(folder, "requests", {}), REQUEST_COLUMNS, form)


@click.command()
@click.argument("request_id", metavar="ID")
@folder_option
@timeout_option
@json_option
@reports_errors
def answer(*, request_id: str, folder: Path, timeout_seconds: float | None, as_json: bool) -> None:
    r"""Pay what the hub asks for. Exit code 2: sent and not acknowledged yet.

    \b
    Example:
      farthing wallet answer 0x00112233445566778899aabbccddeeff --folder alice
    """
    params = given(id=request_id, timeout_seconds=timeout_seconds)
    _emit_paid(ask(folder, "answer", params), as_json=as_json)


@click.command()
@click.argument("request_id", metavar="ID")
@folder_option
@json_option
@reports_errors
def refuse(*, request_id: str, folder: Path, as_json: bool) -> None:
    r"""Refuse what the hub asks for.

    \b
    Example:
      farthing wallet refuse 0x00112233445566778899aabbccddeeff --folder alice
    """
    emit(ask(folder, "refuse", {"id": request_id}), as_json=as_json)


@click.command()
@folder_option
@channel_option
@click.option("--unilateral", is_flag=True, help="Without the hub, through the challenge window.")
@timeout_option
@json_option
@reports_errors
def close(
    *,
    folder: Path,
    channel: str | None,
    unilateral: bool,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    r"""Close in agreement with the hub, or start a close without it.

    \b
    Example:
      farthing wallet close --folder alice
    """
    method = "start_close" if unilateral else "close"
    params = given(channel=channel, timeout_seconds=timeout_seconds)
    emit(ask(folder, method, params, seconds=timeout_seconds or 2 * CALL_SECONDS), as_json=as_json)


@click.command()
@click.argument("amount", type=AMOUNT)
@folder_option
@channel_option
@timeout_option
@json_option
@reports_errors
def withdraw(
    *,
    amount: int,
    folder: Path,
    channel: str | None,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    r"""Take money out of the open channel, in agreement with the hub.

    Exit code 2: it may still happen. Its amount is reserved until it is on-chain or has died.

    \b
    Example:
      farthing wallet withdraw 12.5c --folder alice
    """
    params = given(amount_ucent=amount, channel=channel, timeout_seconds=timeout_seconds)
    seconds = timeout_seconds or 2 * CALL_SECONDS
    emit(ask(folder, "withdraw", params, seconds=seconds), as_json=as_json)


@click.command()
@folder_option
@timeout_option
@json_option
@reports_errors
def claim(*, folder: Path, timeout_seconds: float | None, as_json: bool) -> None:
    r"""Take what the contract could not pay out before, as `wallet balance` shows it.

    \b
    Example:
      farthing wallet claim --folder alice
    """
    params = given(timeout_seconds=timeout_seconds)
    emit(ask(folder, "claim", params, seconds=timeout_seconds or 2 * CALL_SECONDS), as_json=as_json)


@click.command("finish-close")
@folder_option
@channel_option
@timeout_option
@json_option
@reports_errors
def finish_close(
    *, folder: Path, channel: str | None, timeout_seconds: float | None, as_json: bool
) -> None:
    r"""End a channel whose challenge window has passed.

    \b
    Example:
      farthing wallet finish-close --folder alice
    """
    params = given(channel=channel, timeout_seconds=timeout_seconds)
    seconds = timeout_seconds or 2 * CALL_SECONDS
    emit(ask(folder, "finish_close", params, seconds=seconds), as_json=as_json)
