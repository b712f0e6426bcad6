"""How handshakes are shared among addresses: greedy ones, many of them, members and guests."""

import pytest
import trio
from trio.testing import MockClock

from farthing.channels.errors import PeerError
from farthing.channels.ids import Address
from farthing.node import addresses as addresses_module
from farthing.node import limits
from farthing.node.addresses import BURST_SECONDS, STRANGERS_PART, Addresses
from farthing.node.limits import Door, DoorLimits, TooManyGuests, Visit

PER_SECOND = 100
ALICE = Address(b"\xa1" * 20)
BOB = Address(b"\xb0" * 20)


def shared(per_address: int = 10 * PER_SECOND) -> Addresses:
    """Handshakes of which one address alone could take all but for its share."""
    return Addresses(PER_SECOND, per_address)


def flood(
    addresses: Addresses, keys: list[str], *, seconds: float, first: float = 0
) -> dict[str, int]:
    """Each address tries all it can, a hundred times a second; how often each got in."""
    taken = dict.fromkeys(keys, 0)
    for step in range(int(seconds * 100)):
        for key in keys:
            while not addresses.take(key, first + step / 100):
                taken[key] += 1
    return taken


# -- sharing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("greedy", [1, 2, 20])
def test_whoever_takes_all_it_can_leaves_as_much_to_one_that_comes_next(greedy: int) -> None:
    addresses = shared()
    keys = [f"mallory {n}" for n in range(greedy)]
    flood(addresses, keys, seconds=60)
    before = addresses.turned_away  # they came all at once, and the last found little left
    taken = flood(addresses, keys, seconds=20, first=60)
    share = STRANGERS_PART * PER_SECOND / (greedy + 1)
    assert all(0.8 * share < count / 20 < 1.2 * share for count in taken.values())
    newcomers = [f"wallet {n}" for n in range(int(share * BURST_SECONDS / 2))]
    assert all(addresses.take(key, 80) == "" for key in newcomers)
    assert addresses.turned_away == before


def test_an_address_that_is_alone_is_bounded_by_its_own_limit_and_by_half_of_all() -> None:
    for per_address, at_once in ((5, 5 * BURST_SECONDS), (PER_SECOND, PER_SECOND * BURST_SECONDS)):
        addresses = shared(per_address)
        addresses.remember(ALICE, "alice")
        taken = 0
        while not addresses.take("alice", 0):
            taken += 1
        assert taken == min(at_once, PER_SECOND * BURST_SECONDS // 2)


def test_what_was_taken_is_forgotten_with_time() -> None:
    addresses = shared()
    first = flood(addresses, ["mallory"], seconds=0.01)["mallory"]
    assert addresses.take("mallory", 0) == "too many connections begin"
    again = flood(addresses, ["mallory"], seconds=0.01, first=10 * BURST_SECONDS)["mallory"]
    assert again == first


def test_a_flood_from_thousands_of_addresses_leaves_members_their_part() -> None:
    addresses = shared()
    for signer, home in ((ALICE, "alice"), (BOB, "bob")):
        addresses.remember(signer, home)
    crowd = [f"mallory {n}" for n in range(3000)]
    taken = sum(flood(addresses, crowd, seconds=0.01).values())
    assert taken <= STRANGERS_PART * PER_SECOND * BURST_SECONDS + 1
    assert addresses.turned_away > 0  # some of them may have been wallets, and nobody knows
    assert addresses.take("carol", 0)
    assert addresses.take("alice", 0) == ""
    members = flood(addresses, ["alice"], seconds=0.01)["alice"]
    assert members > 0.1 * PER_SECOND * BURST_SECONDS
    assert addresses.take("bob", 0) == ""  # whom alice cannot keep out either


def test_where_a_member_came_from_last_is_its_only_home() -> None:
    addresses = shared()
    for number in range(5):
        addresses.remember(ALICE, f"home {number}")
    assert dict(addresses._members) == {"home 4": 1}
    addresses.remember(BOB, "home 4")
    addresses.remember(ALICE, "home 5")
    assert dict(addresses._members) == {"home 4": 1, "home 5": 1}


def test_homes_and_addresses_are_forgotten_rather_than_remembered_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses_module, "HOMES_MAX", 2)
    monkeypatch.setattr(addresses_module, "ADDRESSES_MAX", 3)
    addresses = shared()
    for number in range(10):
        addresses.remember(Address(bytes([number]) * 20), f"home {number}")
        assert addresses.take(f"home {number}", 0) == ""
    assert dict(addresses._members) == {"home 8": 1, "home 9": 1}
    assert len(addresses) == 3


