"""A wallet under load: the product's own, ordered about without pause, and what it reports.

usage: python -m farthing.devnet.chaos.wallet --folder DIR --password-file FILE ...

It is what `farthing wallet run` serves, with the same control socket, and a load beside it that
pays the hub and submits readings in batches. After the ready line each line is JSON: an event's
name and the references that it is about. Rule: nothing is reported that the wallet's own methods
have not returned, so a reference reported as acknowledged is one that the product may never lose.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import trio

from ...channels.client.control import serve_control
from ...channels.client.keystore import read_password_file
from ...channels.client.ledger import LedgerUnusable
from ...channels.client.pulse import Notice
from ...channels.client.results import SentNoAnswer, TookTooLong
from ...channels.client.service import Service
from ...channels.client.session import first_of
from ...channels.client.wallet import Wallet, open_wallet
from ...channels.errors import FarthingError, LocalError, PeerError
from ...channels.ids import address_to_hex
from ...channels.messages import SUBMISSION_BYTES
from ...channels.receipt import ReceiptType
from ...channels.senml_record import Record, record_commitment
from ...channels.state import Phase
from .tally import Event

TICK_SECONDS: Final = 0.02
"""Between two batches: a meter or a parking gate does not wait for another."""
OUTSTANDING_MAX: Final = 1_024
"""Payments without an acknowledgement; the product allows four times as many."""
PACK_RECORDS_MAX: Final = 64
PACKS_MAX: Final = 16
"""Packs of readings without an outcome."""
WAIT_SECONDS: Final = 3_600.0
"""Longer than any run: what is outstanding is waited for, however long the hub is away."""
PAYMENT_UCENT: Final = 2
READING_SECONDS: Final = Decimal("0.01")
"""Between the times of two readings, which makes each unique."""
BOOT_SECONDS: Final = 10_000
"""Between the times of two boots' first readings."""
SENSOR: Final = "meter/water-flow"

FREQUENT: Final = frozenset({"acknowledged", "received", "outcome"})
"""Notices that come with each payment."""

NOT_TOLD: Final = (LedgerUnusable, SentNoAnswer)
"""Errors after which it is open whether what was ordered will be found: nothing is reported."""


