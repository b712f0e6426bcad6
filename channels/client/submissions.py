"""The queue of readings on disk: durable before `submit` returns, and idempotent by id.

Rule: a submission leaves the queue only with its outcomes stored. Sent again after a reconnect, it
is the same submission to the hub, which answers what it decided the first time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from ..errors import LocalError
from ..ids import to_hex
from ..messages import SUBMISSION_BYTES, ReadingOutcome, RecordOutcome, SubmitReadings
from ..senml import PackFormat, Record, encode_json, parse
from .driver import Driver
from .ledger import Ledger, Statement
from .pulse import Notices, Pulse

IN_FLIGHT_MAX: Final = 64
"""Submissions sent and unanswered: keeps a hub busy over any link, and its memory bounded."""

WAITING_MAX: Final = 20_000
"""Submissions on disk: two weeks of one a minute without a hub."""

ANSWER_SECONDS_MAX: Final = 60.0
"""After which an unanswered submission is sent again on the same connection."""

RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 60.0

TEMPORARY_CODES: Final = frozenset(
    {
        "not-now",
        "insufficient-balance",
        "stale-view",
        "too-many-unacknowledged",
        "hub-busy",
        "too-many-today",
        "no-channel",
        "not-a-member",
        "topping-up",
        "hub-out-of-funds",
        "member-day-cap",
        "budget-exhausted",
        "lane-full",
    }
)
"""Refusals that the hub does not remember: the same submission may be paid later."""

SCHEMA: Final = """
CREATE TABLE submission (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB UNIQUE NOT NULL, digest BLOB NOT NULL,
    format INTEGER NOT NULL, senml BLOB NOT NULL, records INTEGER NOT NULL,
    answered INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX submission_waiting ON submission (sequence) WHERE answered=0;
CREATE TABLE outcome (
    submission BLOB NOT NULL, record INTEGER NOT NULL, amount_ucent TEXT NOT NULL,
    nonce TEXT NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL, what_to_do TEXT NOT NULL,
    PRIMARY KEY (submission, record)
) WITHOUT ROWID;
"""


class SubmissionConflict(LocalError):
    """An id that already stands for other readings."""

    code = "submission-conflict"
    remedy = "use a new id for new readings; the readings under the old id are unchanged"

    def __init__(self, submission: bytes) -> None:
        super().__init__(f"submission {to_hex(submission)} holds other readings")
        self.submission = submission


class MalformedSubmissionId(LocalError):
    """An id of the wrong length."""

    code = "malformed-submission-id"
    remedy = f"give {SUBMISSION_BYTES} random bytes, the same ones for each resubmission"


class UnknownSubmission(LocalError):
    """An id under which nothing was submitted here."""

    code = "unknown-submission"
    remedy = "use the id that submitting returned"

    def __init__(self, submission: bytes) -> None:
        super().__init__(f"nothing was submitted under {to_hex(submission)}")
        self.submission = submission


class QueueFull(LocalError):
    """More readings wait for the hub than this wallet keeps."""

    code = "queue-full"
    remedy = "wait until the hub has answered some; `farthing wallet status` says what holds it up"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOutcome:
    """What became of a submission: None while it waits, else one outcome for each record."""

    id: bytes
    outcomes: tuple[RecordOutcome, ...] | None

    @property
    def paid_ucent(self) -> int:
        """The rewards of all records, in µ¢."""
        return sum(outcome.amount_ucent for outcome in self.outcomes or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Readings ready for the wire: at least one record, every time absolute."""

    format: PackFormat
    senml: bytes
    records: int
    digest: bytes


def pack_of(readings: Sequence[Record] | bytes, pack_format: PackFormat, *, now: int) -> Pack:
    """Check readings and fix their times; raises `MalformedReading`.

    A time relative to now means this now, not the one at which the hub reads it days later, so a
    pack with such times is written anew with absolute ones.
    """
    if not isinstance(readings, bytes):
        readings, pack_format = encode_json(readings), PackFormat.JSON
    digest = hashlib.sha256(bytes([pack_format]) + readings).digest()
    records = parse(readings, pack_format, now=now)
    if parse(readings, pack_format, now=now + 1) != records:
        readings, pack_format = encode_json(records), PackFormat.JSON
        parse(readings, pack_format, now=now)  # it may have become too long
    return Pack(format=pack_format, senml=readings, records=len(records), digest=digest)


class Submissions:
    """Keeps the queue, sends from it while the hub answers, and stores what it answers."""

    def __init__(self, ledger: Ledger, driver: Driver, pulse: Pulse, notices: Notices) -> None:
        self._ledger = ledger
        self._driver = driver
        self._pulse = pulse
        self._notices = notices
        rows = ledger.query("SELECT id, digest FROM submission WHERE answered=0 ORDER BY sequence")
        self._waiting: dict[bytes, bytes] = dict(rows)
        self._queue: deque[bytes] = deque(self._waiting)
        self._in_flight: dict[bytes, float] = {}
        self._paused_until = 0.0
        self._retry_seconds = RETRY_SECONDS_MIN

    @property
    def waiting(self) -> int:
        """Submissions without an outcome."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Submissions sent on this connection and not yet answered."""
        return len(self._in_flight)

    async def submit(self, pack: Pack, submission: bytes | None) -> bytes:
        """Queue a pack and return its id once it is durable; the same id again changes nothing.

        Raises `SubmissionConflict`, `QueueFull`, `MalformedSubmissionId`.
        """
        if submission is None:
            submission = secrets.token_bytes(SUBMISSION_BYTES)
        if len(submission) != SUBMISSION_BYTES:
            raise MalformedSubmissionId(f"a submission id has {len(submission)} bytes")
        known = self._digest(submission)
        if known is not None and known != pack.digest:
            raise SubmissionConflict(submission)
        if known is None:
            self._add(submission, pack)
        await self._driver.wait_durable()
        return submission

    def _digest(self, submission: bytes) -> bytes | None:
        if submission in self._waiting:
            return self._waiting[submission]
        rows = self._ledger.query("SELECT digest FROM submission WHERE id=?", (submission,))
        return rows[0][0] if rows else None

    def _add(self, submission: bytes, pack: Pack) -> None:
        if len(self._waiting) >= WAITING_MAX:
            raise QueueFull(f"{len(self._waiting)} submissions wait for the hub")
        self._waiting[submission] = pack.digest

        def durable() -> None:
            self._queue.append(submission)
            self._pulse.beat()

        insert = "INSERT INTO submission (id, digest, format, senml, records) VALUES (?,?,?,?,?)"
        values = (submission, pack.digest, int(pack.format), pack.senml, pack.records)
        self._driver.store([(insert, values)], then=durable)

    def outcome(self, submission: bytes) -> SubmissionOutcome:
        """What became of a submission; raises `UnknownSubmission`."""
        if submission in self._waiting:
            return SubmissionOutcome(id=submission, outcomes=None)
        rows = self._ledger.query(
            "SELECT amount_ucent, nonce, code, text, what_to_do FROM outcome"
            " WHERE submission=? ORDER BY record",
            (submission,),
        )
        if not rows and self._digest(submission) is None:
            raise UnknownSubmission(submission)
        return SubmissionOutcome(
            id=submission,
            outcomes=tuple(
                RecordOutcome(
                    amount_ucent=int(amount),
                    nonce=int(nonce),
                    code=code,
                    text=text,
                    what_to_do=todo,
                )
                for amount, nonce, code, text, todo in rows
            ),
        )

    async def wait_outcome(self, submission: bytes) -> SubmissionOutcome:
        """Wait until the hub has answered; raises `UnknownSubmission`."""
        await self._pulse.until(lambda: submission not in self._waiting)
        return self.outcome(submission)

    # -- towards the hub --------------------------------------------------------------------

    async def run(self, send: Callable[[SubmitReadings], bool]) -> None:
        """Send whenever there is room, until cancelled; `send` says whether it could."""
        while True:
            pause = self._paused_until - trio.current_time()
            if pause > 0:
                await trio.sleep(pause)
            while self._queue and len(self._in_flight) < IN_FLIGHT_MAX:
                if not send(self._message(self._queue[0])):
                    break
                deadline = trio.current_time() + ANSWER_SECONDS_MAX
                self._in_flight[self._queue.popleft()] = deadline
            with trio.move_on_after(ANSWER_SECONDS_MAX if self._in_flight else float("inf")):
                await self._pulse.wait()
            self._take_back_overdue()

    def _message(self, submission: bytes) -> SubmitReadings:
        ((pack_format, senml),) = self._ledger.query(
            "SELECT format, senml FROM submission WHERE id=?", (submission,)
        )
        return SubmitReadings(id=submission, format=pack_format, senml=senml)

    def _take_back_overdue(self) -> None:
        now = trio.current_time()
        overdue = [s for s, deadline in self._in_flight.items() if deadline <= now]
        self._take_back(overdue)

    def _take_back(self, submissions: Sequence[bytes]) -> None:
        for submission in reversed(submissions):
            del self._in_flight[submission]
            self._queue.appendleft(submission)

    def on_disconnected(self) -> None:
        """Put what is unanswered back at the head of the queue, in its order."""
        self._take_back(list(self._in_flight))

    def on_outcome(self, message: ReadingOutcome) -> None:
        """Store a final outcome, or try again later where the refusal is temporary."""
        if message.id not in self._in_flight:
            return  # answered twice, or not ours
        if _is_temporary(message.outcomes):
            self._pause(message)
            return
        del self._in_flight[message.id]
        self._retry_seconds = RETRY_SECONDS_MIN

        def durable() -> None:
            self._waiting.pop(message.id, None)
            self._tell(message)
            self._pulse.beat()

        self._driver.store(_outcome_statements(message), then=durable)

    def _pause(self, message: ReadingOutcome) -> None:
        self._take_back([message.id])
        now = trio.current_time()
        if now < self._paused_until:
            return  # sent before the pause began
        refusal = next(o for o in message.outcomes if o.code in TEMPORARY_CODES)
        self._paused_until = now + self._retry_seconds
        self._notices.tell(
            "submission-delayed",
            f"the hub cannot pay now ({refusal.text}); trying again in {self._retry_seconds:g} s",
            submission=to_hex(message.id),
            code=refusal.code,
        )
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)
        self._pulse.beat()

    def _tell(self, message: ReadingOutcome) -> None:
        paid = [o for o in message.outcomes if o.amount_ucent]
        refused = len(message.outcomes) - len(paid)
        amount = sum(o.amount_ucent for o in paid)
        self._notices.tell(
            "outcome",
            f"of {to_hex(message.id)} {len(paid)} are paid with {amount} µ¢, {refused} refused",
            submission=to_hex(message.id),
            paid=len(paid),
            refused=refused,
            amount_ucent=amount,
        )


def _is_temporary(outcomes: Sequence[RecordOutcome]) -> bool:
    """Whether nothing was paid and something may be later: the hub then remembers nothing."""
    return not any(o.amount_ucent for o in outcomes) and any(
        o.code in TEMPORARY_CODES for o in outcomes
    )


def _outcome_statements(message: ReadingOutcome) -> list[Statement]:
    rows: list[Statement] = [
        (
            "INSERT OR IGNORE INTO outcome VALUES (?,?,?,?,?,?,?)",
            (message.id, index, str(o.amount_ucent), str(o.nonce), o.code, o.text, o.what_to_do),
        )
        for index, o in enumerate(message.outcomes)
    ]
    return [*rows, ("UPDATE submission SET answered=1 WHERE id=?", (message.id,))]
