"""web3.py at a devnet, with connections that are closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from web3 import HTTPProvider, Web3

SECONDS_MAX = 120
"""Of an answer: ten thousand blocks in one call take half a minute."""


@contextmanager
def web3_at(rpc_url: str) -> Iterator[Web3]:
    """web3.py over HTTP while the block lasts; it asks once, and never through a proxy."""
    with requests.Session() as session:
        session.trust_env = False
        yield Web3(
            HTTPProvider(
                rpc_url,
                request_kwargs={"timeout": SECONDS_MAX},
                session=session,
                exception_retry_configuration=None,
            )
        )
