"""Two processes with one key: each is told, stays away for long, and the operator sees it."""

import logging

import pytest

from farthing.channels.client.twin import (
    BACKOFF_SECONDS_MAX,
    BACKOFF_SECONDS_MIN,
    RunningTwice,
    Twin,
)
from farthing.channels.ids import Address, address_to_hex
from farthing.channels.messages import Error
from farthing.node.doubles import REMEMBERED_SECONDS, SIGNERS_MAX, TAKEOVER_SECONDS, Doubles

from ..people import ALICE, BOB


def said(code: str) -> Error:
    return Error(code=code, channel=b"", text="text", what_to_do="do")


def twin(dice: float = 1.0) -> Twin:
    return Twin(clock=lambda: 1_700_000_000.5, dice=lambda: dice)


def test_whoever_is_replaced_on_its_own_connection_has_a_twin_and_stays_away() -> None:
    alice = twin()
    assert (alice.record(), alice.rested(), alice.to_say()) == (None, 0.0, None)
    with pytest.raises(RunningTwice):
        alice.hear(said("replaced"))
    assert alice.record() == {"seen": 1_700_000_000, "text": "another process uses this key"}
    assert alice.rested() == BACKOFF_SECONDS_MIN
    assert alice.rested() == 0.0  # once for each takeover
    complaint = alice.to_say()
    assert complaint is not None
    assert complaint.code == "running-twice"
    assert alice.to_say() is None


def test_each_takeover_is_answered_by_a_longer_pause_up_to_an_hour() -> None:
    alice, pauses = twin(dice=0.0), []
    for _ in range(12):
        with pytest.raises(RunningTwice):
            alice.hear(said("replaced"))
        pauses.append(alice.rested())
    assert pauses[:3] == [BACKOFF_SECONDS_MIN * factor / 2 for factor in (1, 2, 4)]
    assert pauses[-1] == BACKOFF_SECONDS_MAX / 2


def test_what_the_hub_says_of_a_twin_is_news_once_and_ends_nothing() -> None:
    alice = twin()
    assert not alice.hear(said("not-now"))
    assert alice.hear(said("running-twice"))
    assert not alice.hear(said("running-twice"))
    assert alice.record() is not None
    assert alice.rested() == 0.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_takeovers_within_a_minute_are_two_processes_and_rarer_ones_a_bad_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    doubles = Doubles(clock)
    for _ in range(6):
        assert not doubles.took_over(ALICE.address)
        clock.now += TAKEOVER_SECONDS / 2 + 1
    assert doubles.listed() == []
    with caplog.at_level(logging.WARNING):
        assert [doubles.took_over(BOB.address) for _ in range(4)] == [False, False, True, True]
    assert doubles.listed() == [address_to_hex(BOB.address)]
    assert caplog.text.count("two processes use the key") == 1
    clock.now += REMEMBERED_SECONDS + 1
    assert doubles.listed() == []


def test_a_wallet_s_own_word_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    doubles = Doubles(Clock())
    doubles.found(ALICE.address)
    doubles.found(ALICE.address)
    assert doubles.is_double(ALICE.address)
    assert not doubles.is_double(BOB.address)
    assert doubles.took_over(ALICE.address)
    assert caplog.text.count("two processes use the key") == 1


def test_what_is_remembered_is_bounded() -> None:
    doubles = Doubles(Clock())
    for number in range(SIGNERS_MAX + 10):
        signer = Address(number.to_bytes(20, "big"))
        doubles.took_over(signer)
        doubles.found(signer)
    assert len(doubles.listed()) == len(doubles._takeovers) == SIGNERS_MAX
