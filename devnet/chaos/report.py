"""What a run of chaos came to, for people."""

from __future__ import annotations

from typing import Any

from .schedule import FaultKind

PROBLEMS_SHOWN = 20


def text_of(summary: dict[str, Any]) -> str:
    """The summary as lines; what is wrong comes first."""
    verdict = "holds" if summary["ok"] else "BROKEN"
    audit = "ties out" if summary["audit_ok"] else "DIFFERS"
    conserved = "conserved" if summary["conserved"] else "NOT CONSERVED"
    lines = [_problem(problem) for problem in summary["problems"][:PROBLEMS_SHOWN]]
    lines += [f"died         {text}" for text in summary["died"]]
    if lines:
        lines.append("")
    lines += [
        f"verdict      {verdict}",
        f"kills        {summary['kills']}: {summary['kills_hub']} of the hub,"
        f" {summary['kills_wallet']} of wallets;"
        f" {summary['kills_in_flight']} with an update unacknowledged",
        f"offered      {summary['offered']:,} payments in {summary['load_seconds']} s,"
        f" {summary['offered_per_second']:,} a second",
        f"acknowledged {summary['acknowledged']:,},"
        f" {summary['acknowledged_per_second']:,} a second while it lasted",
        f"lost         {summary['lost']}, counted twice {summary['double_counted']},"
        f" lanes that do not balance {summary['unbalanced']}",
        f"money        {conserved}, audit {audit}",
        f"channels     {summary['channels']}, {summary['settlements']} settlements",
        *_table(summary),
        *_memory(summary),
        f"took         {summary['seconds']} s, seed {summary['seed']}",
    ]
    if summary["kept"] is not None:
        lines.append(f"kept in      {summary['kept']}")
    return "\n".join(lines)


def _problem(problem: dict[str, Any]) -> str:
    where = " ".join(filter(None, (problem["channel"], problem["reference"])))
    return f"{problem['wrong']}: {problem['text']}" + (f" ({where})" if where else "")


def _table(summary: dict[str, Any]) -> list[str]:
    """One line a kind of fault: each fault of it, and how often it was made."""
    lines = []
    for kind in FaultKind:
        made = [
            f"{fault.removeprefix(f'{kind}-')} {count}"
            for fault, count in summary["faults"].items()
            if fault.startswith(kind)
        ]
        if made:
            lines.append(f"{kind:<12} {', '.join(made)}")
    lines += [f"not made     {fault}: {why}" for fault, why in summary["not_available"].items()]
    return lines


def _memory(summary: dict[str, Any]) -> list[str]:
    """One line a process, and whether memory stayed as it was, if the run can tell."""
    lines = [
        f"{name:<12} memory up to {row['resident_kib_max'] / 1024:,.0f} MiB, database"
        f" {row['database_kib'] / 1024:,.1f} MiB, its log up to"
        f" {row['write_ahead_kib_max'] / 1024:,.1f} MiB"
        for name, row in summary["processes"].items()
        if row["samples"]
    ]
    match summary["memory_flat"]:
        case True:
            lines.append("memory       flat")
        case False:
            lines.append("memory       GROWS")
        case _:
            pass
    return lines
