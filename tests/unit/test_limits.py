"""Buckets, memory, days and descriptors: each limit by itself."""

import resource
from collections import Counter
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from farthing.channels.client import pace as pacing
from farthing.channels.client.ledger import Statement
from farthing.channels.client.memory import Memory, MemoryFull
from farthing.channels.client.pace import (
    POINTS_BURST,
    POINTS_PER_SECOND,
    REESTABLISH_BURST,
    SLICE_POINTS,
    Pace,
    TokenBucket,
    TooManyReestablish,
    cost_of,
)
from farthing.channels.client.wire import (
    CLOSE_SECONDS_MAX,
    DECODED_MAX,
    PIECE_BYTES,
    WRITE_SECONDS_MAX,
    ConnectionLost,
    SlowReader,
    Wire,
)
from farthing.channels.codecs import CODECS, encode_message
from farthing.channels.errors import PeerError
from farthing.channels.frames import encode_frame
from farthing.channels.ids import Address
from farthing.channels.messages import Message, Ping, Reestablish, SubmitReadings, Update
from farthing.node import limits
from farthing.node.addresses import BURST_SECONDS
from farthing.node.descriptors import OTHERS, TooFewDescriptors, make_room
from farthing.node.forgetting import DailyAllowance, forget_old
from farthing.node.limits import (
    Door,
    DoorLimits,
    TooManyConnections,
    TooManyGuests,
    TooManyHandshakes,
)
from farthing.node.store import DAY_SECONDS, HubStore

from ..hub_parts import committed, parts, reopened
from ..people import CHANNEL, NOW, payment

SIGNER = Address(b"\xa2" * 20)

# -- buckets ------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]  # no more than a burst


def test_what_is_borrowed_is_waited_for_by_whoever_comes_next() -> None:
    bucket = TokenBucket(rate=10, burst=5, now=0)
    assert bucket.borrow(5, 0) == 0
    assert bucket.borrow(20, 0) == 2
    assert bucket.borrow(10, 2) == 1


async def test_line_rate_is_never_slowed(autojump_clock: MockClock) -> None:
    tally: Counter[str] = Counter()
    pace = Pace(tally)
    batch = Update(channel=CHANNEL, first_nonce=1, signature=bytes(65), payments=(payment(),) * 64)
    single = Update(channel=CHANNEL, first_nonce=1, signature=bytes(65), payments=(payment(),))
    for _ in range(60):  # a minute of 30,000 payments a second, in either form
        for update, count in ((batch, 235), (single, 15_000)):
            for part, points in pace.slices([update] * count):
                await pace.spend(points, len(part) * len(update.payments) * 200)
        await trio.sleep(1)
    assert tally["slowed"] == 0


async def test_a_connection_may_use_no_more_than_its_points(autojump_clock: MockClock) -> None:
    tally: Counter[str] = Counter()
    pace = Pace(tally)
    started = trio.current_time()
    spent = 0
    while trio.current_time() < started + 10:
        await pace.spend(SLICE_POINTS, 0)
        spent += SLICE_POINTS
    assert spent <= POINTS_BURST + 10 * POINTS_PER_SECOND + SLICE_POINTS
    assert tally["slowed"] > 0


async def test_bytes_are_counted_beside_points(autojump_clock: MockClock) -> None:
    pace = Pace()
    started = trio.current_time()
    await pace.spend(0, pacing.BYTES_BURST)
    assert trio.current_time() == started
    await pace.spend(0, 2 * pacing.BYTES_PER_SECOND)
    assert trio.current_time() == started + 2


async def test_slices_keep_every_message_in_order_and_are_short() -> None:
    pings: list[Message] = [Ping(token=n) for n in range(1000)]
    big = SubmitReadings(id=bytes(16), format=110, senml=bytes(40_000))
    messages = [*pings[:500], big, *pings[500:]]
    parts_ = list(Pace().slices(messages))
    assert [message for part, _ in parts_ for message in part] == messages
    assert all(sum(map(cost_of, part)) == points for part, points in parts_)
    assert all(points <= SLICE_POINTS or part == [big] for part, points in parts_)


