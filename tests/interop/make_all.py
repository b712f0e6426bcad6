"""Writes every file of vectors/: `python -m tests.interop.make_all` in the repository's root.

No generator imports our own code: what they write is what other people's libraries make of the
page docs/protocol.md.
"""

from collections.abc import Callable, Mapping
from typing import Final

from . import make_signed_types
from .forms import FOLDER

FILES: Final[Mapping[str, Callable[[], str]]] = {
    "signed_types.json": make_signed_types.text,
}

if __name__ == "__main__":
    for name, text in FILES.items():
        (FOLDER / name).write_text(text(), encoding="utf-8", newline="\n")
