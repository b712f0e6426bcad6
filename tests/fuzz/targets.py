"""What is fuzzed: everything that reads bytes of strangers, or files that somebody may have edited.

Rule: a target takes any bytes. It returns, whatever they are: errors that the reader is allowed to
raise are caught by their named class, and any other exception is a finding. Where more can be said
than "it does not break" (what was read is written as it was), the target says it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import trio

from farthing.channels.bounded_json import NotJson, parse
from farthing.channels.client import bundle, control, keystore
from farthing.channels.client.abi import ALLOWANCE, address_of, bool_of, uint_of, words
from farthing.channels.client.chain import ChainReader
from farthing.channels.client.chain import Head as ClientHead
from farthing.channels.client.folder import Settings
from farthing.channels.client.logs import decode_logs
from farthing.channels.client.rpc import RpcClient, RpcUnusable, revert_reason
from farthing.channels.client.wire import Wire
from farthing.channels.codecs import decode_message, encode_message
from farthing.channels.deployment import Deployment, MalformedDeployment
from farthing.channels.errors import ChainError, FarthingError, LocalError, PeerError
from farthing.channels.fields import MalformedMessage
from farthing.channels.frames import FRAME_BYTES_MAX, FrameReader, encode_frame
from farthing.channels.ids import ChannelId
from farthing.channels.messages import VoucherDeposit
from farthing.channels.receipt import MalformedReceipt, Receipt, ReceiptType, make_receipt
from farthing.channels.rlp_items import read_list
from farthing.channels.senml import PackFormat, encode_json
from farthing.channels.senml import parse as parse_senml
from farthing.channels.senml_errors import MalformedReading
from farthing.channels.terms import Terms
from farthing.node.audit.receipts import ReceiptsReader
from farthing.node.config import load
from farthing.node.programme import parse_programme
from farthing.node.settings import Misconfigured
from farthing.node.watchtower.deposits import check_deposit

ROOT = Path(__file__).resolve().parents[2]


class Finding(AssertionError):
    """A reader gave back what it must not give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One harness, the modules whose lines are the goal, and the longest input worth trying."""

    one: Callable[[bytes], None]
    modules: tuple[str, ...]
    bytes_max: int = 4096


def expect(holds: bool, what: str) -> None:
    """Raise a `Finding` unless it holds."""
    if not holds:
        raise Finding(what)


# -- the wire -------------------------------------------------------------------------------------


def _cut(data: bytes, sizes: list[int]) -> tuple[list[bytes], str]:
    """What a reader gives for a stream that arrives in such pieces, and how it ended."""
    reader = FrameReader(frame_bytes_max=2048)
    payloads: list[bytes] = []
    position = 0
    try:
        for size in [*sizes, len(data)]:
            payloads += reader.feed(data[position : position + size])
            position += size
    except PeerError as error:
        return payloads, error.code
    return payloads, "partial" if reader.partial else ""


def frames(data: bytes) -> None:
    """A stream's frames do not depend on how it is cut, and are written as they were read."""
    if not data:
        return
    whole, ended = _cut(data, [])
    pieces, ended_too = _cut(data, [1 + data[0] % 7] * len(data))
    expect(ended == ended_too, f"in one piece it ends {ended!r}, in several {ended_too!r}")
    if not ended or ended == "partial":
        expect(whole == pieces, "another cut of the stream gives other frames")
        written = b"".join(map(encode_frame, whole))
        expect(data.startswith(written), "a frame is not written as it was read")


def rlp_items(data: bytes) -> None:
    """Only canonical RLP is read, and never more of it than there is."""
    with suppress(MalformedMessage):
        items = read_list(data)
        expect(_rlp(items) == data, "a list is not written as it was read")


