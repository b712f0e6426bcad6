"""Writes every file of vectors/: `python -m tests.interop.make_all` in the repository's root.

No generator imports our own code: what they write is what other people's libraries make of the
page docs/protocol.md.
"""

from collections.abc import Callable, Mapping
from typing import Final

from . import (
    make_channel_ids,
    make_histories,
    make_on_chain,
    make_readings,
    make_receipts,
    make_signatures_refused,
    make_signed_types,
    make_wire_messages,
)
from .forms import FOLDER

FILES: Final[Mapping[str, Callable[[], str]]] = {
    "signed_types.json": make_signed_types.text,
    "channel_ids.json": make_channel_ids.text,
    "on_chain.json": make_on_chain.text,
    "signatures_refused.json": make_signatures_refused.text,
    "receipts.json": make_receipts.text,
    "readings.json": make_readings.text,
    "wire_messages.json": make_wire_messages.text,
    "histories.json": make_histories.text,
}

if __name__ == "__main__":
    for name, text in FILES.items():
        (FOLDER / name).write_text(text(), encoding="utf-8", newline="\n")