def test_only_who_had_not_had_its_share_counts_as_turned_away() -> None:
    addresses = shared(per_address=1)
    for _ in range(BURST_SECONDS):
        assert addresses.take("mallory", 0) == ""
    assert addresses.take("mallory", 0) == "too many connections begin from this address"
    assert addresses.turned_away == 0
    addresses.remember(ALICE, "mallory")  # alice lives behind the same address
    assert addresses.take("mallory", 0)
    assert addresses.turned_away == 1


def test_behind_a_proxy_all_share_one_address_and_nothing_is_shared_out() -> None:
    addresses = Addresses(PER_SECOND, 0)
    addresses.remember(ALICE, "proxy")
    for _ in range(PER_SECOND * BURST_SECONDS):
        assert addresses.take("proxy", 0) == ""
    assert addresses.take("proxy", 0) == "too many connections begin"
    assert addresses.turned_away == 1
    assert len(addresses) == 0


# -- places -------------------------------------------------------------------------------------


def a_door(*members: Address, **changes: int) -> Door:
    values = {
        "connections_max": 1,
        "guests_max": 2,
        "strangers_max": 3,
        "handshakes_per_second": 1000,
        "handshakes_per_address": 1000,
    }
    return Door(DoorLimits(**{**values, **changes}), members.__contains__, lambda _: False)


def guest(door: Door, host: str, number: int) -> tuple[Visit, list[PeerError]]:
    """A guest from an address, and why it was ended."""
    visit = door.arrive(host)
    ended: list[PeerError] = []
    visit.end = ended.append
    door.admit(visit, Address(bytes([number]) * 20))
    return visit, ended


async def test_the_address_with_most_strangers_makes_room_and_not_the_oldest_of_all() -> None:
    door = a_door()
    bob = door.arrive("192.0.2.1")
    mallory = [door.arrive("192.0.2.66") for _ in range(2)]
    carol = door.arrive("192.0.2.2")
    assert [visit.overtaken for visit in (bob, *mallory, carol)] == [False, True, False, False]
    assert door.turned_away == 0
    door.arrive("192.0.2.66")  # its own again
    assert [visit.overtaken for visit in (bob, *mallory, carol)] == [False, True, True, False]
    assert door.turned_away == 0
    door.arrive("192.0.2.3")  # each has one place now, so the oldest goes, and it is a pity
    assert bob.overtaken
    assert door.turned_away == 1
    assert door.hits["overtaken"] == 3


async def test_guests_of_one_address_make_room_for_one_from_another(
    autojump_clock: MockClock,
) -> None:
    door = a_door()
    (first, ended), (second, _) = (guest(door, "192.0.2.66", n) for n in (1, 2))
    with pytest.raises(TooManyGuests):
        guest(door, "192.0.2.66", 3)  # its places are taken, by itself
    guest(door, "192.0.2.1", 4)
    assert isinstance(ended[0], TooManyGuests)
    assert door.guests == 2
    with pytest.raises(TooManyGuests):
        guest(door, "192.0.2.66", 5)
    for visit in (first, second):
        door.leave(visit)
    assert door.guests == 1


async def test_a_guest_s_place_is_its_own_for_a_while_and_not_for_ever(
    autojump_clock: MockClock,
) -> None:
    door = a_door()
    _, ended = guest(door, "192.0.2.66", 1)
    await trio.sleep(limits.GUEST_SECONDS)
    guest(door, "192.0.2.66", 2)
    with pytest.raises(TooManyGuests):
        guest(door, "192.0.2.66", 3)
    await trio.sleep(1)
    guest(door, "192.0.2.66", 4)
    assert len(ended) == 1
    assert door.guests == 2


async def test_guests_that_are_ending_are_bounded_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAKEOVERS_MAX", 1)
    door = a_door()
    first, _ = guest(door, "192.0.2.66", 1)
    guest(door, "192.0.2.66", 2)
    await trio.sleep(limits.GUEST_SECONDS + 1)
    guest(door, "192.0.2.1", 3)
    with pytest.raises(TooManyGuests):
        guest(door, "192.0.2.2", 4)
    door.leave(first)
    guest(door, "192.0.2.2", 4)
    assert door.guests == 2


async def test_a_member_for_whom_there_is_no_place_was_turned_away() -> None:
    door = a_door(ALICE, BOB)
    door.admit(door.arrive("192.0.2.1"), ALICE)
    with pytest.raises(PeerError):
        door.admit(door.arrive("192.0.2.2"), BOB)
    assert door.turned_away == 1
