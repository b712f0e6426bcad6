"""A connection: frames over a trio stream, a bounded queue out, whole reads in, the handshake."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from ..codecs import decode_message, encode_message
from ..eip712 import Domain
from ..errors import PeerError
from ..frames import FRAME_BYTES_MAX, FrameReader, encode_frame
from ..handshake import Role, Transcript, answer_hello, check_challenge, make_hello
from ..ids import ZERO_WORD, Address
from ..messages import Authenticate, Challenge, Error, Hello, Message
from ..signing import Signer, verify_digest

Greeting = TypeVar("Greeting", Hello, Challenge, Authenticate)

READ_BYTES: Final = 2**16
QUEUE_FRAMES_MAX: Final = 16_384
"""A peer that does not read this many of our messages is disconnected, not waited for; four times
the payments that may be unacknowledged on a channel."""
QUEUE_BYTES_MAX: Final = 64 * 2**20
"""The same in bytes: a peer can make us send its whole lane again and read none of it."""
HANDSHAKE_SECONDS_MAX: Final = 10
NONCE_BYTES: Final = 32


class ConnectionLost(PeerError):
    """The peer closed the connection, or it broke."""

    code = "connection-lost"
    remedy = "reconnect: nothing that was acknowledged is lost"
    retryable = True


class Refused(PeerError):
    """The peer answered with an error; its text and advice are passed on."""

    code = "refused"


class SlowReader(PeerError):
    """The peer does not read what we send."""

    code = "slow-reader"
    remedy = "reconnect and read faster"
    retryable = True


class Wire:
    """Messages over one stream: `send` queues at once, `receive` gives all of one read."""

    def __init__(self, stream: trio.abc.Stream, *, certificate: bytes = ZERO_WORD) -> None:
        """Speak over a stream; `certificate` is the hash of the server's as this end knows it."""
        self._stream = stream
        self._certificate = certificate
        self._reader = FrameReader()
        self._pending: list[Message] = []
        self._out_send, self._out = trio.open_memory_channel[bytes](QUEUE_FRAMES_MAX)
        self._queued_bytes = 0
        self.peer: Address | None = None

    def send(self, message: Message) -> None:
        """Queue a message for the writer task; raises `SlowReader` when the queue is full."""
        frame = encode_frame(encode_message(message))
        if self._queued_bytes + len(frame) > QUEUE_BYTES_MAX:
            raise SlowReader(f"{self._queued_bytes} bytes wait for the peer to read")
        try:
            self._out_send.send_nowait(frame)
            self._queued_bytes += len(frame)
        except trio.WouldBlock:
            raise SlowReader(f"{QUEUE_FRAMES_MAX} messages wait for the peer to read") from None
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ConnectionLost("the connection is closed") from None

    async def write_forever(self) -> None:
        """Write what is queued, as many messages in one write as wait; ends with `close`."""
        async with self._out:
            async for frame in self._out:
                frames = [frame]
                while True:
                    try:
                        frames.append(self._out.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                data = b"".join(frames)
                await self._send_bytes(data)
                self._queued_bytes -= len(data)
        raise ConnectionLost("this side ended the connection")

    async def _send_bytes(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost("the connection broke while sending") from error

    async def receive(self) -> list[Message]:
        """Wait for bytes and give every message that is complete; raises a `PeerError`.

        Messages before a malformed one in the same read are lost with it: their sender resends
        them after it reconnects, and a peer that sends garbage gets no benefit of the doubt.
        """
        while True:
            if self._pending:
                messages, self._pending = self._pending, []
                return messages
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost("the connection broke while reading") from error
            if not data:
                raise ConnectionLost("the peer closed the connection")
            self._pending = [decode_message(payload) for payload in self._reader.feed(bytes(data))]

    async def _receive_one(self) -> Message:
        messages = await self.receive()
        self._pending = messages[1:]
        return messages[0]

    async def say_now(self, message: Message) -> None:
        """Write a message past the queue: during the handshake, and as the last word."""
        await self._send_bytes(encode_frame(encode_message(message)))

    def close_soon(self) -> None:
        """Let the writer finish what is queued and then end the connection."""
        self._out_send.close()

    async def finish(self) -> None:
        """Close the stream at once; queued messages that were not written are lost."""
        self._out_send.close()
        await trio.aclose_forcefully(self._stream)

    async def _expect(self, kind: type[Greeting]) -> Greeting:
        message = await self._receive_one()
        if isinstance(message, Error):
            raise Refused(message.text, remedy=message.what_to_do)
        if not isinstance(message, kind):
            raise Refused(
                f"{type(message).__name__} came where {kind.__name__} belongs",
                remedy="speak the opening in the order of docs/protocol.md",
            )
        return message

    def _authenticated(self, peer: Address) -> None:
        self.peer = peer
        self._reader.frame_bytes_max = FRAME_BYTES_MAX

    def _transcript(self, domain: Domain, hello: Hello, challenge: Challenge) -> Transcript:
        return Transcript(
            domain=domain, hello=hello, challenge=challenge, certificate=self._certificate
        )

    async def dial(self, domain: Domain, signer: Signer, peer: Address) -> None:
        """Prove our signer and check the listener's; raises a `PeerError`."""
        hello = make_hello(
            domain, signer=signer.address, peer=peer, nonce=secrets.token_bytes(NONCE_BYTES)
        )
        with _deadline():
            await self.say_now(hello)
            challenge = await self._expect(Challenge)
            check_challenge(hello, challenge)
            # The listener may speak at once: its first messages can come with its signature.
            self._reader.frame_bytes_max = FRAME_BYTES_MAX
            transcript = self._transcript(domain, hello, challenge)
            signature = signer.sign_digest(transcript.digest(Role.DIALER))
            await self.say_now(Authenticate(signature=signature))
            answer = await self._expect(Authenticate)
            verify_digest(transcript.digest(Role.LISTENER), answer.signature, peer)
            self._authenticated(peer)
            return
        raise ConnectionLost(f"the hub did not answer within {HANDSHAKE_SECONDS_MAX} s")

    async def accept(
        self, domain: Domain, signer: Signer, admit: Callable[[Address], None] = lambda _: None
    ) -> None:
        """Check the dialer's signer, then prove ours; raises a `PeerError`.

        `admit` is shown the proven signer before we prove ours, and may raise one too.
        """
        with _deadline():
            hello = await self._expect(Hello)
            nonce = secrets.token_bytes(NONCE_BYTES)
            challenge = answer_hello(domain, hello, signer=signer.address, nonce=nonce)
            await self.say_now(challenge)
            transcript = self._transcript(domain, hello, challenge)
            answer = await self._expect(Authenticate)
            verify_digest(transcript.digest(Role.DIALER), answer.signature, hello.signer)
            admit(hello.signer)
            signature = signer.sign_digest(transcript.digest(Role.LISTENER))
            self._authenticated(hello.signer)
            await self.say_now(Authenticate(signature=signature))
            return
        raise ConnectionLost(f"the peer did not authenticate within {HANDSHAKE_SECONDS_MAX} s")


def _deadline() -> trio.CancelScope:
    return trio.move_on_after(HANDSHAKE_SECONDS_MAX)