def _rlp(item: Any) -> bytes:
    body = item if isinstance(item, bytes) else b"".join(map(_rlp, item))
    base = 0x80 if isinstance(item, bytes) else 0xC0
    if isinstance(item, bytes) and len(item) == 1 and item[0] < base:
        return item
    if len(body) <= 55:
        return bytes([base + len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size + body


def messages(data: bytes) -> None:
    """A message that can be read is written as the same bytes: there is one form of each."""
    with suppress(PeerError):
        message = decode_message(data)
        expect(encode_message(message) == data, f"{message} has two forms")


class _Script:
    """A stream that gives what it is told and forgets what it is sent."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def receive_some(self, _bytes_max: int) -> bytes:
        given, self._data = self._data[:512], self._data[512:]
        return given

    async def send_all(self, _data: bytes) -> None:
        """Forget it."""


def handshake(data: bytes) -> None:
    """Nobody is let in by bytes that no key has signed, from either end."""
    from ..people import ALICE, BOB, DOMAIN  # noqa: PLC0415 - coincurve is imported when needed

    async def both() -> None:
        for dials in (False, True):
            wire = Wire(cast("trio.abc.Stream", _Script(data)))
            with suppress(PeerError):
                if dials:
                    await wire.dial(DOMAIN, BOB, ALICE.address)
                else:
                    await wire.accept(DOMAIN, ALICE)
                raise Finding("a stranger was let in")

    trio.run(both)


# -- readings and receipts -------------------------------------------------------------------------


def senml(data: bytes) -> None:
    """A pack that is read can be written and is then read as the same records."""
    for pack_format in PackFormat:
        with suppress(MalformedReading):
            records = parse_senml(data, pack_format, now=1_800_000_000)
            again = parse_senml(encode_json(records), PackFormat.JSON, now=0)
            expect(again == records, "records change when they are written and read")


def receipts(data: bytes) -> None:
    """A receipt has one form: what it says, written again, is the same bytes."""
    for kind in ReceiptType:
        with suppress(MalformedReceipt):
            receipt = Receipt(type=kind, cbor=data, salt=bytes(32))
            again = make_receipt(kind, receipt.fields(), salt=bytes(32))
            expect(again == receipt, "a receipt has two forms")


def audit_receipts(data: bytes) -> None:
    """A file of receipts gives findings, whatever it holds."""
    reader = ReceiptsReader()
    reader.add("receipts", data.splitlines(keepends=True))
    found = reader.receipts()
    expect(found.count <= data.count(b"\n") + 1, "more receipts than lines")


# -- answers of the chain --------------------------------------------------------------------------


class _Answers:
    """In place of an endpoint: gives the same answer to whatever is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def call(self, method: str, *params: Any) -> Any:
        """The answer."""
        return self.answer


def _ask(question: Coroutine[Any, Any, Any]) -> None:
    """Run what never waits; a `ChainError` is an answer too."""
    try:
        question.send(None)
    except (StopIteration, ChainError):
        return
    finally:
        question.close()
    raise Finding("a question waits, although its answer is there")


def rpc_answers(data: bytes) -> None:
    """Whatever an endpoint answers, the wallet gets a value of the asked kind or a `ChainError`."""
    from ..people import DEPLOYMENT  # noqa: PLC0415 - as above

    client = RpcClient("http://127.0.0.1:1")
    with suppress(ChainError):
        result = client._result_of("eth_call", 1, 200, data)
        reader = ChainReader(cast("RpcClient", _Answers(result)), DEPLOYMENT)
        head = ClientHead(block=1, block_hash=bytes(32), timestamp=1)
        for question in (
            reader.head(),
            reader.block(1),
            reader.channel_state(ChannelId(bytes(32)), head),
            reader.is_active(DEPLOYMENT.city_credit, 1),
            reader.next_nonce(DEPLOYMENT.city_credit),
            reader.knows(bytes(32)),
            reader.outcome(bytes(32)),
            reader.log_batch(1, 9, [ChannelId(bytes(32))]),
            reader.send_raw(b""),
        ):
            _ask(question)
        decode_logs(DEPLOYMENT, result, maximum=50)


def abi_answers(data: bytes) -> None:
    """What a call returned is the words that were asked for, or is refused."""
    revert_reason("0x" + data.hex())
    for count in (1, 2, 9):
        with suppress(RpcUnusable):
            for word in words(data, count, ALLOWANCE.signature):
                for read in (uint_of, address_of, bool_of):
                    with suppress(RpcUnusable):
                        read(word, "a value")


def audit_rpc(data: bytes) -> None:
    """Whatever an endpoint answers to an auditor is a result or one of the audit's own errors."""
    import httpx  # noqa: PLC0415 - a client of its own for one target

    from farthing.node.audit.errors import RpcRefused, RpcUnreachable  # noqa: PLC0415
    from farthing.node.audit.rpc import HttpRpc  # noqa: PLC0415

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=data))
    with HttpRpc("http://127.0.0.1:1", transport=transport) as rpc:
        for count in (1, 2):
            with suppress(RpcRefused, RpcUnreachable):
                rpc.call_many("eth_call", [[]] * count)


