"""Makes vectors/readings.json: what a receipt's `reading` commits to, from a pack as it was sent.

The resolved records are written down by hand; CBOR is the plain code of make_receipts.
"""

import hashlib
from typing import Any

from .forms import as_text, hexed
from .make_receipts import cbor_map

SUBMISSION = bytes(range(16))
NOW = 1_800_000_000

PACKS: list[tuple[str, list[dict[str, Any]]]] = [
    (
        '[{"n":"river/water-flow","u":"l/s","t":1795502600,"v":100.59}]',
        [{"n": "river/water-flow", "t": "1795502600", "u": "l/s", "v": "100.59"}],
    ),
    (
        '[{"bn":"room/","bt":1795502600,"n":"co2","u":"ppm","v":612.0},'
        '{"n":"temperature","u":"Cel","t":60,"v":2.15e1},{"n":"light","u":"lx","t":0.5,"v":0}]',
        [
            {"n": "room/co2", "t": "1795502600", "u": "ppm", "v": "612"},
            {"n": "room/temperature", "t": "1795502660", "u": "Cel", "v": "21.5"},
            {"n": "room/light", "t": "1795502600.5", "u": "lx", "v": "0"},
        ],
    ),
    (
        '[{"n":"tank","u":"m3","bt":1795502600,"bv":10,"v":-2.50,"s":1e3,"bs":1}]',
        [{"n": "tank", "t": "1795502600", "u": "m3", "v": "7.5", "s": "1001"}],
    ),
    (
        '[{"n":"meter","u":"kWh","t":1795502600,"v":1e-20,"ut":60,'
        '"original":"2026-11-24 07:43:20"}]',
        [
            {
                "n": "meter",
                "t": "1795502600",
                "u": "kWh",
                "v": "0.00000000000000000001",
                "ut": "60",
                "original": "2026-11-24 07:43:20",
            }
        ],
    ),
    ('[{"n":"door","t":-30,"vs":"open"}]', [{"n": "door", "t": "1799999970", "vs": "open"}]),
]


def row(pack: str, index: int, record: dict[str, Any]) -> dict[str, Any]:
    encoded = cbor_map(record)
    committed = hashlib.sha256(SUBMISSION + index.to_bytes(4, "big") + encoded).digest()
    return {
        "pack": pack,
        "index": str(index),
        "record": record,
        "cbor": hexed(encoded),
        "reading": hexed(committed),
    }


def text() -> str:
    vectors = [
        row(pack, index, record) for pack, records in PACKS for index, record in enumerate(records)
    ]
    return as_text({"submission": hexed(SUBMISSION), "now": str(NOW), "vectors": vectors})
