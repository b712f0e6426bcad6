"""The engine: what it answers to whom, and that no single wallet can end it for all."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.wire import ConnectionLost, SlowReader
from farthing.channels.errors import InvariantBroken
from farthing.channels.events import ObservedChannel
from farthing.channels.ids import Address, ChannelId
from farthing.channels.messages import (
    ChannelProposal,
    ChannelTerms,
    CloseRequest,
    Error,
    PaymentRequest,
    Ping,
    ReadingOutcome,
)
from farthing.channels.state import ChainStatus, Channel
from farthing.contracts.members import MemberStatus
from farthing.node import engine as engine_module
from farthing.node.answers import TooManyErrors
from farthing.node.chain import OpenRow

from ..hub_parts import (
    DEPOSIT_UCENT,
    OFFER,
    Parts,
    RememberingWire,
    fresh_channel,
    member,
    parts,
)
from ..hub_world import FLOW_UCENT, submit_message
from ..people import NOW, moment


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Parts]:
    with parts(tmp_path) as made:
        made.now = moment(int(time.time()))
        yield made


@pytest.fixture
def bob(hub: Parts) -> Channel:
    return hub.hold(fresh_channel())


def said(wire: RememberingWire, kind: type[Any]) -> list[Any]:
    return [message for message in wire.said if isinstance(message, kind)]


def errors(wire: RememberingWire) -> list[str]:
    return [error.code for error in said(wire, Error)]


def proposal(channel: Channel, **changes: Any) -> ChannelProposal:
    fields = {
        "account": channel.terms.account_b,
        "challenge_seconds": 600,
        "challenge_blocks": 10,
        **changes,
    }
    return ChannelProposal(**fields)


def own_account(channel: Channel) -> Channel:
    """The same with an account that is its signer's: what a wallet may propose by itself."""
    return replace(channel, terms=replace(channel.terms, account_b=channel.terms.signer_b))


async def commit(hub: Parts) -> None:
    await hub.driver.flush()


# -- connections ----------------------------------------------------------------------------------


async def test_a_wallet_that_connects_is_told_its_channels(hub: Parts, bob: Channel) -> None:
    wire = hub.connect(bob)
    assert [m.sequence for m in said(wire, ChannelTerms)] == [1]
    assert hub.driver.linked(bob.id, wire)
    hub.engine.on_disconnected(wire, bob.terms.signer_b)
    assert not hub.engine.tell_if_connected(bob.id, Ping(token=1))


async def test_a_stopped_channel_is_told_but_not_spoken_for(hub: Parts, bob: Channel) -> None:
    hub.driver._stop(bob, InvariantBroken("it was cloned"))
    wire = RememberingWire(bob.terms.signer_b)
    hub.engine.on_connected(wire, bob.terms.signer_b)
    assert len(said(wire, ChannelTerms)) == 1
    assert not hub.driver.linked(bob.id, wire)
    hub.engine.on_unlinked(wire, CloseRequest(channel=bob.id))
    hub.engine.on_message(wire, proposal(bob))
    assert errors(wire) == ["channel-stopped"] * 3
    stranger = RememberingWire(Address(bytes(20)))
    hub.engine.on_unlinked(stranger, CloseRequest(channel=bob.id))
    assert errors(stranger) == ["unknown-channel"]
    assert not hub.engine.has_open_channel(
        OpenRow(account_b=bob.terms.account_b, signer_b=bob.terms.signer_b)
    )
    await commit(hub)  # tells the operator


@pytest.mark.parametrize("error", [ConnectionLost("gone"), SlowReader("does not read")])
async def test_a_broken_connection_is_closed_and_nobody_else_hears_of_it(
    hub: Parts, bob: Channel, error: Any
) -> None:
    wire = hub.connect(bob)
    wire.error = error
    newer = RememberingWire(bob.terms.signer_b)
    hub.engine.on_connected(newer, bob.terms.signer_b)  # which tells the older one
    assert wire.is_closing
    assert hub.driver.linked(bob.id, newer)
    hub.engine.on_disconnected(wire, bob.terms.signer_b)  # late; the newer one stays
    assert hub.engine.tell_if_connected(bob.id, Ping(token=1))
    newer.error = error
    hub.engine.on_opened(hub.driver.get(bob.id))
    assert newer.is_closing
    await commit(hub)


