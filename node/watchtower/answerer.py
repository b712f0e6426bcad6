"""Answers closes: settles the held vouchers of closing channels, then finishes the closes.

Rule: an answer is sent as soon as a close is seen, the most urgent first, and again at every head
until a confirmed block shows it; the contract ignores a row that raises nothing. What is not
settled yet is settled even after the window: the contract takes it until the close is finished.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

import trio

from ...channels.client.outbox import NOT_SENT
from ...channels.ids import ChannelId, to_hex
from ...channels.state import ChainStatus
from ...channels.terms import Terms
from ..chain import Mined, SettleRow, Web3Chain
from ..desk import ChainDesk
from ..sender import TransactionFailed
from .book import Book
from .lookout import Lookout
from .store import Answer, Held

RETRY_SECONDS = 2
"""After a failure at a head that stays the newest, as on a chain that has stalled."""

LATE_DIVISOR = 4
"""An answer that is not confirmed when only this part of the window is left is an alarm: the
other three parts are the margin for queueing, stalled blocks and an endpoint that is away."""

log = logging.getLogger("farthing.watchtower.answers")


class Answerer:
    """Sends this watchtower's transactions, one after the other."""

    def __init__(self, book: Book, desk: ChainDesk, lookout: Lookout, *, rows_max: int) -> None:
        self._book = book
        self._desk = desk
        self._lookout = lookout
        self._rows_max = rows_max
        self._finished: dict[ChannelId, int] = {}
        self._alarmed: set[ChannelId] = set()
        self._wake = trio.Event()
        self.answered = 0
        """Lanes that this process has raised on the chain."""

    def wake(self) -> None:
        """Look again: a head was taken in, or a voucher has grown."""
        self._wake.set()

    async def run(self) -> None:
        """Look whenever there is news, and again soon after a failure, until cancelled."""
        while True:
            self._wake = trio.Event()
            failed = not await self.look()
            with trio.move_on_after(RETRY_SECONDS if failed else float("inf")):
                await self._wake.wait()

    async def look(self) -> bool:
        """Answer every close that is under way, finish those that are over; whether all went well.

        A failure of one channel's transaction keeps no other from its own.
        """
        closing = [h for h in self._book.all() if h.view.status is ChainStatus.CLOSING]
        self._forget_others({h.voucher.channel for h in closing})
        closing.sort(key=lambda held: (held.view.deadline_seconds, held.view.deadline_block))
        self._alarm(closing)
        due = [held for held in closing if self._is_unanswered(held)]
        went_well = True
        for start in range(0, len(due), self._rows_max):
            went_well &= await self._answer(due[start : start + self._rows_max])
        for channel, terms in self._over():
            went_well &= await self._finish(channel, terms)
        return went_well

    def _forget_others(self, closing: set[ChannelId]) -> None:
        self._alarmed &= closing
        self._finished = {c: block for c, block in self._finished.items() if c in closing}

    def _is_unanswered(self, held: Held) -> bool:
        """Whether the voucher is above the chain's total, and no unconfirmed block settles it."""
        if held.unsettled_ucent == 0:
            return False
        answer = held.answer
        if answer is None or answer.transferred_ucent != held.transferred_ucent:
            return True
        return self._lookout.head.number >= answer.block

    def _alarm(self, closing: Sequence[Held]) -> None:
        """Say loudly, once a close, that the margin is used up."""
        head = self._lookout.head
        for held in closing:
            terms, view, channel = held.terms, held.view, held.voucher.channel
            late = (
                view.deadline_seconds - head.timestamp < terms.challenge_seconds // LATE_DIVISOR
                and view.deadline_block - head.number < terms.challenge_blocks // LATE_DIVISOR
            )
            if late and held.unsettled_ucent and channel not in self._alarmed:
                self._alarmed.add(channel)
                text = "channel %s: %d µ¢ are not settled, and the window is nearly over"
                log.error(text, to_hex(channel), held.unsettled_ucent)

    async def _answer(self, batch: Sequence[Held]) -> bool:
        """Settle a batch; one that the chain refuses whole is halved, so that no row blocks all."""
        rows = [_row(held) for held in batch]
        try:
            mined = await self._desk.send(partial(_settle, rows))
        except TransactionFailed as error:
            log.warning("%s", error)
            if len(batch) == 1:
                return False
            middle = len(batch) // 2
            first = await self._answer(batch[:middle])
            return await self._answer(batch[middle:]) and first
        except NOT_SENT as error:
            log.warning("%s", error)
            return False
        self.answered += mined.settled
        text = "answered %d closes in block %d, skipped %d, gas %d"
        log.info(text, mined.settled, mined.block, mined.skipped, mined.gas_used)
        for held in batch:
            self._book.note_answer(
                held.lane,
                Answer(
                    transferred_ucent=held.transferred_ucent,
                    block=mined.block,
                    at=int(time.time()),
                ),
            )
        return True

    def _over(self) -> list[tuple[ChannelId, Terms]]:
        """Channels whose window has passed, with nothing left to settle and no finish under way."""
        head = self._lookout.head
        over: dict[ChannelId, Terms] = {}
        waits: set[ChannelId] = set()
        for held in self._book.all():
            view, channel = held.view, held.voucher.channel
            if view.status is not ChainStatus.CLOSING:
                continue
            if held.unsettled_ucent or head.number < self._finished.get(channel, 0):
                waits.add(channel)
            elif head.timestamp > view.deadline_seconds and head.number > view.deadline_block:
                over[channel] = held.terms
        return [(channel, terms) for channel, terms in over.items() if channel not in waits]

    async def _finish(self, channel: ChannelId, terms: Terms) -> bool:
        try:
            mined = await self._desk.send(partial(_finish, terms))
        except NOT_SENT as error:  # a party may have finished it first: the next head tells
            log.info("channel %s: %s", to_hex(channel), error)
            return False
        self._finished[channel] = mined.block
        log.info("finished the close of channel %s in block %d", to_hex(channel), mined.block)
        return True


def _row(held: Held) -> SettleRow:
    total = held.voucher.total
    return SettleRow(
        terms=held.terms,
        lane=held.payer,
        nonce=total.nonce,
        transferred_ucent=total.transferred_ucent,
        history=total.history,
        conditions=held.voucher.conditions,
        signature=held.voucher.signature,
    )


def _settle(rows: Sequence[SettleRow], chain: Web3Chain) -> Mined:
    return chain.settle(rows)


def _finish(terms: Terms, chain: Web3Chain) -> Mined:
    return chain.finish_close(terms)
