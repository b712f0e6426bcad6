"""The development chain's clock: the wall clock, moved, always later than the parent."""

from __future__ import annotations

from pathlib import Path

import pytest

from farthing.devnet.errors import TimeRefused
from farthing.devnet.records import CallRequest

from .devnet_probe import Wall, chains_closed, deploy, made_chain

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

START = 1_800_000_000


def test_a_block_takes_the_time_of_the_wall_clock() -> None:
    wall = Wall(START)
    chain = made_chain(wall)
    wall.seconds += 7.9
    assert chain.mine().timestamp == START + 7


def test_blocks_of_the_same_second_are_a_second_apart_and_the_clock_waits_for_them() -> None:
    wall = Wall(START)
    chain = made_chain(wall)
    assert [chain.tick() is not None for _ in range(4)] == [True, False, False, False]
    assert chain.head.timestamp == START + 1
    deploy(chain)
    deploy(chain)
    assert chain.head.timestamp == START + 3
    wall.seconds += 2
    assert chain.tick() is None
    wall.seconds += 1
    head = chain.tick()
    assert head is not None
    assert head.timestamp == START + 4


def test_ticks_a_second_apart_mine_each_time_even_where_they_jitter_over_a_second() -> None:
    wall = Wall(START)
    chain = made_chain(wall, automine=False)
    numbers = []
    for tick in range(1, 40):
        wall.seconds = START + tick + (0.999 if tick % 2 else 1.001)
        head = chain.tick()
        numbers.append(head is not None)
    assert all(numbers)
    assert chain.head.timestamp - (START + 40) <= 1


def test_ticks_of_a_tenth_of_a_second_do_not_make_time_run_away() -> None:
    wall = Wall(START)
    chain = made_chain(wall, automine=False)
    for tick in range(100):
        wall.seconds = START + tick / 10
        chain.tick()
    assert 0 <= chain.head.timestamp - wall.seconds <= 1
    assert 9 <= chain.head.number <= 12


def test_a_transaction_that_waits_for_another_does_not_make_time_run_away() -> None:
    wall = Wall(START)
    chain = made_chain(wall, automine=False)
    alice, bob, _ = chain.accounts
    chain.send(CallRequest(sender=alice.address, to=bob.address, gas=21_000), nonce=5)
    for _ in range(10):
        chain.tick()
    assert chain.head.timestamp == START + 1
    chain.send(CallRequest(sender=alice.address, to=bob.address, gas=21_000), nonce=0)
    assert chain.tick() is not None
    assert chain.tick() is None


def test_an_increase_moves_the_next_block_and_all_later_ones() -> None:
    wall = Wall(START)
    chain = made_chain(wall)
    assert chain.increase_time(100) == 100
    assert chain.increase_time(50) == 150
    assert chain.head.timestamp == START
    assert chain.mine().timestamp == START + 150
    wall.seconds += 10
    assert chain.mine().timestamp == START + 160


def test_a_time_that_was_set_is_exact_and_the_clock_goes_on_from_it() -> None:
    wall = Wall(START)
    chain = made_chain(wall)
    chain.set_next_timestamp(START + 1_000)
    assert chain.mine().timestamp == START + 1_000
    wall.seconds += 5
    assert chain.mine().timestamp == START + 1_005


def test_mined_blocks_move_the_clock_with_them() -> None:
    wall = Wall(START)
    chain = made_chain(wall)
    chain.mine(10, 60)
    assert chain.head.timestamp == START + 1 + 9 * 60
    for number in range(chain.head.number - 8, chain.head.number + 1):
        header, parent = chain.header(number), chain.header(number - 1)
        assert header is not None
        assert parent is not None
        assert header.timestamp - parent.timestamp == 60
    wall.seconds += 3
    assert chain.mine().timestamp == START + 1 + 9 * 60 + 3


def test_an_interval_tick_follows_at_once_on_blocks_that_were_mined_by_hand() -> None:
    wall = Wall(START)
    chain = made_chain(wall, automine=False)
    chain.mine(500)
    wall.seconds += 1
    head = chain.tick()
    assert head is not None
    assert head.timestamp == START + 501


def test_the_moved_clock_survives_a_restart(tmp_path: Path) -> None:
    wall = Wall(START)
    chain = made_chain(wall, folder=tmp_path)
    chain.increase_time(86_400)
    chain.close()
    chain = made_chain(wall, folder=tmp_path)
    assert chain.mine().timestamp == START + 86_400
    chain.set_next_timestamp(START + 200_000)
    chain.mine()
    chain.close()
    wall.seconds += 30
    chain = made_chain(wall, folder=tmp_path)
    assert chain.mine().timestamp == START + 200_030


def test_a_wall_clock_that_goes_back_does_not_take_the_chain_with_it() -> None:
    wall = Wall(START)
    chain = made_chain(wall)
    wall.seconds -= 3_600
    assert chain.mine().timestamp == START + 1


@pytest.mark.parametrize("seconds", [-1, 10**10 + 1])
def test_a_move_back_or_too_far_is_refused(seconds: int) -> None:
    with pytest.raises(TimeRefused, match="give 0 to 10000000000"):
        made_chain().increase_time(seconds)


def test_many_moves_cannot_add_up_to_too_far() -> None:
    chain = made_chain()
    chain.increase_time(10**10)
    with pytest.raises(TimeRefused, match="ahead already"):
        chain.increase_time(1)


@pytest.mark.parametrize("ahead", [0, -5, 10**10 + 1])
def test_a_time_that_is_not_later_than_the_head_or_too_far_is_refused(ahead: int) -> None:
    chain = made_chain()
    with pytest.raises(TimeRefused, match="give a later one"):
        chain.set_next_timestamp(chain.head.timestamp + ahead)
