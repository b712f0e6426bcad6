"""What a database holds after a power cut, and whether that covers what its process had said."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .said import Said

SENT, RECEIVED = 0, 1
CLOSED = 3


@dataclass
class Held:
    """The database and the count beside it, read with plain SQLite."""

    problem: str = ""
    channels: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    payments: dict[tuple[bytes, int, int], tuple[int, bytes, bytes, bytes]] = field(
        default_factory=dict
    )
    """By channel, direction and nonce: µ¢, salt, receipt, history."""
    submissions: set[bytes] = field(default_factory=set)
    requests: set[bytes] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=dict)
    markers: list[dict[str, Any]] = field(default_factory=list)
    """The count beside the database, and the one outside of its folder."""

    def payments_of(
        self, direction: int
    ) -> dict[tuple[bytes, int], tuple[int, bytes, bytes, bytes]]:
        """Every payment of one direction, by channel and nonce."""
        return {(c, n): row for (c, d, n), row in self.payments.items() if d == direction}

    def lane(self, channel: bytes, direction: int) -> dict[str, Any]:
        """The newest voucher of a lane, or zeros."""
        record = self.channels.get(channel, {})
        newest = record.get(("sent", "received")[direction])
        return newest or {"nonce": 0, "transferred_ucent": 0, "history": ""}


def read_held(root: Path, name: str) -> Held:
    """Read the database of that name in an image; what cannot be opened says why."""
    database = root / name
    if not database.exists():
        return Held(problem=f"{database.name} is gone")
    held = Held()
    try:
        with closing(sqlite3.connect(database)) as db:
            _read(db, held)
    except sqlite3.Error as error:
        return Held(problem=f"{database.name} cannot be read: {error}")
    beside = database.with_name(database.name + ".continuity")
    held.markers = [read_marker(path) for path in (beside, *root.glob("state/farthing/*"))]
    return held


def read_marker(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _read(db: sqlite3.Connection, held: Held) -> None:
    db.execute("PRAGMA synchronous=OFF")  # what closing does to a copy need not be durable
    ((verdict,),) = db.execute("PRAGMA quick_check").fetchall()
    if verdict != "ok":
        held.problem = f"the database is damaged: {verdict}"
    held.channels = {i: json.loads(r) for i, r in db.execute("SELECT id, record FROM channel")}
    for channel, direction, nonce, amount, salt, receipt, history in db.execute(
        "SELECT channel, direction, nonce, amount_ucent, salt, receipt, history FROM payment"
    ):
        held.payments[channel, direction, nonce] = int(amount), salt, receipt, history
    held.submissions = {i for (i,) in db.execute("SELECT id FROM submission")}
    held.requests = {i for (i,) in db.execute("SELECT id FROM request")}
    held.settings = dict(db.execute("SELECT key, value FROM setting"))


def missing(said: Said, held: Held) -> str:
    """What of a message the image does not hold, in words; empty where it holds all."""
    if held.problem:
        return f"{said.kind}: {held.problem}"
    lost = CHECKS[said.kind](said.fields, held)
    return f"{said.kind}: {lost}" if lost else ""


def _update(fields: dict[str, Any], held: Held) -> str:
    channel, first, payments = fields["channel"], fields["first"], fields["payments"]
    for nonce, (amount, salt, receipt) in enumerate(payments, first):
        stored = held.payments.get((channel, SENT, nonce))
        if stored is None or stored[:3] != (amount, salt, receipt):
            return f"payment {nonce} is signed and not held"
    newest = held.lane(channel, SENT)["nonce"]
    last = first + len(payments) - 1
    return f"{last} is signed, the lane is at {newest}" if newest < last else ""


def _ack(fields: dict[str, Any], held: Held) -> str:
    channel, nonce = fields["channel"], fields["nonce"]
    stored = held.payments.get((channel, RECEIVED, nonce))
    if stored is None or stored[3] != fields["history"]:
        return f"payment {nonce} is acknowledged and not held"
    newest = held.lane(channel, RECEIVED)["nonce"]
    return f"{nonce} is acknowledged, the lane is at {newest}" if newest < nonce else ""


def _reestablish(fields: dict[str, Any], held: Held) -> str:
    for direction, key in ((SENT, "sent"), (RECEIVED, "received")):
        shown, newest = fields[key], held.lane(fields["channel"], direction)
        if shown is not None and newest["nonce"] < shown["nonce"]:
            return f"{key} {shown['nonce']} is shown, the lane is at {newest['nonce']}"
    return ""


def _submission(fields: dict[str, Any], held: Held) -> str:
    return "" if fields["id"] in held.submissions else f"{fields['id'].hex()} is not held"


def _outcome(fields: dict[str, Any], held: Held) -> str:
    if not fields["nonces"]:
        return ""  # refused: asked again it is judged again
    sent = {nonce for _, direction, nonce in held.payments if direction == SENT}
    lost = [nonce for nonce in fields["nonces"] if nonce not in sent]
    return f"rewards {lost} are told and not held" if lost else _submission(fields, held)


def _request(fields: dict[str, Any], held: Held) -> str:
    return "" if fields["id"] in held.requests else f"{fields['id'].hex()} is not held"


def _paid(fields: dict[str, Any], held: Held) -> str:
    stored = held.payments.get((fields["channel"], SENT, fields["nonce"]))
    return "" if stored and stored[0] == fields["amount"] else f"{fields['nonce']} is not held"


def _close(fields: dict[str, Any], held: Held) -> str:
    record = held.channels.get(fields["channel"], {})
    close, chain = record.get("close"), record.get("chain") or {}
    if chain.get("status") == CLOSED:
        return ""
    if close is None or close["ours"] != fields["signature"].hex():
        return "our signature on a close is forgotten"
    return _counted(held)


def _withdrawal(fields: dict[str, Any], held: Held) -> str:
    record = held.channels.get(fields["channel"], {})
    chain = record.get("chain") or {}
    if fields["total"] in chain.get("withdrawn_ucent", ()):
        return ""
    ours = [w["ours"] for w in record.get("withdrawals", ()) if w is not None]
    if fields["signature"].hex() not in ours:
        return "our signature on a withdrawal is forgotten"
    return _counted(held)


def _counted(held: Held) -> str:
    """A count that is behind would take a backup for the newest database there was."""
    counted = held.settings.get("database"), int(held.settings.get("offers", "0"))
    beside = [(marker.get("database"), marker.get("offers")) for marker in held.markers]
    if beside != [counted, counted]:
        return f"{counted[1]} offers are counted, {[n for _, n in beside]} beside the database"
    return ""


def _transaction(fields: dict[str, Any], held: Held) -> str:
    """Asked when it leaves: once it is in a block, the offer is taken and forgotten."""
    text = fields["signature"].hex()
    records = (json.dumps([r["close"], r["withdrawals"]]) for r in held.channels.values())
    return "" if any(text in record for record in records) else "an offer on-chain is not held"


CHECKS = {
    "Update": _update,
    "Ack": _ack,
    "Reestablish": _reestablish,
    "SubmitReadings": _submission,
    "ReadingOutcome": _outcome,
    "PaymentRequest": _request,
    "Close": _close,
    "Withdrawal": _withdrawal,
    "transaction": _transaction,
    "submitted": _submission,
    "paid": _paid,
}
