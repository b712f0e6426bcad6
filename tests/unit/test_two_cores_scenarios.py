"""Two cores on one wire in named scenarios: what is lost, who crashes, lies and closes."""

from dataclasses import replace

import pytest

from farthing.channels.codecs import encode_message
from farthing.channels.errors import LocalError
from farthing.channels.events import AskedClose, ObservedChannel
from farthing.channels.messages import Reestablish, SignedTotal
from farthing.channels.signing import BadSignature
from farthing.channels.state import ACT_AGAIN_SECONDS, OFFER_SECONDS, Phase
from farthing.channels.terms import Side

from ..cores import World
from ..cores_checks import agree, peaceful, sound
from ..people import CHANNEL


@pytest.fixture
def world() -> World:
    """Two connected parties that own 1,000 µ¢ each."""
    one = World(1000, 1000)
    one.run()
    return one


def test_payments_flow_both_ways_and_are_acknowledged(world: World) -> None:
    world.pay(world.a, 5, 6)
    world.pay(world.b, 7)
    world.run()
    agree(world)
    assert world.a.state.our_balance_ucent() == 996
    assert (world.a.told, world.b.told) == ([1], [1, 2])


def test_a_crash_before_the_commit_promises_nothing(world: World) -> None:
    world.pay(world.a, 5)
    world.crash(world.a)
    world.run()
    agree(world)
    assert world.b.state.received.total.nonce == 0
    assert world.a.state.our_balance_ucent() == 1000


def test_a_crash_after_the_commit_and_before_the_first_byte_loses_nothing(world: World) -> None:
    world.pay(world.a, 5)
    world.a.commit()
    world.crash(world.a)
    world.run()
    agree(world)
    assert world.b.state.received.total.transferred_ucent == 5


def test_a_payee_that_crashes_before_its_commit_has_acknowledged_nothing(world: World) -> None:
    world.pay(world.a, 5)
    world.a.commit()
    world.deliver(world.b, 10)
    assert world.b.state.received.total.transferred_ucent == 5
    world.crash(world.b)
    assert world.b.state.received.total.transferred_ucent == 0
    assert world.a.state.sent.acknowledged_nonce == 0
    world.run()
    agree(world)
    assert world.b.told == [1]


def test_a_lost_acknowledgement_is_made_up_for_on_the_next_connection(world: World) -> None:
    world.pay(world.a, 5)
    world.a.commit()
    world.deliver(world.b, 10)
    world.b.commit()
    world.connect()
    assert world.a.state.sent.acknowledged_nonce == 0
    world.run()
    agree(world)
    assert world.b.told == [1]


def test_a_long_lane_is_resent_in_several_updates(world: World) -> None:
    for _ in range(20):
        world.pay(world.a, 1)
    world.a.commit()
    world.connect()
    world.run()
    agree(world)
    assert world.b.state.received.total.nonce == 20


def test_a_payee_with_a_stale_view_refuses_and_takes_everything_once_it_sees_again(
    world: World,
) -> None:
    world.blind.add(Side.B)
    for amount in (5, 6, 7):  # the later ones are under way when the first one is refused
        world.pay(world.a, amount)
        world.a.commit()
        world.deliver(world.b, 10)
        world.b.commit()
    world.run()
    assert world.b.state.received.total.nonce == 0
    assert [error.code for error in world.a.heard] == ["stale-view"]
    assert world.connected
    world.tick()
    world.run()
    agree(world)
    assert world.quarrels == []


def test_a_payer_that_sees_a_deposit_first_is_refused_until_the_payee_sees_it_too(
    world: World,
) -> None:
    world.top_up(Side.A, 4000)
    world.a.feed(ObservedChannel(view=world.view))
    world.pay(world.a, 4000)
    world.run()
    assert [error.code for error in world.a.heard] == ["insufficient-balance"]
    world.tick()
    world.run()
    agree(world)
    assert world.b.state.our_balance_ucent() == 5000


