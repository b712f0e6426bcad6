"""The payee's process: a hub's server, engine, driver and store, without a chain.

usage: python -m farthing.devnet.bench.payee --folder FOLDER [--channels N] [--each] [--tls] ...

Its first line says on which port it listens; after SIGTERM its last one says what it did and used.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from ...channels.client.driver import Driver
from ...channels.terms import Side
from ...node.certificate import CERTIFICATE_NAME, KEY_NAME
from ...node.descriptors import make_room
from ...node.engine import Engine, Offer
from ...node.follower import Members
from ...node.limits import DoorLimits
from ...node.requests import Requests
from ...node.rewards import Rewards
from ...node.server import Entrance, Server, open_listener
from ...node.store import HubStore
from ...node.tls import ServerTls, load_tls
from .stage import DEPLOYMENT, HOST, HUB, HUB_DATABASE, member, moment
from .watched import (
    WatchedChannels,
    WatchedCommits,
    new_profile,
    profile_rows,
    profiled,
    say,
    used,
)

WORKERS = 1
"""A hub is one process; nothing else of this machine serves its channels."""


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--handshakes-per-second", type=int, default=200)
    return parser.parse_args(arguments)


def _open_channels(store: HubStore, count: int) -> None:
    """Hold the channels of the first `count` wallets, as a follower would have stored them."""
    if not store.ledger.load_channels():
        store.ledger.commit((member(n).channel(Side.A) for n in range(count)), (), ())


def _tls(options: argparse.Namespace) -> ServerTls | None:
    folder: Path = options.folder
    return load_tls(folder / CERTIFICATE_NAME, folder / KEY_NAME) if options.tls else None


def _entrance(options: argparse.Namespace) -> Entrance:
    limits = DoorLimits(
        connections_max=options.channels + 64,
        handshakes_per_second=options.handshakes_per_second,
        handshakes_per_address=0,
    )
    log = logging.getLogger("farthing.hub.server")
    return Entrance(limits=limits, tls=_tls(options), log=log)


async def _serve(options: argparse.Namespace) -> dict[str, Any]:
    store = HubStore(options.folder / HUB_DATABASE)
    _open_channels(store, options.channels)
    commits = WatchedCommits(store.ledger, profile=options.profile)
    profile = new_profile(wanted=options.profile)
    offer = Offer(challenge_seconds=3_600, challenge_blocks=20, channels_max=options.channels)
    engine = Engine(store, Rewards(store, ()), Members(()), moment, offer)
    driver = Driver(store.ledger, HUB, DEPLOYMENT.domain(), moment, engine)
    engine.attach(driver, Requests(store, driver, moment))
    channels = WatchedChannels(driver, each=options.each)
    make_room(options.channels + 1_000)
    entrance = _entrance(options)
    server = Server(engine, channels, DEPLOYMENT.domain(), HUB, entrance)
    listener = await open_listener(HOST, 0, entrance.tls)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            await nursery.start(lambda task_status: server.serve(listener, task_status=task_status))
            say(json.dumps({"port": listener.socket.getsockname()[1]}))
            with profiled(profile):
                async for _ in signals:
                    break
            connected = server.connections
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await driver.flush()
    store.ledger.close()
    return {
        **commits.record(),
        **used(),
        "connections_at_end": connected,
        "updates_received": channels.updates,
        "verifications": channels.verifications,
        "limits_hit": dict(server.door.hits + engine.hits),
        "profile": profile_rows(profile),
        "commit_profile": profile_rows(commits.profile),
    }


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM, then say what was done."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    options = _options(arguments)
    say(json.dumps(trio.run(_serve, options)))


if __name__ == "__main__":
    main(sys.argv[1:])
