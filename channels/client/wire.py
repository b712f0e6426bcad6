"""A connection: frames over a trio stream, a bounded queue out, reads in, the handshake."""

from __future__ import annotations

import secrets
from collections import deque
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
from .memory import Memory

Greeting = TypeVar("Greeting", Hello, Challenge, Authenticate)

READ_BYTES: Final = 2**16
QUEUE_FRAMES_MAX: Final = 16_384
"""A peer that does not read this many of our messages is disconnected, not waited for; four times
the payments that may be unacknowledged on a channel."""
QUEUE_BYTES_MAX: Final = 64 * 2**20
"""The same in bytes: one frame of the greatest size for each of 64 messages."""
WRITE_BYTES_MAX: Final = 2**18
"""What is put together for one write, unless a single frame is longer."""
PIECE_BYTES: Final = 2**14
WRITE_SECONDS_MAX: Final = 30
"""A peer that takes not even 16 KiB in this time, 550 bytes a second, reads too slowly."""
CLOSE_SECONDS_MAX: Final = 5
"""What is queued when a connection is to end is written in this time, or lost."""
DECODED_MAX: Final = 512
"""Messages decoded before other connections have a turn: 64 KiB of pings are 9,000 of them."""
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

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        certificate: bytes = ZERO_WORD,
        memory: Memory | None = None,
    ) -> None:
        """Speak over a stream; `certificate` is the hash of the server's as this end knows it.

        What waits here for the peer is counted in `memory`, which connections share.
        """
        self._stream = stream
        self._certificate = certificate
        self._memory = memory or Memory()
        self._reader = FrameReader()
        self._payloads: deque[bytes] = deque()
        self._pending: list[Message] = []
        self._out_send, self._out = trio.open_memory_channel[bytes](QUEUE_FRAMES_MAX)
        self._queued_bytes = 0
        self._writing = trio.CancelScope()
        self._given_up: PeerError | None = None
        self.read_bytes = 0
        """All that was read so far."""
        self.refill: Callable[[], None] | None = None
        """Called when all that was queued is written: by whom has more for a peer that reads."""
        self.peer: Address | None = None

    def send(self, message: Message) -> None:
        """Queue a message for the writer task.

        Raises `SlowReader`, `MemoryFull` or `ConnectionLost` where it cannot be.
        """
        frame = encode_frame(encode_message(message))
        if self._queued_bytes + len(frame) > QUEUE_BYTES_MAX:
            raise SlowReader(f"{self._queued_bytes} bytes wait for the peer to read")
        if self._given_up is not None:
            raise self._given_up
        try:
            self._out_send.send_nowait(frame)
            self._queued_bytes += len(frame)
        except trio.WouldBlock:
            raise SlowReader(f"{QUEUE_FRAMES_MAX} messages wait for the peer to read") from None
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ConnectionLost("the connection is closed") from None
        self._hold()
        if self._given_up is not None:
            raise self._given_up

    async def write_forever(self) -> None:
        """Write what is queued, as many messages in one write as wait; ends with `close`."""
        with self._writing:
            async with self._out:
                try:
                    async for frame in self._out:
                        await self._write(frame)
                except PeerError as error:  # what is sent from now on fails for this reason
                    self._given_up = self._given_up or error
                    raise
        raise self._given_up or ConnectionLost("this side ended the connection")

    async def _write(self, frame: bytes) -> None:
        frames = [frame]
        size = len(frame)
        while size < WRITE_BYTES_MAX:
            try:
                frames.append(self._out.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            size += len(frames[-1])
        await self._send_bytes(b"".join(frames))
        self._queued_bytes -= size
        self._hold()
        if not self._queued_bytes and self.refill is not None:
            self.refill()

    async def _send_bytes(self, data: bytes) -> None:
        """Write all of it, each piece within its time; raises `SlowReader` where that passed."""
        rest = memoryview(data)
        try:
            for start in range(0, len(data), PIECE_BYTES):
                with trio.move_on_after(WRITE_SECONDS_MAX) as limit:
                    await self._stream.send_all(rest[start : start + PIECE_BYTES])
                if limit.cancelled_caught:
                    raise SlowReader(f"the peer took nothing for {WRITE_SECONDS_MAX} s")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost("the connection broke while sending") from error

    def _hold(self) -> None:
        self._memory.hold(self, self._queued_bytes + self._reader.partial_bytes)

    def give_up(self, error: PeerError) -> None:
        """End the connection at once; what is queued is lost."""
        self._given_up = error
        self._writing.cancel()

    async def receive(self) -> list[Message]:
        """Wait for bytes and give the messages that are complete; raises a `PeerError`.

        At most `DECODED_MAX` of them at a time. Some of those before a malformed one are lost with
        it: their sender resends them after it reconnects, and a peer that sends garbage gets no
        benefit of the doubt.
        """
        while True:
            if self._pending:
                messages, self._pending = self._pending, []
                return messages
            if self._payloads:
                await trio.lowlevel.checkpoint()
                most = min(len(self._payloads), DECODED_MAX)
                self._pending = [decode_message(self._payloads.popleft()) for _ in range(most)]
                continue
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost("the connection broke while reading") from error
            if not data:
                raise ConnectionLost("the peer closed the connection")
            self.read_bytes += len(data)
            self._payloads.extend(self._reader.feed(bytes(data)))
            self._hold()

    async def _receive_one(self) -> Message:
        messages = await self.receive()
        self._pending = messages[1:]
        return messages[0]

    async def say_now(self, message: Message) -> None:
        """Write a message past the queue: during the handshake, and as the last word."""
        await self._send_bytes(encode_frame(encode_message(message)))

    def close_soon(self) -> None:
        """Let the writer finish what is queued, within a short time, and end the connection."""
        self._out_send.close()
        self._writing.deadline = min(
            self._writing.deadline, trio.current_time() + CLOSE_SECONDS_MAX
        )

    async def finish(self) -> None:
        """Close the stream at once; queued messages that were not written are lost."""
        self._out_send.close()
        self._memory.hold(self, 0)
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
        raise ConnectionLost(f"the listener did not answer within {HANDSHAKE_SECONDS_MAX} s")

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
