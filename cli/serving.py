"""Running a server from the command line, until somebody tells it to end."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

import click
import trio


def serve_until_told(run: Callable[[], Awaitable[None]]) -> None:
    """Run a server, logging to standard error, until SIGTERM or SIGINT; while it starts, too."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    trio.run(_serve, run, strict_exception_groups=True)


async def _serve(run: Callable[[], Awaitable[None]]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


def say_ready(record: Mapping[str, object]) -> None:
    """Print the one JSON line that says that a server is ready."""
    click.echo(json.dumps(record))
    sys.stdout.flush()
