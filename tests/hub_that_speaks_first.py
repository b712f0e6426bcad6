"""`farthing hub serve` with the one mistake that must never be made: it speaks, then commits.

Everything else is the product's. The commit comes late, so that a kill at a random moment finds
something that was said and is not on the disk.
"""

import trio

from farthing.channels.client.batch import Batch
from farthing.channels.client.driver import Driver
from farthing.cli.main import main

LATE_SECONDS = 0.2


async def commit(self: Driver) -> None:
    """`Driver._commit` with its two halves exchanged."""
    async with self._one_commit:
        if self._failed is not None or self._batch.empty:
            return
        batch, self._batch = self._batch, Batch()
        for callback in batch.callbacks:
            callback()
        for channel, effect, wire in batch.effects:
            self._carry_out(channel, effect, wire)
        with trio.CancelScope(shield=True):
            await trio.sleep(LATE_SECONDS)
            await trio.to_thread.run_sync(self._make_durable, batch)
        batch.done.set()


if __name__ == "__main__":
    Driver._commit = commit  # type: ignore[method-assign]
    main()
