"""What chaos will do is known before it begins, from the seed alone."""

from collections import Counter

import pytest

from farthing.devnet.chaos.schedule import (
    HUB,
    KILL,
    Entry,
    Fault,
    FaultKind,
    Schedule,
    UnknownFault,
    faults_of,
    plan,
)

WALLETS = ("alice", "bob", "carol", "dave")
ALL = tuple(FaultKind)


def kills(schedule: Schedule) -> list[Entry]:
    return [entry for entry in schedule.entries if entry.what == KILL]


def by_victim(schedule: Schedule) -> Counter[str]:
    """How often each process is killed; one that is killed again while it starts, twice."""
    counts: Counter[str] = Counter()
    for entry in kills(schedule):
        counts[entry.victim] += 2 if entry.again else 1
    return counts


def test_the_same_seed_makes_the_same_schedule_and_another_one_another() -> None:
    assert plan(200, 1, WALLETS, ALL) == plan(200, 1, WALLETS, ALL)
    assert plan(200, 1, WALLETS, ALL) != plan(200, 2, WALLETS, ALL)


def test_a_seed_that_was_written_down_is_done_again_exactly() -> None:
    """Figures in the docs and in reports name a seed: what it means does not change unnoticed."""
    schedule = plan(4, 7, ("alice", "bob"))
    assert [(e.at, e.victim, e.seconds, e.again) for e in schedule.entries] == SEED_7


@pytest.mark.parametrize("seed", range(20))
def test_every_seed_kills_exactly_as_often_as_asked_for_and_everybody(seed: int) -> None:
    counts = by_victim(plan(200, seed, WALLETS))
    assert counts.total() == 200
    assert counts[HUB] >= 60
    assert counts.total() - counts[HUB] >= 60
    of_wallets = [counts[name] for name in WALLETS]
    assert max(of_wallets) - min(of_wallets) <= 4


@pytest.mark.parametrize("count", range(12))
def test_a_few_kills_are_as_many_as_asked_for(count: int) -> None:
    assert by_victim(plan(count, 3, ("alice",))).total() == count


def test_now_and_then_a_process_is_killed_while_it_starts() -> None:
    assert sum(bool(entry.again) for entry in kills(plan(200, 1, WALLETS))) == 20


def test_faults_leave_the_kills_of_a_seed_as_they_are() -> None:
    assert kills(plan(50, 5, WALLETS, ALL)) == kills(plan(50, 5, WALLETS))


@pytest.mark.parametrize("kind", FaultKind)
def test_only_faults_that_were_asked_for_come_up_and_each_of_them_does(kind: FaultKind) -> None:
    entries = [e for e in plan(1, 4, WALLETS, (kind,)).entries if e.what != KILL]
    assert {entry.what for entry in entries} == {fault for fault in Fault if fault.kind is kind}


def test_no_fault_comes_up_twice_more_often_than_another() -> None:
    counts = Counter(e.what for e in plan(100, 4, WALLETS, ALL).entries if e.what != KILL)
    assert set(counts) == set(Fault)
    assert len(set(counts.values())) == 1


def test_everything_begins_while_the_load_lasts_and_in_order() -> None:
    schedule = plan(30, 9, WALLETS, ALL)
    moments = [entry.at for entry in schedule.entries]
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < schedule.working_seconds


def test_a_clock_jumps_ahead_and_behind() -> None:
    jumps = {e.what: e.amount for e in plan(1, 4, WALLETS, (FaultKind.CLOCK,)).entries}
    assert jumps[Fault.CLOCK_AHEAD] > 1
    assert jumps[Fault.CLOCK_BEHIND] < -1


def test_kinds_of_faults_are_read_from_a_list() -> None:
    assert faults_of("") == ()
    assert faults_of("wire, disk,wire") == (FaultKind.WIRE, FaultKind.DISK)
    assert faults_of("all") == ALL
    with pytest.raises(UnknownFault, match="'plague' is no kind of fault: name some of wire, disk"):
        faults_of("wire,plague")


SEED_7 = [
    (1.5, "alice", 0.721, 0.0),
    (2.965, "alice", 0.493, 0.0),
    (4.378, "hub", 0.23, 0.0),
    (5.004, "bob", 0.273, 0.0),
]
