"""The page about the devnet's JSON-RPC names every method that is served, and the limits it has."""

from __future__ import annotations

import re

from farthing.devnet import chain, filters, journal, server, subscriptions, websocket
from farthing.devnet.cheats import NOT_SERVED
from farthing.devnet.methods import METHODS
from farthing.devnet.subscriptions import Subscriptions
from farthing.devnet.tracing import hooks

from .pages import page

PAGE = page("devnet-rpc.md")


def test_the_table_names_each_method_once_and_no_other() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted([*METHODS, *Subscriptions().methods()])


def test_what_is_not_served_is_no_method() -> None:
    assert not set(NOT_SERVED) & set(METHODS)


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    for row in (
        f"| a body or message | {server.BODY_BYTES_MAX // 2**20} MiB |",
        f"| requests in a batch | {server.BATCH_MAX:,} |",
        f"| nesting of JSON | {server.DEPTH_MAX} |",
        f"| logs in one answer | {chain.LOGS_MAX:,} (`-32005`) |",
        f"| one trace, or all of a block | about {hooks.TRACE_BYTES_MAX // 2**20} MiB (`-32005`) |",
        f"| filters | {filters.FILTERS_MAX:,}; one that nobody asks for is forgotten after "
        f"{filters.IDLE_SECONDS // 60} minutes |",
        f"| WebSocket connections | {websocket.CONNECTIONS_MAX}, each with "
        f"{subscriptions.SUBSCRIPTIONS_MAX} subscriptions |",
        f"disconnected after {server.UNREAD_MS_MAX // 1_000} seconds",
        f"falls {journal.ENTRIES_MAX:,} events behind",
    ):
        assert row in PAGE, row
