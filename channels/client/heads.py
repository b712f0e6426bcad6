"""Which of an endpoint's heads are not believed, by hub and wallet alike."""

from __future__ import annotations

from ..errors import ChainError


class ChainChanging(ChainError):
    """A block was another one after it had been read than before."""

    code = "chain-changing"
    remedy = "wait until the endpoint's node has settled on a chain, or use another endpoint"
    retryable = True

    def __init__(self, block: int) -> None:
        super().__init__(f"block {block} was replaced while it was read")
        self.block = block


class ChainFromTheFuture(ChainError):
    """The newest block's time is far ahead of this machine's clock."""

    code = "chain-from-the-future"
    remedy = "put this machine's clock right; if it is, use another endpoint: this one lies"
    retryable = True

    def __init__(self, block: int, ahead_seconds: int) -> None:
        super().__init__(f"block {block} is {ahead_seconds} s ahead of this machine's clock")
        self.block = block
        self.ahead_seconds = ahead_seconds


class BlockContradicted(ChainError):
    """A block's hash was given with another number or time than before: one of them is a lie."""

    code = "block-contradicted"
    remedy = "use another endpoint; this one does not serve the chain that it names"
    retryable = True

    def __init__(self, block: int, known_block: int) -> None:
        super().__init__(
            f"the hash of block {known_block} was given again for block {block}, or with another"
            " time"
        )
        self.block = block
        self.known_block = known_block


def check_time(*, block: int, timestamp: int, now: int, ahead_seconds_max: int | None) -> None:
    """Refuse a time that would end offers and doubts long before they are dead (rule 3).

    Raises `ChainFromTheFuture`; None believes any time, on a chain whose clock is moved at will.
    """
    if ahead_seconds_max is not None and timestamp > now + ahead_seconds_max:
        raise ChainFromTheFuture(block, timestamp - now)
