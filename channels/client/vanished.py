"""What a reorganisation took away from a channel, in words for whoever runs this party."""

from __future__ import annotations

from ..state import ChainStatus, ChainView


def what_vanished(known: ChainView, view: ChainView) -> str:
    """What a newer reading no longer has of an older one; empty where only news came.

    Statuses, deposits, withdrawals and totals only ever go forward on one chain.
    """
    if view.block < known.block:
        return ""  # an older block than the one that is known, which is not taken in
    if known.status is not ChainStatus.NEVER and view.status is ChainStatus.NEVER:
        return "its opening has vanished from the chain: nothing more is accepted on it"
    losses = []
    if view.status < known.status:
        losses.append(f"it was {known.status.name.lower()} and is {view.status.name.lower()} again")
    for what, old, new in (
        ("deposits", known.deposit_ucent, view.deposit_ucent),
        ("withdrawals", known.withdrawn_ucent, view.withdrawn_ucent),
        ("settled payments", known.settled_ucent, view.settled_ucent),
    ):
        lost_ucent = sum(max(a - b, 0) for a, b in zip(old, new, strict=True))
        if lost_ucent:
            losses.append(f"{lost_ucent} µ¢ of {what} have vanished from the chain")
    return "; ".join(losses)