def test_every_message_has_a_cost() -> None:
    assert min(pacing._POINTS.values()) >= 1
    known = {codec.message for codec in CODECS}
    assert {kind for kind in pacing._POINTS if kind.__name__ != "Ack"} <= known
    assert cost_of(Ping(token=1)) == 50


async def test_vouchers_may_be_shown_once_a_second_for_ever(autojump_clock: MockClock) -> None:
    pace = Pace()
    shown: list[Message] = [Reestablish(channel=CHANNEL, sent=None, received=None)]
    for _ in range(1000):
        await trio.sleep(1)
        list(pace.slices(shown))
    await trio.sleep(REESTABLISH_BURST)
    slices = pace.slices([*shown * REESTABLISH_BURST, Ping(token=1), *shown])
    given = [message for _ in range(REESTABLISH_BURST + 1) for message in next(slices)[0]]
    assert given == [*shown * REESTABLISH_BURST, Ping(token=1)]  # those before it are handed on
    with pytest.raises(TooManyReestablish):
        next(slices)


# -- memory -------------------------------------------------------------------------------------


class Holding:
    """A connection that remembers why it gave up."""

    def __init__(self) -> None:
        self.error: PeerError | None = None

    def give_up(self, error: PeerError) -> None:
        self.error = error


def test_over_the_limit_the_greatest_gives_up_and_no_other() -> None:
    memory = Memory(100)
    small, great = Holding(), Holding()
    memory.hold(small, 30)
    memory.hold(great, 60)
    memory.hold(small, 40)
    assert (small.error, great.error, memory.total_bytes) == (None, None, 100)
    memory.hold(small, 45)
    assert small.error is None
    assert isinstance(great.error, MemoryFull)
    assert memory.total_bytes == 45
    memory.hold(small, 0)
    assert memory.total_bytes == 0


async def test_whoever_gives_up_is_told_at_once_and_sends_nothing_more() -> None:
    memory = Memory(1000)
    ours, _ = memory_stream_pair()
    wire = Wire(ours, memory=memory)
    wire.send(SubmitReadings(id=bytes(16), format=110, senml=bytes(900)))
    with pytest.raises(MemoryFull):
        wire.send(SubmitReadings(id=bytes(16), format=110, senml=bytes(900)))
    assert memory.total_bytes == 0
    with pytest.raises(MemoryFull):
        await wire.write_forever()
    await wire.finish()


# -- writing and reading ------------------------------------------------------------------------