async def test_a_message_before_the_handshake_is_a_bug_of_ours(hub: Parts) -> None:
    with pytest.raises(RuntimeError, match="before the handshake"):
        hub.engine.on_message(RememberingWire(None), Ping(token=1))


# -- proposals ------------------------------------------------------------------------------------


async def test_a_proposal_for_somebody_else_s_account_is_refused(hub: Parts) -> None:
    carol = fresh_channel(2)
    wire = RememberingWire(carol.terms.signer_b)
    hub.engine.on_connected(wire, carol.terms.signer_b)
    hub.engine.on_message(wire, proposal(carol))
    assert errors(wire) == ["account-not-proven"]
    assert hub.engine.proposed(10) == []


async def test_a_proposal_is_kept_once_and_decided(hub: Parts) -> None:
    carol = own_account(fresh_channel(2))
    wire = RememberingWire(carol.terms.signer_b)
    hub.engine.on_connected(wire, carol.terms.signer_b)
    for _ in range(2):
        hub.engine.on_message(wire, proposal(carol))
    (row,) = hub.engine.proposed(10)
    assert row == OpenRow(account_b=carol.terms.account_b, signer_b=carol.terms.signer_b)
    assert hub.engine.cannot_open(row) is None
    hub.engine.decide_proposals([row], {row: ("code", "text", "remedy")})
    assert errors(wire) == ["code"]
    assert hub.engine.proposed(10) == []
    hub.engine.on_message(wire, proposal(carol))
    hub.engine.on_disconnected(wire, carol.terms.signer_b)
    hub.engine.decide_proposals([row], {row: ("code", "text", "remedy")})  # nobody to tell
    hub.engine.on_message(wire, proposal(carol))
    hub.hold(carol)
    assert hub.engine.proposed(10) == []  # it has its channel


async def test_a_wallet_with_a_channel_gets_no_other(hub: Parts, bob: Channel) -> None:
    wire = hub.connect(bob)
    hub.engine.on_message(wire, proposal(bob))
    assert hub.engine.proposed(10) == []
    assert errors(wire) == []
    hub.engine.on_message(wire, proposal(bob, account=fresh_channel(2).terms.account_b))
    assert errors(wire) == ["other-account"]


async def test_non_members_get_no_channel(hub: Parts) -> None:
    carol = fresh_channel(2).terms
    row = OpenRow(account_b=carol.account_b, signer_b=carol.signer_b)
    for address in (carol.account_b, carol.signer_b):
        hub.members.take(member(address, MemberStatus.SUSPENDED))
        problem = hub.engine.cannot_open(row)
        assert problem is not None
        assert problem[0] == "not-a-member"
        hub.members.take(member(address))
    hub.members.take(replace(member(carol.account_b), valid_until=hub.now.head_timestamp - 1))
    assert hub.engine.cannot_open(row) is not None


