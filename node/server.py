"""The listener of a hub or watchtower: loopback only until TLS exists, bounded in connections."""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import Callable
from typing import Protocol

import trio

from ..channels.client.session import Channels, Handler, run_session, say_error
from ..channels.client.wire import ConnectionLost, Wire
from ..channels.eip712 import Domain
from ..channels.errors import FarthingError, LocalError, PeerError
from ..channels.ids import Address, address_to_hex
from ..channels.signing import Signer

log = logging.getLogger("farthing.hub.server")


class CannotListen(LocalError):
    """The address or port cannot be listened on."""

    code = "cannot-listen"


class TooManyConnections(PeerError):
    """The server serves as many connections as it is configured for."""

    code = "too-many-connections"
    remedy = "try again later"
    retryable = True


async def open_listener(host: str, port: int) -> trio.SocketListener:
    """Bind a loopback address; raises `CannotListen`, which says what to change."""
    if not ipaddress.ip_address(host).is_loopback:
        raise CannotListen(
            f"{host} can be reached from other machines",
            remedy="listen on 127.0.0.1 until the wire has TLS",
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


class Host(Handler, Protocol):
    """What serves the authenticated connections: a hub's engine, or a watchtower's reception."""

    def on_connected(self, wire: Wire, signer: Address) -> None:
        """Greet a wallet; raises `PeerError` to end the connection."""

    def on_disconnected(self, wire: Wire, signer: Address) -> None:
        """Forget a connection that ended."""


class Server:
    """Accepts wallets: handshake, then a session, until either side ends it."""

    def __init__(
        self,
        engine: Host,
        driver: Channels,
        domain: Domain,
        signer: Signer,
        *,
        connections_max: int,
    ) -> None:
        self._engine = engine
        self._driver = driver
        self._domain = domain
        self._signer = signer
        self._connections_max = connections_max
        self.connections = 0

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
        wire = Wire(stream)
        self.connections += 1
        try:
            if self.connections > self._connections_max:
                await say_error(wire, TooManyConnections(f"{self._connections_max} are connected"))
                return
            await self._session(wire)
        except FarthingError as error:
            who = "a stranger" if wire.peer is None else address_to_hex(wire.peer)
            log.info("connection with %s ended: %s", who, error)
        finally:
            self.connections -= 1
            await wire.finish()

    async def _session(self, wire: Wire) -> None:
        try:
            await wire.accept(self._domain, self._signer)
        except PeerError as error:
            if not isinstance(error, ConnectionLost):
                await say_error(wire, error)
            raise
        signer = wire.peer
        if signer is None:
            raise RuntimeError("the handshake ended without a peer")
        try:
            self._engine.on_connected(wire, signer)
            await run_session(wire, self._driver, self._engine)
        finally:
            self._engine.on_disconnected(wire, signer)
