"""What several attacks need: rows and signatures on the contract, messages and wires off it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair

from farthing.channels.client.wire import Wire
from farthing.channels.codecs import decode_message
from farthing.channels.events import Effect, Received, Send
from farthing.channels.frames import FRAME_BYTES_MAX, FrameReader
from farthing.channels.ids import Address
from farthing.channels.messages import Error, Message, Reestablish, Update
from farthing.channels.terms import Side
from farthing.channels.voucher import LaneTotal, replay

from ..contract.city import City, Terms, alice_signer, hub_signer
from ..contract.evm import Outcome, Person
from ..nodes import Node
from ..people import ALICE, BOB, CHANNEL, payment, voucher

CURVE_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141

# -- on the contract ----------------------------------------------------------------------------


def reasons(outcome: Outcome) -> list[int]:
    """Why rows were skipped, in order."""
    return [skipped["reason"] for skipped in outcome.named("RowSkipped")]


def withdrawal(city: City, terms: Terms, account: Person, total: int) -> tuple[Any, ...]:
    """The arguments of a withdrawal that both signers have agreed to."""
    expires = city.evm.time + 100
    message = {
        "channel": city.channel(terms),
        "account": account.address,
        "total": total,
        "expires": expires,
    }
    return (terms, account.address, total, expires, *city.signatures("Withdrawal", message))


def closing(city: City, terms: Terms, by: Person) -> None:
    """Start the close of a channel."""
    city.channels.send(by, "start_close", terms, 0, b"")


def window_over(city: City, terms: Terms) -> None:
    """Let the whole window of a channel pass."""
    city.evm.pass_time(seconds=terms.challenge_seconds + 1, blocks=terms.challenge_blocks + 1)


def malleated(signature: bytes) -> bytes:
    """The other signature that everybody can make of one: order − s, and the other v."""
    s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def both_signed(city: City, kind: str, message: dict[str, Any]) -> tuple[bytes, bytes]:
    """Both signers' signatures on a message of any type."""
    data = city.typed_data(kind, message)
    return hub_signer.sign(data), alice_signer.sign(data)


# -- off the contract ---------------------------------------------------------------------------


def update(*amounts_ucent: int, first: int = 1, signature: bytes | None = None) -> Update:
    """Bob's update of these payments since his lane's beginning, of which the first are left out.

    Another signature than bob's own may stand in it.
    """
    payments = [payment(amount, number=n) for n, amount in enumerate(amounts_ucent, 1)]
    total = replay(LaneTotal(), payments)[-1]
    return Update(
        channel=CHANNEL,
        first_nonce=first,
        signature=signature or voucher(Side.B, total).signature,
        payments=tuple(payments[first - 1 :]),
    )


def said(effects: tuple[Effect, ...]) -> list[Message]:
    """What a step sends."""
    return [effect.message for effect in effects if isinstance(effect, Send)]


def refused(effects: tuple[Effect, ...]) -> str:
    """The code of the one thing that a step does: say no."""
    (message,) = said(effects)
    assert len(effects) == 1
    assert isinstance(message, Error)
    return message.code


@contextmanager
def alice_at(folder: Path) -> Iterator[tuple[Node, Wire]]:
    """Alice's node with a real ledger and her live channel with bob; `flush` commits."""
    node = Node(folder / "alice.sqlite", ALICE)
    if CHANNEL not in node.driver.channels:
        node.hold()
    wire = wire_with(BOB.address)
    node.driver.link(CHANNEL, wire)
    shows = Reestablish(channel=CHANNEL, sent=None, received=None)
    node.driver.receive([(CHANNEL, Received(message=shows))])
    try:
        yield node, wire
    finally:
        node.ledger.close()


def wire_with(signer: Address) -> Wire:
    """A connection in memory whose writer never runs: what is queued can be looked at."""
    ours, _ = memory_stream_pair()
    wire = Wire(ours)
    wire.peer = signer
    return wire


def queued(wire: Wire) -> list[Message]:
    """What waits to be written, taken off the queue."""
    reader = FrameReader(frame_bytes_max=FRAME_BYTES_MAX)
    messages: list[Message] = []
    while True:
        try:
            frame = wire._out.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return messages
        messages += [decode_message(payload) for payload in reader.feed(frame)]


def killed(node: Node) -> Node:
    """The node as it boots after kill -9: nothing was closed, only the file is left."""
    return Node(node.path, node.signer)
