"""From a submission of readings to payments: prices each record, once, under its programme."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..channels.client.ledger import Statement
from ..channels.ids import Address
from ..channels.messages import RecordOutcome
from ..channels.receipt import ReceiptType, make_receipt
from ..channels.senml_record import Record, record_commitment
from ..channels.state import Moment
from ..channels.voucher import Payment
from .programme import (
    REMEDIES,
    Programme,
    Reason,
    Refused,
    Rewarded,
    Tariff,
    nearest_taken,
    price,
)
from .store import HubStore

SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A submission's records priced: outcomes in order, payments, and what to commit with them."""

    outcomes: tuple[RecordOutcome, ...]
    payments: tuple[Payment, ...]
    statements: tuple[Statement, ...]
    marks: tuple[tuple[str, str, Decimal, int], ...]
    """Programme, quantity, time taken and µ¢ of each payment: what `undo` takes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a programme may pay and has paid, in µ¢; no budget of its own is None."""

    programme: str
    budget_ucent: int | None
    spent_ucent: int

    @property
    def left_ucent(self) -> int | None:
        """What it may still pay."""
        return None if self.budget_ucent is None else max(self.budget_ucent - self.spent_ucent, 0)


class Rewards:
    """Prices readings and remembers what was rewarded; forgets a pricing that was not paid.

    When a rewarded reading was taken stands in memory until it is committed, and then in the
    store alone: a city's readings of a day are more than memory should hold.
    """

    def __init__(self, store: HubStore, programmes: Sequence[Programme]) -> None:
        self._store = store
        self._programmes = tuple(programmes)
        self._uncommitted: dict[tuple[Address, str, str], list[Decimal]] = {}
        self._spent = {p.id: store.spent_ucent(p.id) for p in self._programmes}

    def budgets(self) -> list[Budget]:
        """Every programme's budget, and what it has paid."""
        return [
            Budget(programme=p.id, budget_ucent=p.budget_ucent, spent_ucent=self._spent[p.id])
            for p in self._programmes
        ]

    def price(
        self, account: Address, submission: bytes, records: Sequence[Record], moment: Moment
    ) -> Priced:
        """Price every record of a submission by an account.

        Call `undo` if it cannot be paid, and `committed` once it is durable.
        """
        outcomes: list[RecordOutcome] = []
        payments: list[Payment] = []
        statements: list[Statement] = []
        marks: list[tuple[str, str, Decimal, int]] = []
        for index, record in enumerate(records):
            found = self._price_one(account, record, moment)
            if isinstance(found, Refused):
                outcomes.append(refused_outcome(found.code, found.text, found.remedy))
                continue
            programme, priced = found
            commitment = record_commitment(submission, index, record)
            payments.append(_payment(programme, priced, record, commitment, moment))
            outcomes.append(_paid(priced))
            statements.append(self._take(account, programme.id, priced.quantity, record.time))
            statements.append(self._spend(programme.id, priced.amount_ucent))
            marks.append((programme.id, priced.quantity, record.time, priced.amount_ucent))
        return Priced(
            outcomes=tuple(outcomes),
            payments=tuple(payments),
            statements=tuple(statements),
            marks=tuple(marks),
        )

    def undo(self, account: Address, priced: Priced) -> None:
        """Forget what was priced and could not be paid; nothing of it is durable."""
        for programme, _, _, amount_ucent in priced.marks:
            self._spent[programme] -= amount_ucent
        self.committed(account, priced)

    def committed(self, account: Address, priced: Priced) -> None:
        """Hold no longer in memory what the store holds."""
        for programme, quantity, taken, _ in priced.marks:
            key = (account, programme, quantity)
            self._uncommitted[key].remove(taken)
            if not self._uncommitted[key]:
                del self._uncommitted[key]

    def _price_one(
        self, account: Address, record: Record, moment: Moment
    ) -> tuple[Programme, Rewarded] | Refused:
        for programme in self._programmes:
            tariff = programme.tariff_for(record.name)
            if tariff is None:
                continue
            priced = price(
                programme,
                record,
                now=moment.now,
                nearest=self._nearest(account, programme.id, tariff, record.time),
                spent_ucent=self._spent[programme.id],
            )
            return priced if isinstance(priced, Refused) else (programme, priced)
        reason = Reason.UNKNOWN_QUANTITY
        return Refused(
            code=reason.value,
            text=f"no programme has a tariff for a sensor named {record.name}",
            remedy=REMEDIES[reason],
        )

    def _nearest(
        self, account: Address, programme: str, tariff: Tariff, taken: Decimal
    ) -> Decimal | None:
        """The nearest time of those that are near enough to matter."""
        stored = self._store.rewarded(
            account, programme, tariff.quantity, near=taken, seconds=tariff.interval_seconds_min
        )
        pending = self._uncommitted.get((account, programme, tariff.quantity), [])
        return nearest_taken(sorted([*stored, *pending]), taken)

    def _take(self, account: Address, programme: str, quantity: str, taken: Decimal) -> Statement:
        self._uncommitted.setdefault((account, programme, quantity), []).append(taken)
        return HubStore.remember_rewarded(account, programme, quantity, taken)

    def _spend(self, programme: str, amount_ucent: int) -> Statement:
        self._spent[programme] += amount_ucent
        return HubStore.remember_spent(programme, self._spent[programme])


def _payment(
    programme: Programme, priced: Rewarded, record: Record, commitment: bytes, moment: Moment
) -> Payment:
    fields = {
        "amount": priced.amount_ucent,
        "block": moment.head_block,
        "at": moment.head_timestamp,
        "programme": programme.id,
        "programme_hash": programme.hash,
        "quantity": priced.quantity,
        "taken": priced.taken,
        "reading": commitment,
    }
    if record.original is not None:
        fields["original"] = record.original
    receipt = make_receipt(ReceiptType.REWARD, fields, salt=secrets.token_bytes(SALT_BYTES))
    return Payment(amount_ucent=priced.amount_ucent, receipt=receipt)


def _paid(priced: Rewarded) -> RecordOutcome:
    return RecordOutcome(amount_ucent=priced.amount_ucent, nonce=0, code="", text="", what_to_do="")


def refused_outcome(code: str, text: str, what_to_do: str) -> RecordOutcome:
    """Return the outcome of a record that is not paid for."""
    return RecordOutcome(amount_ucent=0, nonce=0, code=code, text=text, what_to_do=what_to_do)