class Load:
    """Pays and submits at given rates a second, and reports."""

    def __init__(self, wallet: Wallet, options: argparse.Namespace) -> None:
        self._wallet = wallet
        self._name = f"{options.name}.{options.boot}"
        self._pay_rate = float(options.pay_rate)
        self._read_rate = float(options.read_rate)
        self._since = options.since or 0.0
        self._until: float | None = None
        self._begun = trio.Event()
        if options.since is not None:
            self._begun.set()
        self._ordered, self._submitted = int(options.ordered), int(options.submitted)
        self._first_taken = Decimal(options.base) + options.boot * BOOT_SECONDS
        self._numbers = itertools.count(1)
        self._readings = itertools.count(0)
        self._outstanding = 0
        self._packs = 0

    async def begin(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Let payments fall due from a moment on, by the clock of `time.monotonic`."""
        self._since = float(params["since"])
        self._begun.set()
        return {}

    async def rest(self, _: Any) -> dict[str, int]:
        """Let nothing more fall due; how much is still to be ordered, and is outstanding."""
        self._until = self._until or time.monotonic()
        status = self._wallet.status()
        return {
            "due": self._due_payments() + self._due_readings(),
            "outstanding": self._outstanding + self._packs + status["submissions"]["waiting"],
            "unacknowledged": sum(
                channel["sent_payments"] - channel["acknowledged_payments"]
                for channel in status["channels"]
            ),
        }

    async def run(self) -> None:
        """Load the wallet until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            await self._join()
            await self._begun.wait()
            nursery.start_soon(self._order, nursery)

    async def _join(self) -> None:
        while True:
            try:
                await self._wallet.join(timeout_seconds=WAIT_SECONDS)
            except (TookTooLong, PeerError) as error:
                complain(f"not joined: {error}")
                await trio.sleep(1)
            else:
                return

    def _seconds(self) -> float:
        """How long the load has lasted, by the one clock of all processes of a machine."""
        return (self._until or time.monotonic()) - self._since

    def _due_payments(self) -> int:
        return int(self._seconds() * self._pay_rate) - self._ordered

    def _due_readings(self) -> int:
        return int(self._seconds() * self._read_rate) - self._submitted

    async def _order(self, nursery: trio.Nursery) -> None:
        """Order what is due at each tick, whatever fell due while nobody was there included."""
        while True:
            await trio.sleep(TICK_SECONDS)
            count = min(self._due_payments(), OUTSTANDING_MAX - self._outstanding)
            if count > 0 and self._can_pay(count):
                self._ordered += count
                self._outstanding += count
                nursery.start_soon(self._pay, count)
            count = min(self._due_readings(), PACK_RECORDS_MAX)
            if count > 0 and self._packs < PACKS_MAX:
                self._submitted += count
                self._packs += 1
                nursery.start_soon(self._submit, count)

    def _can_pay(self, count: int) -> bool:
        return any(
            channel.phase is Phase.LIVE and channel.our_balance_ucent() >= count * PAYMENT_UCENT
            for channel in self._wallet.channels()
        )

    async def _pay(self, count: int) -> None:
        references = [f"{self._name}.{next(self._numbers)}" for _ in range(count)]
        tell(Event.ORDERED, references)
        try:
            await self._wallet.pay_many(
                [(PAYMENT_UCENT, reference) for reference in references],
                timeout_seconds=WAIT_SECONDS,
            )
            tell(Event.ACKNOWLEDGED, references)
        except NOT_TOLD:
            raise
        except LocalError as error:  # it went down just now; nothing was promised
            tell(Event.REFUSED, references, code=error.code)
            self._ordered -= count
        finally:
            self._outstanding -= count

    async def _submit(self, count: int) -> None:
        first = next(self._readings)
        records = [self._reading(first)]
        records += [self._reading(next(self._readings)) for _ in range(count - 1)]
        # An id of this boot and this pack: the readings' commitments depend on it.
        name = f"{self._name} {first}".encode()
        submission = hashlib.sha256(name).digest()[:SUBMISSION_BYTES]
        references = [
            record_commitment(submission, index, record).hex()
            for index, record in enumerate(records)
        ]
        try:
            await self._wallet.submit(records, submission)
            tell(Event.SUBMITTED, references)
            outcome = await self._wallet.wait_outcome(submission, timeout_seconds=WAIT_SECONDS)
            self._tell_outcomes(references, outcome.outcomes or ())
        except NOT_TOLD:
            raise
        except LocalError as error:
            tell(Event.REFUSED, references, code=error.code)
            self._submitted -= count
        finally:
            self._packs -= 1

    def _tell_outcomes(self, references: Sequence[str], outcomes: Sequence[Any]) -> None:
        paid = [r for r, o in zip(references, outcomes, strict=True) if o.amount_ucent]
        tell(Event.DECIDED, paid)
        for reference, outcome in zip(references, outcomes, strict=True):
            if not outcome.amount_ucent:
                tell(Event.REFUSED, [reference], code=outcome.code)

    def _reading(self, number: int) -> Record:
        taken = self._first_taken + number * READING_SECONDS
        return Record(name=SENSOR, time=taken, value=Decimal(number), unit="l/s")

    async def _receive(self) -> None:
        async for payment in self._wallet.receive():
            if payment.receipt.type is ReceiptType.REWARD and payment.fields is not None:
                tell(Event.RECEIVED, [payment.fields["reading"].hex()])


def tell(event: Event, references: Sequence[str], **more: str) -> None:
    """Report in one line, at once."""
    if references:
        sys.stdout.write(json.dumps({"event": event, "references": references, **more}) + "\n")
        sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line into the log."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


async def _run(options: argparse.Namespace) -> None:
    password = read_password_file(options.password_file)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_wallet(options.folder, password) as wallet, trio.open_nursery() as nursery:
            load = Load(wallet, options)
            control = wallet.folder.control_file
            methods = {**Service(wallet).methods(), "begin": load.begin, "rest": load.rest}
            await nursery.start(serve_control, control, methods)
            ready = {"wallet": address_to_hex(wallet.signer), "control": str(control)}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            nursery.start_soon(_log_notices, wallet.listen())
            nursery.start_soon(load.run)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


async def _log_notices(notices: trio.MemoryReceiveChannel[Notice]) -> None:
    """Write into the log what changes; not each payment, of which there are thousands."""
    async for notice in notices:
        if notice.kind not in FREQUENT:
            complain(f"{time.strftime('%H:%M:%S')} {notice.kind}: {notice.text}")


def main() -> None:
    """Run until SIGTERM; an error of the wallet ends it with exit code 1 and its text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--pay-rate", type=float, required=True)
    parser.add_argument("--read-rate", type=float, required=True)
    parser.add_argument("--base", type=int, default=int(time.time()))
    parser.add_argument("--boot", type=int, default=1)
    parser.add_argument("--since", type=float)
    parser.add_argument("--ordered", type=int, default=0)
    parser.add_argument("--submitted", type=int, default=0)
    options = parser.parse_args()
    try:
        trio.run(_run, options)
    except* FarthingError as group:
        complain(f"error: {first_of(group)}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
