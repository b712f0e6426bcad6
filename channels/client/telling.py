"""What the wallet tells its owner when it was restored, or another program has its key."""

from __future__ import annotations

from typing import Final

from ..state import OFFER_SECONDS_MAX
from .driver import Driver
from .pulse import Notices, Pulse

_RESTORED: Final = (
    "the ledger was restored, or is a new one in an old folder: nothing is paid, accepted or signed"
    f" until every offer that it may have forgotten is dead, {OFFER_SECONDS_MAX} s of chain time"
)


async def tell_of_doubt(driver: Driver, notices: Notices, pulse: Pulse) -> None:
    """Tell why a restored wallet neither pays nor takes anything, and when that is over."""
    if not driver.in_doubt:
        return
    notices.tell("restored", _RESTORED)
    await pulse.until(lambda: not driver.in_doubt)
    text = "no offer that the restored ledger forgot can be taken any more: the wallet goes on"
    notices.tell("doubt-over", text)


def tell_of_stranger(notices: Notices) -> None:
    """Tell that another program sends transactions with the wallet's key."""
    text = "another program sends transactions with this wallet's key: run one at a time"
    notices.tell("another-sender", text)