async def test_too_many_that_join_at_once_come_back_later(
    hub: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PROPOSALS_WAITING_MAX", 0)
    carol = own_account(fresh_channel(2))
    wire = RememberingWire(carol.terms.signer_b)
    hub.engine.on_message(wire, proposal(carol))
    assert errors(wire) == ["hub-busy"]


async def test_room_counts_what_is_not_closed(hub: Parts, bob: Channel) -> None:
    assert hub.engine.room() == OFFER.channels_max - 1
    hub.feed(bob, ObservedChannel(view=hub.open_view(status=ChainStatus.CLOSED)))
    assert hub.engine.room() == OFFER.channels_max


# -- readings -------------------------------------------------------------------------------------


def answers(wire: RememberingWire) -> list[ReadingOutcome]:
    return said(wire, ReadingOutcome)


async def test_an_answer_follows_the_commit_on_the_newest_connection(
    hub: Parts, bob: Channel
) -> None:
    older = hub.connect(bob)
    message = submit_message(secrets.token_bytes(16), "1")
    hub.engine.on_message(older, message)
    newer = hub.connect(bob)
    hub.engine.on_message(newer, message)  # it is being answered
    assert answers(older) == answers(newer) == []
    await commit(hub)
    assert answers(older) == []
    assert [o.amount_ucent for o in answers(newer)[0].outcomes] == [FLOW_UCENT]
    hub.engine.on_message(newer, message)
    assert answers(newer)[0] == answers(newer)[1]


async def test_readings_that_are_all_refused_are_remembered_too(hub: Parts, bob: Channel) -> None:
    wire = hub.connect(bob)
    message = submit_message(secrets.token_bytes(16), "1000")
    hub.engine.on_message(wire, message)
    await commit(hub)
    hub.engine.on_message(wire, message)
    assert [a.outcomes[0].code for a in answers(wire)] == ["implausible"] * 2


async def refused(hub: Parts, wire: RememberingWire) -> str:
    """The code of a submission that is not remembered."""
    message = submit_message(secrets.token_bytes(16), "1", "2")
    before = len(answers(wire))
    hub.engine.on_message(wire, message)
    (outcome,) = answers(wire)[before].outcomes
    assert hub.store.outcomes(wire.peer, message.id) is None  # type: ignore[arg-type]  # it is one
    assert outcome.what_to_do
    return outcome.code


async def test_a_wallet_has_so_many_submissions_decided_in_a_day(tmp_path: Path) -> None:
    with parts(tmp_path, offer=replace(OFFER, submissions_per_day=2)) as hub:
        bob = hub.hold(fresh_channel())
        wire = hub.connect(bob)
        first = submit_message(secrets.token_bytes(16), "1")
        for message in (first, submit_message(secrets.token_bytes(16), "1000")):
            hub.engine.on_message(wire, message)
            await commit(hub)
        assert await refused(hub, wire) == "too-many-today"
        assert hub.engine.hits["too-many-today"] == 1
        hub.engine.on_message(wire, first)  # what was decided is still answered
        assert answers(wire)[-1].outcomes[0].amount_ucent == FLOW_UCENT
        hub.now = replace(hub.now, now=hub.now.now + 86_400, head_seen=hub.now.now + 86_400)
        assert hub.engine._too_many(bob.terms.signer_b, hub.now) is None


async def test_keys_without_a_channel_leave_nothing_behind(hub: Parts) -> None:
    for number in range(3):
        stranger = RememberingWire(Address(bytes([number]) * 20))
        hub.engine.on_connected(stranger, Address(bytes([number]) * 20))
        hub.engine.on_message(stranger, submit_message(secrets.token_bytes(16), "1"))
        assert answers(stranger)[0].outcomes[0].code == "no-channel"
    assert hub.engine._allowance._used == {}


async def test_one_wallet_cannot_have_everybody_s_submissions_wait(
    hub: Parts, bob: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SUBMISSIONS_OF_WALLET_MAX", 1)
    wire = hub.connect(bob)
    hub.engine.on_message(wire, submit_message(secrets.token_bytes(16), "1"))
    assert await refused(hub, wire) == "hub-busy"
    carol = hub.hold(fresh_channel(2))
    other = hub.connect(carol)
    hub.engine.on_message(other, submit_message(secrets.token_bytes(16), "1"))
    await commit(hub)
    assert [answer.outcomes[0].amount_ucent for answer in answers(other)] == [FLOW_UCENT]
    hub.engine.on_message(wire, submit_message(secrets.token_bytes(16), "1"))
    await commit(hub)
    assert answers(wire)[-1].outcomes[0].amount_ucent == FLOW_UCENT


async def test_what_is_refused_for_now_is_not_remembered(
    hub: Parts, bob: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = RememberingWire(fresh_channel(2).terms.signer_b)
    assert await refused(hub, stranger) == "no-channel"
    wire = hub.connect(bob)
    now, hub.now = hub.now, replace(hub.now, now=hub.now.now + 901)
    assert await refused(hub, wire) == "stale-view"
    hub.now = now
    hub.members.take(member(bob.terms.account_b, MemberStatus.REMOVED))
    assert await refused(hub, wire) == "not-a-member"
    hub.members.take(member(bob.terms.account_b))
    hub.feed(bob, ObservedChannel(view=hub.open_view(deposit_ucent=(FLOW_UCENT, 0))))
    assert await refused(hub, wire) == "insufficient-balance"
    monkeypatch.setattr(engine_module, "SUBMISSIONS_WAITING_MAX", 0)
    assert await refused(hub, wire) == "hub-busy"
    monkeypatch.undo()
    hub.feed(bob, ObservedChannel(view=hub.open_view(status=ChainStatus.CLOSING)))
    assert await refused(hub, wire) == "not-now"
    assert hub.driver.get(bob.id).sent.total.nonce == 0


async def test_a_broken_invariant_stops_the_channel_and_gives_the_budget_back(
    hub: Parts, bob: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = hub.connect(bob)
    spent = dict(hub.engine._rewards._spent)

    def broken(*_: Any) -> int:
        raise InvariantBroken("two and two are five")

    monkeypatch.setattr(hub.driver, "pay", broken)
    assert await refused(hub, wire) == "invariant-broken"
    assert hub.engine._rewards._spent == spent


async def test_an_open_channel_is_paid_on_though_an_older_one_is_closing(
    hub: Parts, bob: Channel
) -> None:
    newer = replace(fresh_channel(), terms=replace(bob.terms, sequence=9), id=ChannelId(bytes(32)))
    hub.hold(newer)
    wire = hub.connect(bob)
    hub.greet(newer)
    hub.feed(bob, ObservedChannel(view=hub.open_view(status=ChainStatus.CLOSING)))
    hub.engine.on_message(wire, submit_message(secrets.token_bytes(16), "1"))
    assert hub.driver.get(newer.id).sent.promised.transferred_ucent == FLOW_UCENT


# -- errors and requests --------------------------------------------------------------------------


async def test_errors_are_logged_quoted_and_end_a_connection_that_sends_too_many(
    hub: Parts, bob: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    wire = hub.connect(bob)
    caplog.set_level("INFO")
    noise = Error(code="a\nb", channel=b"", text="\x1b[2J", what_to_do="")
    for _ in range(engine_module.ERRORS_HEARD_MAX):
        hub.engine.on_message(wire, noise)
    assert "\x1b" not in caplog.text
    assert "'a\\nb'" in caplog.text
    with pytest.raises(TooManyErrors):
        hub.engine.on_message(wire, noise)
    hub.engine.on_disconnected(wire, bob.terms.signer_b)
    hub.engine.on_message(wire, noise)  # another connection counts anew


async def test_a_request_on_a_channel_of_another_is_refused(hub: Parts, bob: Channel) -> None:
    mallory = RememberingWire(fresh_channel(2).terms.signer_b)
    request = PaymentRequest(
        channel=bob.id, id=bytes(16), amount_ucent=1, purpose="p", expires=NOW + 10**9
    )
    hub.engine.on_message(mallory, request)
    assert [m.code for m in mallory.said] == ["unknown-channel"]  # type: ignore[union-attr]
    wire = hub.connect(bob)
    hub.engine.on_message(wire, request)
    await commit(hub)
    assert len(hub.engine.requests.listed()) == 1
    assert hub.driver.get(bob.id).our_balance_ucent() == DEPOSIT_UCENT


async def test_nothing_of_the_engine_waits(hub: Parts, bob: Channel) -> None:
    with trio.fail_after(10):
        wire = hub.connect(bob)
        for number in range(100):
            hub.engine.on_message(wire, submit_message(number.to_bytes(16, "big"), "1"))
        await commit(hub)
    assert len(answers(wire)) == 100
