"""The debug methods, and eth_createAccessList, which listens in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import rlp
from eth.abc import ComputationAPI

from ...channels.hashing import keccak256
from ...channels.ids import Address, to_hex
from .. import calls
from .. import params as read
from ..authorizations import authority_of
from ..chain import DevChain
from ..errors import UnknownTransaction
from ..evm import DevnetVM
from ..method import Method, machines, number_of
from ..overrides import NO_OVERRIDES, Overrides, account_overrides, block_override, overrides
from ..params import LATEST, PENDING, BadParams, BlockAt, Params
from ..records import Authorization
from .calls import CallTree
from .hooks import Budget, traced
from .prestate import PrestateOptions, prestate
from .replay import Replay
from .steps import StepOptions, Steps
from .touched import Touched
from .words import words_for

TRACERS: Final = ("callTracer", "prestateTracer")
ALL_STEPS: Final = StepOptions()
WHOLE_PRESTATE: Final = PrestateOptions()
ACCESS_LIST_TRIES_MAX: Final = 10
"""A list that still changes then is one of a contract that looks at the gas it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """Which tracer runs (None: struct logs), and how."""

    tracer: str | None = None
    steps: StepOptions = ALL_STEPS
    only_top: bool = False
    with_log: bool = False
    prestate: PrestateOptions = WHOLE_PRESTATE
    pretended: Overrides = NO_OVERRIDES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """Whose message is traced; `to` is what it makes where it makes a contract."""

    sender: Address
    to: Address
    gas: int
    data: bytes
    authorizations: tuple[Authorization, ...]


Run = Callable[[], tuple[ComputationAPI, int]]


def _trace(
    options: TraceOptions,
    budget: Budget,
    vm: DevnetVM,
    subject: _Subject,
    run: Run,
    before: Callable[[], DevnetVM],
) -> object:
    """Run a message on a machine and say what its tracer heard."""
    if options.tracer == "callTracer":
        tree = CallTree(only_top=options.only_top, with_log=options.with_log, budget=budget)
        traced(vm, tree)
        computation, gas_used = run()
        if tree.root is None:  # a creation whose address is taken never starts
            tree.root = {
                "from": to_hex(subject.sender),
                "input": to_hex(subject.data),
                "type": "CREATE",
                "error": words_for(computation.error),
            }
        return tree.finish(subject.gas, gas_used)
    if options.tracer == "prestateTracer":
        touched = Touched()
        for address in (subject.sender, subject.to, vm.state.coinbase):
            touched.touch(bytes(address))
        for authority in _authorities(subject.authorizations):
            touched.touch(authority)
        traced(vm, touched)
        run()
        return prestate(options.prestate, budget, touched, before(), vm)
    steps = Steps(options=options.steps, budget=budget)
    traced(vm, steps)
    computation, gas_used = run()
    return {
        "gas": gas_used,
        "failed": computation.is_error,
        "returnValue": to_hex(computation.output),
        "structLogs": steps.steps,
    }


def _authorities(authorizations: Iterable[Authorization]) -> set[Address]:
    """The accounts that the authorizations of a transaction are about."""
    found = (authority_of(each) for each in authorizations)
    return {authority for authority in found if authority is not None}


def _made_by(sender: Address, nonce: int) -> Address:
    return Address(keccak256(rlp.encode([sender, nonce]))[12:])


# Mined transactions


def _trace_block(
    chain: DevChain, number: int, options: TraceOptions, only: int | None = None
) -> list[dict[str, object]]:
    """The traces of a block's transactions, or of one of them."""
    block = chain.block(number)
    records = () if block is None else block.transactions
    running, behind = Replay(chain, number), Replay(chain, number)
    budget = Budget()
    traces: list[dict[str, object]] = []
    for place, record in enumerate(records):
        if only not in (None, place):
            continue
        running.go_to(place)

        def before(place: int = place) -> DevnetVM:
            behind.go_to(place)
            return behind.vm

        subject = _Subject(
            sender=record.sender,
            to=record.to or _made_by(record.sender, record.nonce),
            gas=record.gas,
            data=record.data,
            authorizations=record.authorizations,
        )
        result = _trace(options, budget, running.vm, subject, running.step, before)
        traces.append({"txHash": to_hex(record.hash), "result": result})
    return traces


def _trace_transaction(chain: DevChain, params: Params) -> object:
    name = params.required(0, read.word)
    options = params.optional(1, _options, TraceOptions())
    receipt = chain.receipt(name)
    if receipt is None:
        raise UnknownTransaction(name)
    [trace] = _trace_block(chain, receipt.block_number, options, only=receipt.transaction_index)
    return trace["result"]