def test_a_payer_restored_from_a_backup_adopts_what_the_payee_holds(world: World) -> None:
    world.pay(world.a, 5)
    world.run()
    backup = world.a.durable
    world.pay(world.a, 6, 7)
    world.run()
    newest = world.a.state.sent.total
    world.crash(world.a, backup)
    assert world.a.state.sent.total.nonce == 1
    world.run()
    assert world.a.state.sent.total == newest == world.b.state.received.total
    world.pay(world.a, 8)
    world.run()
    assert world.b.state.received.total.transferred_ucent == 26
    assert world.b.told == [1, 2, 3, 4]


def test_a_payee_restored_from_a_backup_is_paid_again_what_it_forgot(world: World) -> None:
    world.pay(world.a, 5)
    world.run()
    backup = world.b.durable
    world.pay(world.a, 6, 7)
    world.run()
    world.crash(world.b, backup)
    assert world.b.state.received.total.nonce == 1
    world.run()
    agree(world)


def test_a_running_payer_whose_clone_has_paid_stops_and_pays_no_more(world: World) -> None:
    clone = world.a.durable
    world.pay(world.a, 5)
    world.run()
    original, memory = world.a.durable, world.a.state
    world.crash(world.a, clone)
    world.run()  # the clone adopts what the payee holds, and goes on
    world.pay(world.a, 6)
    world.run()
    world.a.durable, world.a.state = original, memory  # and the original never stopped running
    world.connect()
    world.run()
    assert world.a.state.phase is Phase.STOPPED
    with pytest.raises(LocalError, match="stopped"):
        world.pay(world.a, 1)
    assert world.b.heard[-1].code == "channel-stopped"


def test_a_payer_stops_when_its_clone_has_paid_something_else_under_the_same_number(
    world: World,
) -> None:
    clone = world.a.durable
    world.pay(world.a, 5)
    world.run()
    world.crash(world.a, clone)
    world.a.state = replace(world.a.state, fresh_boot=False)  # it runs on, unaware of the other
    world.connect()
    world.run()
    assert world.a.state.phase is Phase.STOPPED


def test_a_lie_about_our_own_lane_ends_the_connection_and_not_the_channel(world: World) -> None:
    world.pay(world.a, 5)
    world.run()
    held = world.b.state.received.voucher
    assert held is not None
    more = replace(held.total, transferred_ucent=held.total.transferred_ucent + 1)
    lie = SignedTotal(total=more, conditions=held.conditions, signature=held.signature)
    shown = Reestablish(channel=CHANNEL, sent=None, received=lie)
    world.b.out.append(encode_message(shown))
    world.deliver(world.a, 1)
    assert isinstance(world.quarrels.pop(), BadSignature)
    assert world.a.state.phase is Phase.LIVE


# -- closing ------------------------------------------------------------------------------------

WHO_ASKS = pytest.mark.parametrize("askers", [(Side.A,), (Side.B,), (Side.A, Side.B)], ids=str)


def ask(world: World, *askers: Side) -> None:
    for side in askers:
        world.parties[side].feed(AskedClose())


def closed_alike(world: World) -> None:
    """Both signed one close and somebody submits it; the chain takes it, and both see the end.

    Who offered may never learn that it was accepted: who accepted submits as well.
    """
    closes = [party.state.close for party in world.parties]
    assert closes[0] is not None
    assert closes[1] is not None
    assert closes[0].terms == closes[1].terms
    totals = (closes[0].terms.transferred_a_ucent, closes[0].terms.transferred_b_ucent)
    assert totals == world.a.state.totals_ab() == world.b.state.totals_ab()
    assert closes[0].theirs in (closes[1].ours, None)
    assert closes[1].theirs in (closes[0].ours, None)
    submitted = [close for party in world.parties for close in party.submitted]
    assert submitted
    assert {close.terms for close in submitted} == {closes[0].terms}
    world.mine(submitted[0])
    assert [party.state.phase for party in world.parties] == [Phase.CLOSED] * 2
    sound(world)
    peaceful(world)


@WHO_ASKS
def test_a_close_is_signed_by_both_over_the_same_totals(
    world: World, askers: tuple[Side, ...]
) -> None:
    world.pay(world.a, 5)
    world.pay(world.b, 7, 8)
    world.run()
    ask(world, *askers)
    world.run()
    closed_alike(world)


