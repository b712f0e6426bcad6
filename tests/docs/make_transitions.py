"""Makes docs/transitions.md from the core itself: `python -m tests.docs.make_transitions`.

The table is `TRANSITIONS`. The diagram is what `step` does: every event that the table allows is
applied to every combination of connection, chain status, signed close, doubt and wish to close, and
each change of phase is an arrow.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from farthing.channels.errors import FarthingError
from farthing.channels.events import (
    AskedClose,
    AskedPay,
    AskedWithdraw,
    ChannelMessage,
    CloseSigned,
    CloseVerified,
    Elapsed,
    Linked,
    ObservedChannel,
    Received,
    RecognisedOwn,
    Signed,
    Unlinked,
    Unverifiable,
    Verified,
    WithdrawalSigned,
    WithdrawalVerified,
)
from farthing.channels.ids import ZERO_WORD
from farthing.channels.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Reestablish,
    SignedTotal,
    Update,
    WithdrawalAccept,
    WithdrawalOffer,
)
from farthing.channels.state import (
    ChainStatus,
    Channel,
    CloseTerms,
    Link,
    Phase,
    ReceivedLane,
    SentLane,
    SignedClose,
    Withdrawal,
    WithdrawalTerms,
)
from farthing.channels.terms import Side
from farthing.channels.transition import TRANSITIONS, step
from farthing.channels.voucher import replay

from ..people import CHANNEL, NOW, TERMS, channel, lane, moment, payment, sent_lane, view, voucher

PAGE = Path(__file__).resolve().parents[2] / "docs" / "transitions.md"
DEAD = NOW + 1000
CLOSE = CloseTerms(transferred_a_ucent=5, transferred_b_ucent=7, expires=NOW + 90)
WISH = WithdrawalTerms(side=Side.A, total_ucent=1, expires=NOW + 90)
THEIR_WISH = replace(WISH, side=Side.B)
SIGNED = bytes(65)
OPEN = "ObservedChannel (open)"
DEAD_OFFERS = "ObservedChannel (open, all offers dead)"
GROUP = (Phase.RESTORED, Phase.FROZEN, Phase.DOWN, Phase.GREETING, Phase.DRAINING, Phase.LIVE)
"""The phases of a channel that is open on the chain."""


def states() -> Iterator[Channel]:
    """Side A after 5 µ¢ there and 7 back, in every combination of what makes a phase."""
    closes = (None, SignedClose(terms=CLOSE, ours=SIGNED), _both_signed())
    offering = (None, CLOSE)
    statuses = (None, *ChainStatus)
    for link, status, close, offer, doubt, wish, quiet, stopped in product(
        Link, statuses, closes, offering, (None, NOW + 120), (0, 1, 2), (True, False), (None, "x")
    ):
        if close is not None and offer is not None:
            continue
        yield channel(
            Side.A,
            link=link,
            chain=None if status is None else view(status),
            close=close,
            offering=offer,
            doubt_ends=doubt,
            we_want_close=wish == 1,
            peer_wants_close=wish == 2,
            stopped=stopped,
            sent=sent_lane(Side.A, 5, acknowledged=int(quiet)),
            received=ReceivedLane(voucher=voucher(Side.B, lane(7))),
        )
    unsigned = replay(lane(5), [payment(3, number=2)])
    sent = replace(sent_lane(Side.A, 5), unsigned=(payment(3, number=2),), unsigned_totals=unsigned)
    yield channel(Side.A, sent=sent)
    for withdrawal in (Withdrawal(terms=WISH), Withdrawal(terms=WISH, ours=SIGNED)):
        yield channel(Side.A, withdrawals=(withdrawal, None))
    checking = SignedClose(terms=CLOSE, ours=b"", theirs=SIGNED)
    yield channel(Side.A, offering=CLOSE, checking=checking, sent=SentLane())


def _both_signed() -> SignedClose:
    return SignedClose(terms=CLOSE, ours=SIGNED, theirs=SIGNED, submitted_at=NOW)


def events() -> Iterator[tuple[str, Any]]:
    """Every event by its name in the table, with what it says where that matters."""
    ours, theirs = voucher(Side.A, lane(5, 3)), voucher(Side.B, lane(7, 9))
    held = SignedTotal(total=lane(5), conditions=ZERO_WORD, signature=SIGNED)
    offer = {
        "channel": CHANNEL,
        "transferred_a_ucent": 5,
        "transferred_b_ucent": 7,
        "expires": CLOSE.expires,
        "signature": SIGNED,
    }
    wish = {"channel": CHANNEL, "total_ucent": 1, "expires": WISH.expires, "signature": SIGNED}
    update = Update(
        channel=CHANNEL, first_nonce=2, signature=theirs.signature, payments=(payment(9, number=2),)
    )
    for event in (
        Linked(),
        Unlinked(),
        Reestablish(channel=CHANNEL, sent=None, received=held),
        RecognisedOwn(voucher=ours),
        AskedPay(payments=(payment(3, number=2),)),
        Signed(voucher=ours),
        update,
        Verified(voucher=theirs),
        Unverifiable(reason=""),
        Ack(channel=CHANNEL, nonce=1, history=lane(5).history),
        Ack(channel=CHANNEL, nonce=1, history=ZERO_WORD),
        AskedClose(),
        CloseRequest(channel=CHANNEL),
        CloseOffer(**offer),  # type: ignore[arg-type]
        CloseSigned(terms=CLOSE, signature=SIGNED),
        CloseAccept(**offer),  # type: ignore[arg-type]
        CloseVerified(terms=CLOSE, signature=SIGNED),
        AskedWithdraw(amount_ucent=1),
        WithdrawalOffer(account=TERMS.account_b, **wish),  # type: ignore[arg-type]
        WithdrawalSigned(terms=WISH, signature=SIGNED),
        WithdrawalAccept(account=TERMS.account_a, **wish),  # type: ignore[arg-type]
        WithdrawalVerified(terms=THEIR_WISH, signature=SIGNED),
        Elapsed(),
    ):
        yield type(event).__name__, event
    for status in ChainStatus:
        seen = view(status, block=101, timestamp=NOW + 1)
        yield f"ObservedChannel ({status.name.lower()})", ObservedChannel(view=seen)
    later = view(block=101, timestamp=DEAD)
    yield DEAD_OFFERS, ObservedChannel(view=later)


def arrows() -> dict[tuple[Phase, Phase], set[str]]:
    """Each change of phase, and the events that bring it about."""
    found: dict[tuple[Phase, Phase], set[str]] = defaultdict(set)
    for state in states():
        for name, event in events():
            phases, _ = TRANSITIONS[type(event)]
            if state.phase not in phases:
                continue
            is_message = isinstance(event, ChannelMessage)
            try:
                result = step(state, Received(message=event) if is_message else event, _at(name))
            except FarthingError:
                continue  # refused: nothing has changed
            if result.state.phase is not state.phase:
                found[state.phase, result.state.phase].add(name)
    return found


def _at(name: str) -> Any:
    return moment(DEAD) if name == DEAD_OFFERS else moment()


def table() -> str:
    """Markdown: a row for each event and message, a column for each phase."""
    rows = ["| | " + " | ".join(phase.value for phase in Phase) + " |"]
    rows.append("|---|" + ":-:|" * len(Phase))
    for kind, (phases, _) in TRANSITIONS.items():
        cells = ("•" if phase in phases else "" for phase in Phase)
        rows.append(f"| {kind.__name__} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def diagram() -> str:
    """Mermaid: what happens alike in all phases of an open channel is drawn once, from `open`."""
    found = arrows()
    shared: dict[Phase, set[str]] = defaultdict(set)
    outside = [phase for phase in Phase if phase not in GROUP]
    for target in outside:
        shared[target] = set.intersection(*(found.get((source, target), set()) for source in GROUP))
    lines = ["stateDiagram-v2", "    [*] --> unconfirmed", "    state open {"]
    inner = [(s, t, n) for (s, t), n in found.items() if s in GROUP and t in GROUP]
    lines += ["    " + _arrow(s.value, t.value, n) for s, t, n in sorted(inner, key=_order)]
    lines.append("    }")
    for target in outside:
        if shared[target]:
            lines.append(_arrow("open", target.value, shared[target]))
    for (source, target), names in sorted(found.items(), key=lambda one: _order((*one[0], set()))):
        if source in GROUP and target in GROUP:
            continue
        own = names - shared[target] if source in GROUP else names
        if source not in GROUP and target in GROUP:
            continue  # drawn once, below
        if own:
            lines.append(_arrow(source.value, target.value, own))
    for source in outside:
        back = {name for target in GROUP for name in found.get((source, target), ())}
        if back:
            lines.append(_arrow(source.value, "open", back))
    return "\n".join(lines)


def _order(arrow: tuple[Phase, Phase, set[str]]) -> tuple[int, int]:
    places = list(Phase)
    return places.index(arrow[0]), places.index(arrow[1])


def _arrow(source: str, target: str, names: set[str]) -> str:
    if OPEN in names:
        names = names - {DEAD_OFFERS}
    return f"    {source} --> {target}: {', '.join(sorted(names))}"


def page() -> str:
    """The whole page."""
    return f"""# Transitions of a channel

One side's state machine, as the code has it: `python -m tests.docs.make_transitions` makes this
page, and a test fails when it differs. Words are in [glossary.md](glossary.md), messages in
[protocol.md](protocol.md).

A phase is computed from the state and never stored. `stopped` comes before all others, then what
the chain says (`unconfirmed`, `closed`, `closing`), then `restored` and `frozen`, then the
connection (`down`, `greeting`), then `draining` (somebody wants to close) and `live`.

## What is allowed when

Events of this side are named after whoever causes them: `Asked…` the user, `Observed…` and
`Elapsed` chain and clock, `…Signed` and `…Verified` the keys, `Linked` the connection. The other
names are messages of the peer. A dot: taken in this phase. Everything else is refused aloud: a
message is answered with an `Error` (`not-now`), a wish of the user with the reason.

{table()}

## How the phase changes

Found by applying every allowed event to every combination of connection, chain status, signed
close, doubt and wish to close. What happens alike in every phase of an open channel is drawn from
`open`.

```mermaid
{diagram()}
```
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
