"""What a reorganisation took from a channel, and what that does to its offers."""

from dataclasses import replace
from typing import Any

import pytest

from farthing.channels.client.vanished import what_vanished
from farthing.channels.events import ObservedChannel
from farthing.channels.state import OFFER_SECONDS_MAX, ChainStatus, Phase
from farthing.channels.transition import step

from ..people import channel, moment, view

KNOWN = replace(view(), deposit_ucent=(100, 50), withdrawn_ucent=(9, 8), settled_ucent=(7, 6))
NEWER = replace(KNOWN, block=KNOWN.block + 1, timestamp=KNOWN.timestamp + 1)

LOSSES: list[tuple[dict[str, Any], str]] = [
    ({"status": ChainStatus.NEVER}, "its opening has vanished"),
    ({"deposit_ucent": (60, 40)}, "50 µ¢ of deposits"),
    ({"withdrawn_ucent": (0, 8)}, "9 µ¢ of withdrawals"),
    ({"settled_ucent": (7, 1)}, "5 µ¢ of settled payments"),
]


@pytest.mark.parametrize(("changes", "text"), LOSSES)
def test_what_vanished_is_said_in_words(changes: dict[str, Any], text: str) -> None:
    assert text in what_vanished(KNOWN, replace(NEWER, **changes))


def test_a_close_that_vanished_is_said_in_words() -> None:
    closing = replace(KNOWN, status=ChainStatus.CLOSING)
    assert "it was closing and is open again" in what_vanished(closing, NEWER)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deposit_ucent": (200, 50), "settled_ucent": (70, 60), "withdrawn_ucent": (10, 10)},
        {"status": ChainStatus.CLOSED},
    ],
)
def test_news_are_no_losses(changes: dict[str, Any]) -> None:
    assert what_vanished(KNOWN, replace(NEWER, **changes)) == ""


def test_an_older_block_says_nothing() -> None:
    assert what_vanished(KNOWN, replace(KNOWN, block=1, status=ChainStatus.NEVER)) == ""


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        ({}, {"withdrawn_ucent": (0, 8)}),
        ({"status": ChainStatus.CLOSING}, {}),
        ({"status": ChainStatus.CLOSED}, {}),
        ({}, {"timestamp": KNOWN.timestamp - 1}),
    ],
)
def test_where_an_ended_offer_may_live_again_nothing_is_signed_until_it_is_dead(
    known: dict[str, Any], changes: dict[str, Any]
) -> None:
    state = channel(chain=replace(KNOWN, **known))
    now = moment()
    after = step(state, ObservedChannel(view=replace(NEWER, **changes)), now).state
    assert after.phase is Phase.RESTORED
    assert after.doubt_ends == max(now.head_timestamp, now.now) + OFFER_SECONDS_MAX
    later = replace(now, head_timestamp=after.doubt_ends + 1, now=after.doubt_ends + 1)
    last = replace(NEWER, block=NEWER.block + 1, timestamp=later.head_timestamp)
    assert step(after, ObservedChannel(view=last), later).state.doubt_ends is None


def test_a_deposit_that_vanished_leaves_no_doubt_and_less_to_spend() -> None:
    state = channel(chain=KNOWN)
    after = step(state, ObservedChannel(view=replace(NEWER, deposit_ucent=(60, 50))), moment())
    assert after.state.doubt_ends is None
    assert after.state.owned_ucent(state.side) < state.owned_ucent(state.side)
