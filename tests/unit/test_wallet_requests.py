"""A wallet's requests to be paid, where they stand on the chain's time."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from farthing.channels.client.driver import Driver
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.payments import SCHEMA, ChainNotSeen, Requests
from farthing.channels.client.pulse import Notices, Pulse
from farthing.channels.terms import Side

from ..people import BOB, DOMAIN, channel, moment


async def test_nothing_is_asked_before_the_chain_was_seen_as_it_would_have_expired(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "bob.sqlite", schema=SCHEMA)
    nobody = cast("Any", None)
    unseen = replace(moment(), head_block=0, head_timestamp=0, head_seen=0)
    driver = Driver(ledger, BOB, DOMAIN, lambda: unseen, nobody)
    requests = Requests(ledger, driver, lambda: unseen, Pulse(), Notices())
    with pytest.raises(ChainNotSeen):
        await requests.ask(channel(Side.B), 5, "good-deed")
    assert requests.all() == []
    ledger.close()
