"""How the vector files write values: numbers as decimal text, bytes as hex after 0x."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("vectors")


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def filled(byte: int, size: int) -> str:
    return hexed(bytes([byte] * size))


def as_text(record: Any) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))
