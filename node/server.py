"""The listener of a hub or watchtower: TLS on all but loopback, bounded at the door."""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from ..channels.client.memory import BYTES_MAX, Memory
from ..channels.client.pace import Pace, TokenBucket
from ..channels.client.session import Channels, Handler, run_session, say_error
from ..channels.client.wire import HANDSHAKE_SECONDS_MAX, ConnectionLost, Wire
from ..channels.eip712 import Domain
from ..channels.errors import FarthingError, LocalError, PeerError
from ..channels.ids import Address, address_to_hex
from ..channels.signing import Signer
from .limits import Door, DoorLimits, Overtaken, TooManyHandshakes, Visit
from .tls import ServerTls, SpeaksOtherwise, accept

LAST_WORD_SECONDS_MAX = 1
"""For an error that a peer is told as its connection ends; it fits a buffer that is empty."""

LIMIT_CODES = frozenset(
    {
        *("too-many-connections", "too-many-guests", "too-many-errors", "too-many-reestablish"),
        *("frame-too-long", "slow-reader", "memory-full"),
    }
)
"""Ends of connections that the operator is shown a count of."""

STRANGERS_LOGGED = 1
"""Ends of strangers' connections that are logged, in a second: the disk is not theirs to fill."""
STRANGERS_LOGGED_BURST = 100


class CannotListen(LocalError):
    """The address or port cannot be listened on."""

    code = "cannot-listen"


async def open_listener(host: str, port: int, tls: ServerTls | None = None) -> trio.SocketListener:
    """Bind an address, which without TLS is a loopback one; raises `CannotListen`."""
    if tls is None and not ipaddress.ip_address(host).is_loopback:
        raise CannotListen(
            f"{host} can be reached from other machines and there is no TLS",
            remedy="listen on 127.0.0.1, or give it a certificate",
        )
    try:
        (listener,) = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"port {port} on {host} is in use",
                remedy="set listen_port to another port, or to 0 for any that is free",
            ) from error
        raise CannotListen(
            f"{host} port {port} cannot be listened on ({error})", remedy="choose another port"
        ) from error
    return listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """How a server lets peers in: its limits, its TLS if it has any, its memory for all of them.

    `log` is where it says why connections ended, under the name of whom it serves for.
    """

    limits: DoorLimits
    log: logging.Logger
    tls: ServerTls | None = None
    queued_bytes_max: int = BYTES_MAX


class Host(Handler, Protocol):
    """What serves authenticated connections: a hub's engine, or a watchtower's reception."""

    def is_member(self, signer: Address) -> bool:
        """Whether a signer has a member's place; who has not is a guest."""

    def is_connected(self, signer: Address) -> bool:
        """Whether a signer has a connection, which a new one takes over."""

    def on_connected(self, wire: Wire, signer: Address) -> None:
        """Greet a wallet; raises `PeerError` to end the connection."""

    def on_disconnected(self, wire: Wire, signer: Address) -> None:
        """Forget a connection that ended."""


class Server:
    """Accepts wallets: TLS, handshake, then a session, until either side ends it."""

    def __init__(
        self, host: Host, driver: Channels, domain: Domain, signer: Signer, entrance: Entrance
    ) -> None:
        self._host = host
        self._driver = driver
        self._domain = domain
        self._signer = signer
        self._tls = entrance.tls
        self._log = entrance.log
        self.memory = Memory(entrance.queued_bytes_max)
        self._lines = TokenBucket(STRANGERS_LOGGED, STRANGERS_LOGGED_BURST, trio.current_time())
        self.door = Door(entrance.limits, host.is_member, host.is_connected)

    @property
    def connections(self) -> int:
        """Connections that have authenticated."""
        return self.door.members + self.door.guests

    async def serve(
        self,
        listener: trio.SocketListener,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled."""
        handler: Callable[[trio.SocketStream], object] = self._one
        await trio.serve_listeners(handler, [listener], task_status=task_status)  # type: ignore[arg-type]

    async def _one(self, stream: trio.SocketStream) -> None:
        try:
            host = stream.socket.getpeername()[0]
        except OSError:  # it has hung up already
            await trio.aclose_forcefully(stream)
            return
        try:
            visit = self.door.arrive(host)
        except TooManyHandshakes as error:  # no line of log for each: they may come in thousands
            self.door.hits[error.code] += 1
            await self._turn_away(stream, error)
            return
        try:
            await self._served(await self._greeted(stream, visit), visit)
        except FarthingError as error:
            if error.code in LIMIT_CODES:
                self.door.hits[error.code] += 1
            self._log_end(visit, error)
        finally:
            self.door.leave(visit)
            await trio.aclose_forcefully(stream)

    async def _served(self, wire: Wire, visit: Visit) -> None:
        """Serve a peer that has proven itself until either side ends it; raises why it ended."""
        signer = _proven(visit)
        try:
            self._host.on_connected(wire, signer)
            pace = Pace(self.door.hits, self.door.points(visit))
            await run_session(wire, self._driver, self._host, pace)
        finally:
            self._host.on_disconnected(wire, signer)
            await wire.finish()  # which gives back what it holds, if the session never began

    def _log_end(self, visit: Visit, error: FarthingError) -> None:
        if visit.signer is not None:
            self._log.info("connection with %s ended: %s", address_to_hex(visit.signer), error)
        elif self._lines.take(trio.current_time()):
            self._log.info("connection with a stranger ended: %s", error)

    async def _turn_away(self, stream: trio.SocketStream, error: PeerError) -> None:
        """Say why, unless the peer would take it for TLS, and close."""
        if self._tls is None:
            await _last_word(Wire(stream), error)
        await trio.aclose_forcefully(stream)

    async def _greeted(self, stream: trio.SocketStream, visit: Visit) -> Wire:
        """Greet a stranger within the time and the place that it has; raises a `PeerError`."""
        with visit.scope:
            wire = await self._secured(stream)
            visit.end = wire.give_up
            is_greeted = False
            try:
                await wire.accept(
                    self._domain, self._signer, lambda signer: self.door.admit(visit, signer)
                )
                is_greeted = True
            except PeerError as error:
                if not isinstance(error, ConnectionLost):
                    await _last_word(wire, error)
                raise
            finally:
                if not is_greeted:
                    await wire.finish()
            return wire
        if visit.overtaken:
            raise Overtaken("its place was needed before it had authenticated")
        raise ConnectionLost(f"the peer did not authenticate within {HANDSHAKE_SECONDS_MAX} s")

    async def _secured(self, stream: trio.SocketStream) -> Wire:
        try:
            secured, certificate = await accept(stream, self._tls)
        except SpeaksOtherwise as error:
            await _last_word(Wire(stream), error)
            raise
        except OSError as error:
            raise ConnectionLost(f"the connection broke ({error})") from None
        return Wire(secured, certificate=certificate, memory=self.memory)


def _proven(visit: Visit) -> Address:
    if visit.signer is None:
        raise RuntimeError("the handshake ended without a peer")
    return visit.signer


async def _last_word(wire: Wire, error: FarthingError) -> None:
    with trio.move_on_after(LAST_WORD_SECONDS_MAX):
        await say_error(wire, error)
