"""A watchtower without sockets: its real database and parts over a chain that tests script."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farthing.channels.ids import ChannelId
from farthing.channels.state import ChainStatus, ChainView
from farthing.channels.terms import Side
from farthing.node.chain import Logs
from farthing.node.watchtower.answerer import Answerer
from farthing.node.watchtower.book import Book
from farthing.node.watchtower.lookout import Lookout
from farthing.node.watchtower.reception import Reception
from farthing.node.watchtower.store import Held, TowerStore

from .hub_parts import RememberingWire, ScriptedChain
from .people import BOB, DEPLOYMENT, NOW, lane, terms, view, voucher
from .people import channel as channel_of

DEADLINE_SECONDS, DEADLINE_BLOCK = NOW + 3600, 200


@dataclass
class TowerParts:
    """A watchtower without sockets; bob's vouchers are the ones that it holds."""

    store: TowerStore
    chain: ScriptedChain
    rows_max: int = 100

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """Start, or start again, from what is on disk."""
        self.book = Book(self.store)
        desk = self.chain.desk()
        self.lookout = Lookout(desk, self.book)
        self.answerer = Answerer(self.book, desk, self.lookout, rows_max=self.rows_max)
        self.reception = Reception(self.book, desk, DEPLOYMENT, channels_max=10, confirmations=0)
        self.reception.on_new = self.lookout.read_again

    def hold(self, *amounts_ucent: int, sequence: int = 1) -> ChannelId:
        """Keep alice's voucher of these payments, on a channel that is open."""
        made = promise(*amounts_ucent, sequence=sequence)
        self.chain.views[made.voucher.channel] = made.view
        assert self.book.keep(made)
        return made.voucher.channel

    def close(self, channel: ChannelId, **changes: Any) -> None:
        """A block in which somebody starts the close of a channel."""
        self.chain.number += 1
        self.chain.news[self.chain.number] = touching(channel)
        self.chain.views[channel] = closing(**changes)

    async def turn(self) -> bool:
        """Take in the head, look, commit."""
        await self.lookout.poll()
        went_well = await self.answerer.look()
        await self.book.commit()
        return went_well

    @property
    def settled(self) -> list[list[int]]:
        return [[row.transferred_ucent for row in rows] for rows in self.chain.settled]


def promise(*amounts_ucent: int, sequence: int = 1) -> Held:
    made = terms(BOB, sequence)
    state = replace(channel_of(), id=DEPLOYMENT.channel_id(made), terms=made)
    return Held(
        terms=made,
        payer=Side.A,
        depositor=BOB.address,
        voucher=voucher(Side.A, lane(*amounts_ucent), of=state),
        view=view(),
    )


def closing(**changes: Any) -> ChainView:
    deadline = {"deadline_seconds": DEADLINE_SECONDS, "deadline_block": DEADLINE_BLOCK}
    return view(ChainStatus.CLOSING, **(deadline | changes))


def touching(*channels: ChannelId) -> Logs:
    return Logs(opened=(), touched=frozenset(channels), members=())


def connected(tower: TowerParts) -> RememberingWire:
    """Bob's connection, which keeps what is said on it."""
    wire = RememberingWire(BOB.address)
    tower.reception.on_connected(wire, BOB.address)
    return wire


@contextmanager
def tower_parts(folder: Path) -> Iterator[TowerParts]:
    """A watchtower with an empty database in this folder."""
    parts = TowerParts(store=TowerStore(folder / "watchtower.sqlite"), chain=ScriptedChain())
    yield parts
    parts.store.close()