async def test_a_write_without_progress_ends_the_connection(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    wire = Wire(ours)

    async def never(data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    ours.send_stream.send_all = never  # type: ignore[method-assign]
    wire.send(Ping(token=1))
    started = trio.current_time()
    with pytest.raises(SlowReader, match=f"nothing for {WRITE_SECONDS_MAX} s"):
        await wire.write_forever()
    assert trio.current_time() == started + WRITE_SECONDS_MAX
    with pytest.raises(SlowReader):  # and not that the connection is closed: this is why
        wire.send(Ping(token=2))
    await wire.finish()
    await theirs.aclose()


async def test_a_connection_that_is_to_end_does_not_linger(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    wire = Wire(ours)

    async def never(data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    ours.send_stream.send_all = never  # type: ignore[method-assign]
    wire.send(Ping(token=1))
    started = trio.current_time()
    wire.close_soon()
    with pytest.raises(ConnectionLost, match="this side"):
        await wire.write_forever()
    assert trio.current_time() == started + CLOSE_SECONDS_MAX
    await wire.finish()
    await theirs.aclose()


async def test_a_slow_write_that_makes_progress_goes_on(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    wire, taken = Wire(ours), []

    async def slowly(data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(WRITE_SECONDS_MAX - 1)
        taken.append(len(data))

    ours.send_stream.send_all = slowly  # type: ignore[method-assign]
    wire.send(SubmitReadings(id=bytes(16), format=110, senml=bytes(3 * PIECE_BYTES)))
    with trio.move_on_after(10 * WRITE_SECONDS_MAX):
        await wire.write_forever()
    assert len(taken) == 4
    assert max(taken) == PIECE_BYTES
    await theirs.aclose()


async def test_a_read_of_many_messages_is_given_in_parts_and_whole() -> None:
    ours, theirs = memory_stream_pair()
    wire = Wire(ours)
    wire._reader.frame_bytes_max = 2**20
    pings = [Ping(token=n) for n in range(1, 2 * DECODED_MAX + 2)]
    await theirs.send_all(b"".join(encode_frame(encode_message(ping)) for ping in pings))
    read: list[list[Message]] = [await wire.receive() for _ in range(3)]
    assert [len(part) for part in read] == [DECODED_MAX, DECODED_MAX, 1]
    assert [message for part in read for message in part] == pings
    await wire.finish()


# -- the door -----------------------------------------------------------------------------------


def a_door(**changes: int) -> Door:
    values = {
        "connections_max": 10,
        "guests_max": 10,
        "strangers_max": 10,
        "handshakes_per_second": 1000,
        "handshakes_per_address": 1,
    }
    return Door(DoorLimits(**{**values, **changes}), lambda _: True, lambda _: False)


async def test_an_address_has_its_own_handshakes_and_an_ipv6_network_counts_as_one(
    autojump_clock: MockClock,
) -> None:
    door = a_door()
    for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "fe80::1%eth0"):
        for _ in range(BURST_SECONDS):
            door.leave(door.arrive(host))
        with pytest.raises(TooManyHandshakes, match="this address"):
            door.arrive(host)
    with pytest.raises(TooManyHandshakes):
        door.arrive("2001:db8::ffff")
    await trio.sleep(1)
    door.arrive("192.0.2.1")


async def test_whoever_leaves_frees_a_place_whatever_it_was() -> None:
    door = a_door(handshakes_per_address=0)
    stranger, member = door.arrive("192.0.2.1"), door.arrive("192.0.2.1")
    door.admit(member, Address(bytes(20)))
    assert (door.strangers, door.members, door.guests) == (1, 1, 0)
    for visit in (stranger, member):
        door.leave(visit)
    assert (door.strangers, door.members, door.guests) == (0, 0, 0)


async def test_taking_over_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAKEOVERS_MAX", 2)
    values = DoorLimits(
        connections_max=1,
        guests_max=1,
        strangers_max=10,
        handshakes_per_second=1000,
        handshakes_per_address=0,
    )
    for is_member, error in ((True, TooManyConnections), (False, TooManyGuests)):
        door = Door(values, lambda _, m=is_member: m, lambda _: True)  # type: ignore[misc]
        for _ in range(3):
            door.admit(door.arrive("192.0.2.1"), SIGNER)
        with pytest.raises(error):
            door.admit(door.arrive("192.0.2.1"), SIGNER)


async def test_a_member_that_reconnects_has_no_more_points_and_guests_share_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SIGNERS_MAX", 1)
    monkeypatch.setattr(limits, "GUEST_POINTS_PER_SECOND", 1)
    door = Door(
        DoorLimits(
            connections_max=1,
            guests_max=9,
            strangers_max=10,
            handshakes_per_second=1000,
            handshakes_per_address=0,
        ),
        lambda signer: signer[0] < 10,
        lambda _: True,
    )

    def bucket(number: int) -> TokenBucket:
        visit = door.arrive("192.0.2.1")
        door.admit(visit, Address(bytes([number]) * 20))
        found = door.points(visit)
        door.leave(visit)
        return found

    first = bucket(1)
    assert bucket(1) is first
    assert bucket(2) is not first
    assert bucket(10) is bucket(11) is not first
    bucket(3)
    assert bucket(1) is not first  # of more than are remembered the oldest is forgotten


# -- descriptors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("soft", "hard", "set_to"),
    [
        (10_000, 10_000, None),
        (64, 10_000, 100 + OTHERS),
        (64, resource.RLIM_INFINITY, 100 + OTHERS),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_room_for_connections_is_made_where_it_lacks(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, set_to: int | None
) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: changed.append(both))
    assert make_room(100) == (set_to or soft)
    assert changed == ([] if set_to is None else [(set_to, hard)])


def test_connections_that_the_system_has_no_room_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 1000))
    with pytest.raises(TooFewDescriptors, match=r"need 1128 open files.*connections_max"):
        make_room(1000)


# -- days ---------------------------------------------------------------------------------------


def test_a_day_s_allowance_counts_what_was_used_before_and_ends_with_the_day() -> None:
    allowance = DailyAllowance(3, lambda who, day: 1 if (who, day) == (b"bob", 10) else 0)
    for _ in range(2):
        assert allowance.is_left(b"bob", 10 * DAY_SECONDS)
        allowance.use(b"bob")
    assert not allowance.is_left(b"bob", 11 * DAY_SECONDS - 1)
    assert allowance.is_left(b"carol", 10 * DAY_SECONDS)
    assert allowance.is_left(b"bob", 11 * DAY_SECONDS)


def _submission(number: int, now: int) -> list[Statement]:
    submission = number.to_bytes(16, "big")
    return [
        HubStore.remember_outcomes(SIGNER, submission, []),
        HubStore.date_submission(SIGNER, submission, now),
    ]


async def test_what_is_old_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    days = [0, 0, 0, 5, 9, 10]
    with parts(tmp_path) as hub:
        for number, day in enumerate(days):
            committed(hub.store.ledger, *_submission(number, NOW + day * DAY_SECONDS))
        for number, (state, age) in enumerate(
            [("open", 30), ("paid", 30), ("refused", 30), ("expired", 30), ("refused", 1)]
        ):
            row = (0, bytes([number]) * 16, CHANNEL, "1", "", str(NOW + (10 - age) * DAY_SECONDS))
            sql = "INSERT INTO request VALUES (?, ?, ?, ?, ?, ?, ?, NULL, '', '')"
            committed(hub.store.ledger, (sql, (*row, state)))
        later = hub.now.__class__(
            now=NOW + 10 * DAY_SECONDS, head_block=1, head_timestamp=NOW, head_seen=NOW
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.driver.run)
            nursery.start_soon(forget_old, hub.store, hub.driver, lambda: later, 7)
            with trio.fail_after(20):
                while hub.store.forget(NOW + 3 * DAY_SECONDS, rows=1):  # noqa: ASYNC110 - a database
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        kept = [hub.store.outcomes(SIGNER, n.to_bytes(16, "big")) for n in range(6)]
        assert kept == [None, None, None, (), (), ()]
        states = hub.store.ledger.query("SELECT state FROM request ORDER BY id")
        assert states == [("open",), ("paid",), ("refused",)]


def test_what_was_decided_before_days_were_noted_is_kept_from_now_on(tmp_path: Path) -> None:
    store = HubStore(tmp_path / "hub.sqlite")
    committed(
        store.ledger,
        HubStore.remember_outcomes(SIGNER, bytes(16), []),
        ("DROP TABLE submission_day", ()),
        ("DELETE FROM setting WHERE key='dated'", ()),
    )
    store = reopened(store)
    ((day, count),) = store.ledger.query("SELECT day, count(*) FROM submission_day")
    assert count == 1
    assert store.submissions_on(SIGNER, day) == 1
    assert store.forget(day * DAY_SECONDS, rows=10) == []
    assert store.forget((day + 1) * DAY_SECONDS, rows=10) != []
    store.ledger.close()