# -- the devnet ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _devnet(_generation: int) -> Any:
    from farthing.devnet.chain import ChainSettings, DevChain  # noqa: PLC0415 - loads an EVM
    from farthing.devnet.rpc import Rpc  # noqa: PLC0415

    chain = DevChain(
        ChainSettings(accounts=2, wall_seconds=lambda: 1_800_000_000.0, entropy=bytes(32))
    )
    return Rpc(chain)


_runs = 0


def devnet(data: bytes) -> None:
    """A request is answered in JSON, and never with a fault of ours."""
    from farthing.devnet.rpc import INTERNAL_ERROR  # noqa: PLC0415 - loads an EVM
    from farthing.devnet.server import _dumps  # noqa: PLC0415
    from farthing.devnet.server import parse as parse_body  # noqa: PLC0415

    global _runs  # noqa: PLW0603 - a chain that has been changed too often is replaced
    _runs += 1
    try:
        payload = parse_body(data)
    except ValueError:
        return
    for request in payload if isinstance(payload, list) else [payload]:
        answer = _devnet(_runs // 500).answer(request)
        if answer is None:
            continue
        error = answer.get("error", {})
        expect(error.get("code") != INTERNAL_ERROR, f"a fault of ours: {error.get('message')}")
        text = _dumps(answer)
        json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise Finding(f"an answer holds {name}, which is no JSON")


# -- commands and files ----------------------------------------------------------------------------


def control_request(data: bytes) -> None:
    """A line on the control socket is a known method with an object, or is refused."""

    async def method(params: Any) -> Any:
        expect(isinstance(params, dict), "a method was given something else than an object")

    with suppress(control.MalformedRequest):
        call = control._call(data, {"status": method})
        with suppress(StopIteration):
            call.send(None)


def control_answer(data: bytes) -> None:
    """A command survives whatever answers on the socket."""
    with suppress(LocalError, ChainError):
        control.read_answer(Path("control.sock"), data)


def bounded_json(data: bytes) -> None:
    """What is read nests no deeper than it may, and is what Python's own reader makes of it."""
    with suppress(NotJson):
        value = parse(data)
        expect(repr(value) == repr(json.loads(data.decode())), "it reads another value")


def deployment(data: bytes) -> None:
    """A record that is read is written and read as the same."""
    with suppress(MalformedDeployment):
        record = Deployment.from_json(data.decode(errors="replace"))
        expect(Deployment.from_json(record.to_json()) == record, "it changes when written")


def wallet_settings(data: bytes) -> None:
    """Settings that are read are written and read as the same."""
    with suppress(LocalError):
        settings = Settings.from_json(data.decode(errors="replace"))
        expect(Settings.from_json(settings.to_json()) == settings, "they change when written")


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        yield path


def keystores(data: bytes) -> None:
    """A keystore is unlocked or refused by name; it is never worked on for long."""
    with _file(data) as path, suppress(LocalError):
        keystore.address(path)
        keystore.unlock(path, "correct horse", memory_bytes_max=2**20)


def hub_settings(data: bytes) -> None:
    """A hub's settings are taken or refused with the place of what is wrong."""
    with _file(data) as path, suppress(Misconfigured):
        load(path, {})


def programmes(data: bytes) -> None:
    """A programme is taken or refused with the place of what is wrong."""
    with suppress(Misconfigured):
        parse_programme(data, file="programme.toml")


def bundles(data: bytes) -> None:
    """A recovery bundle is written as it was read, or refused by name, whatever its checksum."""
    forms = [data]
    with suppress(NotJson):
        record = parse(data)
        if isinstance(record, dict):
            record.pop("sha256", None)
            record["sha256"] = bundle._checksum(record)
            forms.append(json.dumps(record).encode())
    for form in forms:
        with _file(form) as path, suppress(bundle.MalformedBundle):
            found = bundle.read_bundle(path)
            path.write_bytes(found.to_bytes())
            again = bundle.read_bundle(path)  # its channels in order
            channels = sorted(found.channels, key=repr)
            expect(sorted(again.channels, key=repr) == channels, "channels change when written")
            expect(again == replace(found, channels=again.channels), "it changes when written")
            expect(again.to_bytes() == found.to_bytes(), "one bundle is written in two ways")


def deposits(data: bytes) -> None:
    """A watchtower keeps nothing but what pays its depositor, as its channel and signature say."""
    from ..people import BOB, DEPLOYMENT, SEPARATOR  # noqa: PLC0415 - as above

    with suppress(PeerError):
        message = decode_message(data)
        if not isinstance(message, VoucherDeposit):
            return
        with suppress(LocalError):  # so that more than the channel's id is looked at
            named = {field.name: getattr(message, field.name) for field in fields(Terms)}
            message = replace(message, channel=DEPLOYMENT.channel_id(Terms(**named)))
        kept = check_deposit(message, BOB.address, DEPLOYMENT, SEPARATOR)
        expect(kept.terms.signer(kept.payer.other) == BOB.address, "it pays somebody else")
        total = kept.voucher.total
        said = (message.nonce, message.transferred_ucent, message.history, message.signature)
        held = (total.nonce, total.transferred_ucent, total.history, kept.voucher.signature)
        expect(held == said, "another voucher is kept than was deposited")


def terms(data: bytes) -> None:
    """Terms of any numbers are taken or refused, never with an error of Python's."""
    with suppress(FarthingError):
        message = decode_message(data)
        if hasattr(message, "challenge_seconds") and hasattr(message, "signer_a"):
            Terms(**{name: getattr(message, name) for name in Terms.__dataclass_fields__})


CHANNELS = "farthing.channels"

TARGETS: dict[str, Target] = {
    "frames": Target(one=frames, modules=(f"{CHANNELS}.frames",)),
    "rlp_items": Target(one=rlp_items, modules=(f"{CHANNELS}.rlp_items",)),
    "messages": Target(
        one=messages,
        modules=tuple(f"{CHANNELS}.{m}" for m in ("codecs", "packed", "rlp_items", "fields")),
        bytes_max=FRAME_BYTES_MAX // 64,
    ),
    "handshake": Target(
        one=handshake,
        modules=tuple(f"{CHANNELS}.{m}" for m in ("handshake", "client.wire", "frames", "codecs")),
    ),
    "terms": Target(one=terms, modules=(f"{CHANNELS}.terms", f"{CHANNELS}.codecs")),
    "senml": Target(
        one=senml,
        modules=tuple(f"{CHANNELS}.{m}" for m in ("senml", "senml_cbor", "senml_record")),
    ),
    "receipts": Target(one=receipts, modules=(f"{CHANNELS}.receipt",)),
    "audit_receipts": Target(one=audit_receipts, modules=("farthing.node.audit.receipts",)),
    "rpc_answers": Target(
        one=rpc_answers,
        modules=tuple(f"{CHANNELS}.client.{m}" for m in ("rpc", "chain", "logs", "abi")),
    ),
    "abi_answers": Target(one=abi_answers, modules=(f"{CHANNELS}.client.abi",)),
    "audit_rpc": Target(one=audit_rpc, modules=("farthing.node.audit.rpc",)),
    "devnet": Target(
        one=devnet,
        modules=tuple(f"farthing.devnet.{m}" for m in ("rpc", "params", "server", "methods")),
    ),
    "control_request": Target(one=control_request, modules=(f"{CHANNELS}.client.control",)),
    "control_answer": Target(one=control_answer, modules=(f"{CHANNELS}.client.control",)),
    "bounded_json": Target(one=bounded_json, modules=(f"{CHANNELS}.bounded_json",)),
    "deployment": Target(one=deployment, modules=(f"{CHANNELS}.deployment",)),
    "wallet_settings": Target(one=wallet_settings, modules=(f"{CHANNELS}.client.folder",)),
    "bundles": Target(one=bundles, modules=(f"{CHANNELS}.client.bundle",)),
    "deposits": Target(
        one=deposits,
        modules=("farthing.node.watchtower.deposits", f"{CHANNELS}.codecs", f"{CHANNELS}.terms"),
    ),
    "keystores": Target(one=keystores, modules=(f"{CHANNELS}.client.keystore",)),
    "hub_settings": Target(
        one=hub_settings, modules=("farthing.node.config", "farthing.node.settings")
    ),
    "programmes": Target(
        one=programmes, modules=("farthing.node.programme", "farthing.node.settings")
    ),
}
"""By name, as `python -m tests.fuzz.run` takes it; one folder of the corpus each."""
