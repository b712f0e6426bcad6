"""What the devnet's commands share: where it is, how it is asked, and how things are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from ..devnet.asking import HASHES, HttpAsk, NoDevnet

RPC_DEFAULT = "http://127.0.0.1:8545"

rpc_option = click.option(
    "--rpc",
    "rpc_url",
    default=RPC_DEFAULT,
    show_default=True,
    envvar="FARTHING_DEVNET",
    metavar="URL",
    help="The devnet; or set FARTHING_DEVNET.",
)

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:(\d{{1,12}}){unit})?" for unit in _UNITS))


class DurationType(click.ParamType[int]):
    """A span of time: whole seconds, or with units as in 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read it in seconds; a usage error where it is none."""
        if isinstance(value, int):
            return value
        text = str(value)
        if re.fullmatch(r"\d{1,12}", text, re.ASCII):
            return int(text)
        found = _DURATION.fullmatch(text)
        if found is None or not text or not text.isascii():
            self.fail(f"{text!r} is no span of time: write 90, 15m, 1h30m or 2d", param, ctx)
        parts = zip(found.groups(), _UNITS.values(), strict=True)
        return sum(int(count) * seconds for count, seconds in parts if count)


class HashType(click.ParamType[str]):
    """32 bytes as hex, such as a transaction's hash."""

    name = "hash"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Read it; a usage error where it is none."""
        if not re.fullmatch(r"0x[0-9a-fA-F]{64}", str(value)):
            self.fail(f"{value!r} is no hash: 0x and 64 hex digits", param, ctx)
        return str(value).lower()


class BlockType(click.ParamType[str]):
    """A block's number or hash, or latest, as the devnet is asked for it."""

    name = "block"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Read it; a usage error where it is none."""
        text = str(value)
        if text == "latest" or re.fullmatch(r"0x[0-9a-fA-F]{64}", text):
            return text
        if re.fullmatch(r"\d{1,18}", text, re.ASCII):
            return hex(int(text))
        return self.fail(f"{text!r} is no block: a number, a hash or latest", param, ctx)


DURATION = DurationType()
HASH = HashType()
BLOCK = BlockType()


def head_of(ask: HttpAsk) -> dict[str, Any]:
    """The newest block in short; raises `NoDevnet`."""
    head = ask("eth_getBlockByNumber", "latest", HASHES)
    try:
        return {
            "block": int(head["number"], 16),
            "timestamp": int(head["timestamp"], 16),
            "hash": head["hash"],
        }
    except (KeyError, TypeError, ValueError):
        raise NoDevnet(f"{ask.rpc_url} answered with something else than a block") from None


def shown_time(timestamp: int) -> str:
    """A block's time for people, UTC."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S}"


def namer(name: Callable[[str], str | None]) -> Callable[[str | None], str]:
    """Show an address with what it is called here."""

    def shown(address: str | None) -> str:
        if address is None:
            return "none"
        called = name(address)
        return address if called is None else f"{address} ({called})"

    return shown