@WHO_ASKS
def test_a_close_waits_for_payments_that_are_under_way(
    world: World, askers: tuple[Side, ...]
) -> None:
    world.pay(world.a, 5)
    world.pay(world.b, 7)
    ask(world, *askers)
    world.run()
    agree(world)
    closed_alike(world)


@WHO_ASKS
@pytest.mark.parametrize("messages", range(1, 8))
def test_a_close_survives_a_connection_that_is_lost_at_any_message(
    world: World, askers: tuple[Side, ...], messages: int
) -> None:
    world.pay(world.a, 5)
    ask(world, *askers)
    for number in range(messages):
        party = world.parties[number % 2]
        world.commit(party)
        world.deliver(world.other(party), 1)
    world.connect()
    world.run()
    world.tick(ACT_AGAIN_SECONDS)  # the side that accepted submits if nothing appears
    world.run()
    closed_alike(world)


@WHO_ASKS
@pytest.mark.parametrize("crashing", Side)
@pytest.mark.parametrize("messages", range(1, 8))
def test_a_close_survives_a_crash_at_any_message(
    world: World, askers: tuple[Side, ...], crashing: Side, messages: int
) -> None:
    world.pay(world.a, 5)
    ask(world, *askers)
    for party in world.parties:
        party.commit()  # the wish itself is durable
    for number in range(messages):
        party = world.parties[number % 2]
        world.deliver(party, 1)
        party.commit()
    world.crash(world.parties[crashing])
    world.run()
    world.tick(ACT_AGAIN_SECONDS)
    world.run()
    closed_alike(world)


def test_a_close_that_the_chain_does_not_take_in_time_is_made_anew(world: World) -> None:
    ask(world, Side.B)
    world.run()
    with pytest.raises(LocalError, match="frozen"):
        world.pay(world.a, 5)
    world.tick(OFFER_SECONDS + 1)
    world.run()
    assert len({close.terms for party in world.parties for close in party.submitted}) == 2
    assert world.a.state.close is not None
    world.mine(world.a.state.close)
    assert [party.state.phase for party in world.parties] == [Phase.CLOSED] * 2
    sound(world)
    peaceful(world)


def test_a_request_on_a_stale_view_is_answered_when_the_view_is_fresh(world: World) -> None:
    world.blind.add(Side.A)
    ask(world, Side.B)
    world.run()
    assert [error.code for error in world.b.heard] == ["stale-view"]
    assert world.a.state.close is None
    world.tick()
    world.run()
    closed_alike(world)


def test_an_offer_that_died_on_the_way_is_made_anew(world: World) -> None:
    ask(world, Side.B)
    world.b.commit()
    world.deliver(world.a, 1)
    world.a.commit()
    sees = world.b.moment
    world.b.moment = lambda: replace(sees(), head_timestamp=world.now + OFFER_SECONDS)
    world.deliver(world.b, 1)
    world.b.commit()
    world.deliver(world.a, 1)
    assert [error.code for error in world.a.heard] == ["offer-lifetime"]
    world.b.moment = sees
    world.tick(OFFER_SECONDS + 1)
    world.run()
    assert world.connected
    closed_alike(world)


def test_an_acceptance_of_an_offer_that_has_died_is_no_quarrel(world: World) -> None:
    ask(world, Side.B)
    world.b.commit()
    world.deliver(world.a, 1)
    world.a.commit()  # an offer is under way
    ask(world, Side.B)
    world.b.commit()  # and a second request
    world.deliver(world.b, 1)
    world.b.commit()  # and the acceptance behind it
    world.tick(OFFER_SECONDS + 1)
    world.deliver(world.a, 1)  # the request, whereupon another offer is made
    world.a.commit()
    world.deliver(world.a, 1)  # the acceptance of the first one
    assert (world.quarrels, world.a.state.phase) == ([], Phase.FROZEN)
    world.run()
    world.tick(OFFER_SECONDS + 1)  # what died on one side dies on the other
    world.run()
    assert world.a.state.close is not None
    world.mine(world.a.state.close)
    assert [party.state.phase for party in world.parties] == [Phase.CLOSED] * 2
    sound(world)
    peaceful(world)
