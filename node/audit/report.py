"""The outcome of an audit: findings, totals and one difference, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...channels.errors import FarthingError
from ...channels.ids import address_to_hex, to_hex
from ...channels.units import format_cents
from .records import BlockRef, Finding, Severity

EXIT_TIES_OUT, EXIT_DIFFERS, EXIT_INCONCLUSIVE = range(3)
"""Exit codes of the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over all channels, in µ¢."""

    deposits_ucent: int
    withdrawals_ucent: int
    payouts_ucent: int
    locked_ucent: int
    claimable_ucent: int
    balance_ucent: int
    donation_ucent: int
    paid_ucent: int
    """All receipts, each payment once."""
    settled_ucent: int
    """What the chain counts as paid: settled totals, or those of the close."""
    unsettled_ucent: int
    """Receipts beyond what the chain counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an audit concluded.

    `difference_ucent` is the sum of, each as an absolute figure: deposits − withdrawals − payouts
    − locked of every channel; for every settlement and close, its raise of the lane's total − the
    amounts that the receipts' lines give for the payments it covers; and what the contract's
    balance falls short of locked + claimable. It is 0 when the audit ties out. It can be 0 when it
    does not: paying somebody who was no member moves no sum.
    """

    block: BlockRef
    channels: int
    receipts: int
    difference_ucent: int
    totals: Totals
    findings: tuple[Finding, ...]
    """Failures first."""

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts anything: no finding but information."""
        return all(finding.severity is Severity.INFORMATION for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 ties out, 1 differs."""
        return EXIT_TIES_OUT if self.ok else EXIT_DIFFERS

    def to_json(self) -> dict[str, Any]:
        """One object that `json.dumps` takes."""
        return {
            "ok": self.ok,
            "inconclusive": False,
            "difference_ucent": self.difference_ucent,
            "block": self.block.number,
            "block_hash": to_hex(self.block.hash),
            "channels": self.channels,
            "receipts": self.receipts,
            **asdict(self.totals),
            "findings": [_finding_json(finding) for finding in self.findings],
        }

    def to_text(self) -> str:
        """Findings one a line, failures first, then the totals and the conclusion."""
        lines = [f"{finding.severity} {finding.code}: {finding.text}" for finding in self.findings]
        if lines:
            lines.append("")
        lines += _table(self.totals)
        failures = sum(finding.severity is Severity.FAILURE for finding in self.findings)
        outcome = (
            "ties out" if self.ok else f"differs: {failures} findings, {self.difference_ucent} µ¢"
        )
        lines += [
            "",
            f"block {self.block.number}, {self.channels} channels, {self.receipts} receipts: "
            f"{outcome}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inconclusive:
    """An audit that could not tell, and why."""

    code: str
    text: str
    what_to_do: str

    exit_code = EXIT_INCONCLUSIVE

    @classmethod
    def because(cls, error: FarthingError) -> Inconclusive:
        """Make it from the error that stopped the audit."""
        return cls(code=error.code, text=error.text, what_to_do=error.what_to_do)

    def to_json(self) -> dict[str, Any]:
        """The keys of `Report.to_json`, empty, and the reason."""
        return {
            "ok": False,
            "inconclusive": True,
            "reason": self.code,
            "text": self.text,
            "what_to_do": self.what_to_do,
            **dict.fromkeys(
                (
                    "difference_ucent",
                    "block",
                    "channels",
                    "receipts",
                    "paid_ucent",
                    "settled_ucent",
                )
            ),
            "findings": [],
        }

    def to_text(self) -> str:
        """One line."""
        return f"inconclusive {self.code}: {self.text}: {self.what_to_do}"


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "code": str(finding.code),
        "severity": str(finding.severity),
        "channel": to_hex(finding.channel) if finding.channel else None,
        "payer": address_to_hex(finding.payer) if finding.payer else None,
        "nonce": finding.nonce,
        "subject": finding.subject,
        "text": finding.text,
    }


def _table(totals: Totals) -> list[str]:
    rows = [
        (name.removesuffix("_ucent"), f"{value:,} µ¢", format_cents(value))
        for name, value in asdict(totals).items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{name:<{widths[0]}}  {ucent:>{widths[1]}}  {cents:>{widths[2]}}"
        for name, ucent, cents in rows
    ]
