"""The harness's own record: what counts as acknowledged, and what was open at a kill."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.devnet.chaos.tally import Event, Tally, reported_in


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "acknowledged.jsonl"


@pytest.fixture
def tally(file: Path) -> Iterator[Tally]:
    made = Tally(["alice", "bob"], file)
    yield made
    made.close()


def say(tally: Tally, event: Event, *references: str, name: str = "alice", code: str = "") -> None:
    said = {"event": event, "references": references, "code": code}
    tally.take(name, json.dumps(said) + "\n")


def test_what_is_ordered_is_open_until_it_is_acknowledged(tally: Tally) -> None:
    say(tally, Event.ORDERED, "1", "2")
    say(tally, Event.ACKNOWLEDGED, "1")
    assert tally.open_payments() == {"2"}
    assert tally.wallets["alice"].acknowledged == {"1"}
    assert tally.counts() == (2, 1)


def test_an_order_that_was_refused_was_never_offered(tally: Tally) -> None:
    say(tally, Event.ORDERED, "1", "2")
    say(tally, Event.REFUSED, "1", "2", code="not-now")
    assert tally.counts() == (0, 0)
    assert tally.open_payments() == set()
    assert tally.wallets["alice"].refusals == {"not-now": 2}


def test_a_reading_that_was_refused_stays_submitted(tally: Tally) -> None:
    say(tally, Event.SUBMITTED, "a")
    say(tally, Event.REFUSED, "a", code="in-the-future")
    assert tally.counts() == (1, 0)


def test_a_reading_that_was_decided_and_received_is_one_payment(tally: Tally) -> None:
    say(tally, Event.SUBMITTED, "a", "b")
    say(tally, Event.DECIDED, "a")
    say(tally, Event.RECEIVED, "a")
    say(tally, Event.RECEIVED, "b")
    assert tally.counts() == (2, 2)


def test_a_line_that_a_kill_cut_off_counts_for_nothing(tally: Tally) -> None:
    line = json.dumps({"event": Event.ACKNOWLEDGED, "references": ["1"]})
    tally.take("alice", line)
    assert tally.counts() == (0, 0)


def test_a_word_that_was_not_agreed_on_is_an_error(tally: Tally) -> None:
    with pytest.raises(ValueError, match="forgotten"):
        tally.take("alice", '{"event": "forgotten", "references": ["1"]}\n')


def test_a_kill_was_in_flight_if_what_was_open_had_been_promised(tally: Tally) -> None:
    say(tally, Event.ORDERED, "1")
    tally.wallet_died("alice", ready=True)
    assert tally.in_flight({"1"}.__contains__) == 1
    assert tally.in_flight(set[str]().__contains__) == 0


def test_a_kill_with_nothing_open_or_of_a_process_that_starts_was_not_in_flight(
    tally: Tally,
) -> None:
    tally.wallet_died("alice", ready=True)
    say(tally, Event.ORDERED, "1", name="bob")
    tally.wallet_died("bob", ready=False)
    assert tally.in_flight(lambda _: True) == 0


def test_after_a_wallets_death_its_orders_are_open_no_more(tally: Tally) -> None:
    say(tally, Event.ORDERED, "1")
    tally.wallet_died("alice", ready=True)
    assert tally.open_payments() == set()
    say(tally, Event.ORDERED, "2")
    tally.wallet_ended("alice")
    assert tally.open_payments() == set()
    assert tally.counts() == (2, 0)


def test_what_the_hub_acknowledged_before_its_death_was_not_in_flight(tally: Tally) -> None:
    say(tally, Event.ORDERED, "1")
    before = tally.open_payments()
    say(tally, Event.ACKNOWLEDGED, "1")  # which had been on its way
    tally.hub_died("hub", before, ready=True)
    say(tally, Event.ORDERED, "2", name="bob")
    tally.hub_died("hub", tally.open_payments(), ready=True)
    assert tally.in_flight(lambda _: True) == 1


def test_the_record_is_read_back_from_its_file(tally: Tally, file: Path) -> None:
    say(tally, Event.ORDERED, "1", "2")
    say(tally, Event.ACKNOWLEDGED, "1")
    say(tally, Event.RECEIVED, "a", name="bob")
    tally.close()
    found = reported_in(file)
    assert found == tally.wallets
