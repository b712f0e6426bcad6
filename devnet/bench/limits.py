"""What the machine itself can do: the primitives under every figure, measured in the same run.

The curve is called as coincurve's own `lib`, keys parsed once, so that a ratio says what the rest
of the program costs and not what a wrapper does.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]

from ...channels.hashing import keccak256

CALLS = 1_000
BATCHES = 7
PAGE = bytes(4096)
"""What is written before a sync: one page of a database."""
SYNCS = 60
FRAME = bytes(256)
"""About one update with a receipt."""
ROUND_TRIPS = 400
STREAM_BYTES = 64 << 20

_MICRO = 1e6


def measure_limits(folder: Path) -> dict[str, float]:
    """The µs of each primitive: on one core of its CPU time, of syncs and sockets by the clock.

    CPU time, so that other programs on the machine do not make the limit look lower than it is.
    `folder` is on the disk whose syncs are timed.
    """
    sign, verify, recover = _curve()
    return {
        "sign_us": _timed(sign),
        "verify_us": _timed(verify),
        "recover_us": _timed(recover),
        "keccak_us": _timed(lambda: keccak256(FRAME)),
        "fsync_us": _synced(folder, os.fsync),
        "fdatasync_us": _synced(folder, os.fdatasync),
        "socket_round_trip_us": _round_trip(),
        "socket_mib_per_second": _stream(),
    }


def middle(measured: list[dict[str, float]]) -> dict[str, float]:
    """The median of each limit over measurements taken before, between and after."""
    names = measured[0]
    return {
        name: round(sorted(one[name] for one in measured)[len(measured) // 2], 3) for name in names
    }


def _timed(call: Callable[[], object]) -> float:
    """µs of CPU a call: the median of batches."""
    taken = []
    for _ in range(BATCHES):
        began = time.thread_time()
        for _ in range(CALLS):
            call()
        taken.append((time.thread_time() - began) / CALLS)
    return sorted(taken)[BATCHES // 2] * _MICRO


def _curve() -> tuple[Callable[[], None], Callable[[], None], Callable[[], None]]:
    """Sign, verify and recover one digest, each with what must be done anew for each signature."""
    key = PrivateKey(keccak256(b"farthing bench: limits"))
    context, digest, secret = key.context.ctx, keccak256(b"a digest"), key.secret
    public = key.public_key.public_key
    recoverable = ffi.new("secp256k1_ecdsa_recoverable_signature *")
    signature = ffi.new("secp256k1_ecdsa_signature *")
    compact, recovery, found = ffi.new("unsigned char[64]"), ffi.new("int *"), _new_key()

    def sign() -> None:
        lib.secp256k1_ecdsa_sign_recoverable(
            context, recoverable, digest, secret, ffi.NULL, ffi.NULL
        )
        lib.secp256k1_ecdsa_recoverable_signature_serialize_compact(
            context, compact, recovery, recoverable
        )

    sign()
    known, known_id = bytes(ffi.buffer(compact)), int(recovery[0])

    def verify() -> None:
        lib.secp256k1_ecdsa_signature_parse_compact(context, signature, known)
        if not lib.secp256k1_ecdsa_verify(context, signature, digest, public):
            raise RuntimeError("a signature of our own does not verify")

    def recover() -> None:
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(
            context, recoverable, known, known_id
        )
        if not lib.secp256k1_ecdsa_recover(context, found, recoverable, digest):
            raise RuntimeError("a signature of our own does not recover")

    return sign, verify, recover


def _new_key() -> object:
    new: object = ffi.new("secp256k1_pubkey *")
    return new


def _synced(folder: Path, sync: Callable[[int], None]) -> float:
    """µs of a sync after a page was appended."""
    taken = []
    with TemporaryFile(dir=folder) as file:
        descriptor = file.fileno()
        for _ in range(SYNCS):
            os.write(descriptor, PAGE)
            began = time.perf_counter()
            sync(descriptor)
            taken.append(time.perf_counter() - began)
    return sorted(taken)[SYNCS // 2] * _MICRO


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def _round_trip() -> float:
    """µs until a frame that a thread sends back has come back."""
    near, far = _pair()
    with near, far:
        thread = threading.Thread(target=_echo, args=(far,))
        thread.start()
        taken = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            near.sendall(FRAME)
            near.recv(len(FRAME), socket.MSG_WAITALL)
            taken.append(time.perf_counter() - began)
        near.shutdown(socket.SHUT_WR)
        thread.join()
    return sorted(taken)[ROUND_TRIPS // 2] * _MICRO


def _echo(end: socket.socket) -> None:
    while data := end.recv(len(FRAME)):
        end.sendall(data)


def _stream() -> float:
    """MiB a second through one connection."""
    near, far = _pair()
    with near, far:
        thread = threading.Thread(target=_pour, args=(near,))
        began = time.perf_counter()
        thread.start()
        left = STREAM_BYTES
        while left:
            left -= len(far.recv(min(left, 1 << 18)))
        thread.join()
        return STREAM_BYTES / (1 << 20) / (time.perf_counter() - began)


def _pour(end: socket.socket) -> None:
    piece = bytes(1 << 18)
    for _ in range(STREAM_BYTES // len(piece)):
        end.sendall(piece)