def _trace_block_by_number(chain: DevChain, params: Params) -> object:
    number = number_of(chain, params.required(0, read.block_at))
    return _trace_block(chain, number, params.optional(1, _options, TraceOptions()))


def _trace_block_by_hash(chain: DevChain, params: Params) -> object:
    number = number_of(chain, BlockAt(hash=params.required(0, read.word)))
    return _trace_block(chain, number, params.optional(1, _options, TraceOptions()))


# Calls


def _trace_call(chain: DevChain, params: Params) -> object:
    request = params.required(0, read.call_request)
    at = params.optional(1, read.block_at, LATEST)
    options = params.optional(2, _options, TraceOptions())
    machine = machines(chain, at, options.pretended)
    vm = machine()
    gas = calls.gas_for(request)
    subject = _Subject(
        sender=request.sender,
        to=request.to or _made_by(request.sender, vm.state.get_nonce(request.sender)),  # type: ignore[arg-type]
        gas=gas,
        data=request.data,
        authorizations=request.authorizations,
    )

    def run() -> tuple[ComputationAPI, int]:
        return calls.execute(vm, request, gas)

    return _trace(options, Budget(), vm, subject, run, machine)


def _create_access_list(chain: DevChain, params: Params) -> object:
    request = params.required(0, read.call_request)
    at = params.optional(1, read.block_at, PENDING)
    at = PENDING if at == LATEST else at
    machine = machines(chain, at, overrides(params, 2))
    nonce = machine().state.get_nonce(request.sender)  # type: ignore[arg-type]
    known = {request.sender, request.to or _made_by(request.sender, nonce)}
    known |= _authorities(request.authorizations)
    tries = 0
    while True:
        vm = machine()
        touched = Touched()
        computation, gas_used = calls.execute(traced(vm, touched), request, calls.gas_for(request))
        found = _access_list(vm, touched, known)
        tries += 1
        if found == request.access_list or tries == ACCESS_LIST_TRIES_MAX:
            break
        request = replace(request, access_list=found)
    answer: dict[str, object] = {
        "accessList": [
            {"address": to_hex(address), "storageKeys": [to_hex(word) for word in words]}
            for address, words in found
        ],
        "gasUsed": hex(gas_used),
    }
    if computation.is_error:
        answer["error"] = words_for(computation.error, computation)
    return answer


def _access_list(
    vm: DevnetVM, touched: Touched, known: set[Address]
) -> tuple[tuple[Address, tuple[bytes, ...]], ...]:
    """What is worth listing: sender, target, precompiles, what runs there are warm without it."""
    warm = known | set(vm.state.computation_class.get_precompiles()) | {touched.delegate}
    return tuple(
        (Address(address), tuple(slot.to_bytes(32) for slot in sorted(words)))
        for address, words in sorted(touched.words.items())
        if words or address not in warm
    )


# Options


def _options(value: object) -> TraceOptions:
    fields = read.mapping(value)
    if fields.get("txIndex") is not None:
        raise BadParams("txIndex is not served: a call is traced on the state after its block")
    tracer = read.field(fields, "tracer", _tracer) or None
    config = read.field(fields, "tracerConfig", read.mapping) or {}
    return TraceOptions(
        tracer=tracer,
        steps=StepOptions(
            memory=_flag(fields, "enableMemory"),
            stack=not _flag(fields, "disableStack"),
            storage=not _flag(fields, "disableStorage"),
            return_data=_flag(fields, "enableReturnData"),
            limit=read.field(fields, "limit", read.amount) or 0,
        ),
        only_top=_flag(config, "onlyTopCall"),
        with_log=_flag(config, "withLog"),
        prestate=PrestateOptions(
            diff=_flag(config, "diffMode"),
            code=not _flag(config, "disableCode"),
            storage=not _flag(config, "disableStorage"),
            empty=_flag(config, "includeEmpty"),
        ),
        pretended=Overrides(
            accounts=read.field(fields, "stateOverrides", account_overrides) or (),
            block=read.field(fields, "blockOverrides", block_override) or NO_OVERRIDES.block,
        ),
    )


def _tracer(value: object) -> str:
    if value == "" or value in TRACERS:
        return str(value)
    raise BadParams(f"there is no such tracer: give one of {', '.join(TRACERS)}, or none")


def _flag(fields: dict[str, object], name: str) -> bool:
    return bool(read.field(fields, name, read.flag))


METHODS: dict[str, Method] = {
    "debug_traceBlockByHash": Method(answer=_trace_block_by_hash, most=2),
    "debug_traceBlockByNumber": Method(answer=_trace_block_by_number, most=2),
    "debug_traceCall": Method(answer=_trace_call, most=3),
    "debug_traceTransaction": Method(answer=_trace_transaction, most=2),
    "eth_createAccessList": Method(answer=_create_access_list, most=4),
}
