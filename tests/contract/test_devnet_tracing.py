"""Traces of mined transactions and of calls: steps, calls, state, and access lists.

Shapes, gas and depth were compared with anvil 1.7 (struct logs and prestates equal step by step).
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from farthing.channels.ids import Address, to_hex
from farthing.devnet.chain import DevChain
from farthing.devnet.tracing import hooks
from farthing.devnet.tracing import methods as tracing

from .devnet_probe import act, calldata, chains_closed, compiled, deploy, made_chain
from .test_devnet_rpc import call, refusal

pytestmark = pytest.mark.usefixtures(chains_closed.__name__)

BOB = "0x" + "b0" * 20
ZERO = "0x" + "00" * 20
TOPIC = "0xe2c07437408afdb66a9483ce3fb2ae2365de0070d89ec17635c6be5ce1cfaaff"

MAKES_ANOTHER = "0x6760005f5360015ff35f52600860185ff0505fff"
"""Init code: creates a contract whose code is one STOP, then gives itself up."""
ENDS = pytest.mark.filterwarnings("ignore:SELFDESTRUCT opcode")  # py-evm's own warning


def word(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()


def sent(chain: DevChain, gas: int = 3_000_000, **fields: object) -> str:
    """A transaction of the first account with its gas given, so that it may fail; mined."""
    request = {"from": to_hex(chain.accounts[0].address), "gas": hex(gas), **fields}
    name: str = call(chain, "eth_sendTransaction", request)
    return name


def acted(chain: DevChain, probe: Address, signature: str, *values: object, **how: Any) -> str:
    return sent(chain, to=to_hex(probe), data=to_hex(calldata(signature, *values)), **how)


def receipt(chain: DevChain, name: str) -> Any:
    return call(chain, "eth_getTransactionReceipt", name)


def traced(chain: DevChain, name: str, tracer: str | None = None, **options: object) -> Any:
    chosen = {"tracerConfig": options, "tracer": tracer} if tracer else options
    return call(chain, "debug_traceTransaction", name, chosen)


# Steps


def test_the_steps_of_a_transaction_have_gas_stack_memory_and_storage() -> None:
    chain = made_chain()
    name = acted(chain, deploy(chain), "note(uint256,uint256)", 1, 2)
    trace = traced(chain, name, enableMemory=True, enableReturnData=True)
    assert (trace["failed"], trace["returnValue"]) == (False, "0x")
    assert hex(trace["gas"]) == receipt(chain, name)["gasUsed"]
    steps = trace["structLogs"]
    assert len(steps) == 46  # as many as anvil shows
    first = {"pc": 0, "op": "PUSH0", "gas": 2_978_656, "gasCost": 2, "depth": 1}
    assert steps[0] == {**first, "stack": [], "memory": [], "returnData": "0x"}
    [store] = [step for step in steps if step["op"] == "SSTORE"]
    assert store["storage"] == {word(0): word(2)}
    assert (store["gasCost"], store["stack"]) == (22_100, ["0xfd771069", "0x2", "0x0"])
    [log] = [step for step in steps if step["op"] == "LOG3"]
    assert (log["gasCost"], log["memory"][2]) == (1_756, word(2))
    for step, following in itertools.pairwise(steps):
        assert step["gas"] - step["gasCost"] == following["gas"]
    assert steps[-1]["op"] == "STOP"
    bare = traced(chain, name, disableStack=True, disableStorage=True, limit=40)["structLogs"]
    assert len(bare) == 40
    assert {field for step in bare for field in step} == {"pc", "op", "gas", "gasCost", "depth"}


@ENDS
def test_a_step_that_calls_costs_what_it_hands_over_too() -> None:
    chain = made_chain()
    name = acted(chain, deploy(chain), "outer(uint256)", 1)
    steps = traced(chain, name)["structLogs"]
    [place] = [place for place, step in enumerate(steps) if step["op"] == "CALL"]
    caller, inner = steps[place], steps[place + 1]
    assert (caller["depth"], inner["depth"]) == (1, 2)
    assert caller["gasCost"] == inner["gas"] + 100
    creates = sent(chain, data=MAKES_ANOTHER)
    steps = traced(chain, creates)["structLogs"]
    [create] = [step for step in steps if step["op"] == "CREATE"]
    assert 32_000 <= create["gasCost"] < 33_000  # what it hands over is no part of it


def test_what_comes_back_and_what_went_wrong_stands_in_the_steps() -> None:
    chain = made_chain()
    probe = deploy(chain)
    acted(chain, probe, "note(uint256,uint256)", 1, 2)
    deleted = traced(chain, acted(chain, probe, "note(uint256,uint256)", 1, 0))
    assert deleted["structLogs"][-1]["refund"] == 4_800
    assert "refund" not in deleted["structLogs"][0]
    burnt = traced(chain, acted(chain, probe, "note_many(uint256)", 100, gas=50_000))
    assert (burnt["failed"], burnt["gas"]) == (True, 50_000)
    assert burnt["structLogs"][-1]["error"] == "out of gas"
    refused = traced(chain, acted(chain, probe, "refuse()"))
    assert refused["failed"] is True
    assert refused["returnValue"].startswith("0x08c379a0")
    assert traced(chain, sent(chain, to=BOB, value="0x5"))["structLogs"] == []


def test_the_stop_after_the_end_of_the_code_stands_after_it() -> None:
    chain = made_chain()
    code = {BOB: {"code": "0x6000"}}
    options = {"stateOverrides": code}
    steps = call(chain, "debug_traceCall", {"to": BOB}, "latest", options)["structLogs"]
    assert [(step["pc"], step["op"]) for step in steps] == [(0, "PUSH1"), (2, "STOP")]


# Calls


def test_the_call_tree_has_each_call_with_its_logs_in_their_places() -> None:
    chain = made_chain()
    probe = deploy(chain)
    name = acted(chain, probe, "outer(uint256)", 1)
    root = traced(chain, name, "callTracer", withLog=True)
    inner = root["calls"][0]
    logs = inner.pop("logs")
    assert [(int(log["index"], 16), log["position"]) for log in logs] == [
        (number, "0x0") for number in range(40)
    ]
    assert logs[3]["topics"] == [TOPIC, word(int(to_hex(probe), 16)), word(3)]
    assert (logs[3]["address"], logs[3]["data"]) == (to_hex(probe), word(3))
    data = to_hex(calldata("note_many(uint256)", 40))
    assert inner == {
        "type": "CALL",
        "from": to_hex(probe),
        "to": to_hex(probe),
        "gas": inner["gas"],
        "gasUsed": "0x11d89",  # as anvil has it
        "value": "0x0",
        "input": data,
    }
    assert root == {
        "type": "CALL",
        "from": to_hex(chain.accounts[0].address),
        "to": to_hex(probe),
        "gas": hex(3_000_000),
        "gasUsed": receipt(chain, name)["gasUsed"],
        "value": "0x0",
        "input": to_hex(calldata("outer(uint256)", 1)),
        "calls": [inner],
    }
    top = traced(chain, name, "callTracer", onlyTopCall=True, withLog=True)
    assert top == {key: value for key, value in root.items() if key != "calls"}


def test_a_call_that_fails_says_why_in_geths_words() -> None:
    chain = made_chain()
    probe = deploy(chain)
    refused = traced(chain, acted(chain, probe, "refuse()"), "callTracer")
    assert refused["error"] == "execution reverted"
    assert refused["revertReason"] == "probe: refused"
    assert refused["output"].startswith("0x08c379a0")
    broken = traced(chain, acted(chain, probe, "break_down()", gas=100_000), "callTracer")
    assert (broken["error"], broken["gasUsed"]) == ("invalid opcode: INVALID", hex(100_000))
    assert "output" not in broken
    burnt = acted(chain, probe, "note_many(uint256)", 100, gas=50_000)
    tree = traced(chain, burnt, "callTracer", withLog=True)
    assert (tree["error"], "logs" in tree) == ("out of gas", False)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("0x0c", "invalid opcode: opcode 0xc not defined"),
        ("0x01", "stack underflow"),
        ("0x5b5f5f56", "stack limit reached 1024 (1023)"),
        ("0x600456", "invalid jump destination"),
        ("0x60015f5f3e", "return data out of bounds"),
    ],
)
def test_each_failure_of_the_machine_has_geths_words(code: str, error: str) -> None:
    chain = made_chain()
    options = {"tracer": "callTracer", "stateOverrides": {BOB: {"code": code}}}
    assert call(chain, "debug_traceCall", {"to": BOB}, "latest", options)["error"] == error


@ENDS
def test_creations_delegations_and_an_end_are_calls_of_their_own_kind() -> None:
    chain = made_chain()
    alice = to_hex(chain.accounts[0].address)
    name = sent(chain, data=MAKES_ANOTHER, value="0x9")
    root = traced(chain, name, "callTracer")
    assert (root["type"], root["to"]) == ("CREATE", receipt(chain, name)["contractAddress"])
    created, gone = root["calls"]
    assert (created["type"], created["from"], created["output"]) == ("CREATE", root["to"], "0x00")
    assert gone == {
        "type": "SELFDESTRUCT",
        "from": root["to"],
        "to": ZERO,
        "value": "0x9",
        "gas": "0x0",
        "gasUsed": "0x0",
        "input": "0x",
    }
    delegating = "0x5f5f5f5f730000000000000000000000000000000000000004620fffff" + "f4"
    static = "0x5f5f5f5f730000000000000000000000000000000000000004620fffff" + "fa"
    for code, kind, valued in ((delegating, "DELEGATECALL", True), (static, "STATICCALL", False)):
        options = {"tracer": "callTracer", "stateOverrides": {BOB: {"code": code}}}
        request = {"from": alice, "to": BOB, "value": "0x3"}
        [inner] = call(chain, "debug_traceCall", request, "latest", options)["calls"]
        assert (inner["type"], inner["from"], inner["to"]) == (kind, BOB, ZERO[:-1] + "4")
        assert ("value" in inner) is valued
    failed = traced(chain, sent(chain, data="0xfe"), "callTracer")
    assert (failed["error"], "to" in failed) == ("invalid opcode: INVALID", False)


def test_logs_of_a_call_that_its_caller_takes_back_are_not_shown() -> None:
    chain = made_chain()
    probe = deploy(chain)
    note = to_hex(calldata("note_many(uint256)", 2))[2:].ljust(128, "0")
    # Calls the probe, which logs, and reverts.
    code = f"0x7f{note[:64]}5f527f{note[64:]}6020525f5f60245f5f73{to_hex(probe)[2:]}5af15f5ffd"
    options = {
        "tracer": "callTracer",
        "tracerConfig": {"withLog": True},
        "stateOverrides": {BOB: {"code": code}},
    }
    tree = call(chain, "debug_traceCall", {"to": BOB}, "latest", options)
    assert tree["error"] == "execution reverted"
    assert "error" not in tree["calls"][0]
    assert "logs" not in tree["calls"][0]


# State


def test_the_prestate_has_what_was_touched_as_it_was_before() -> None:
    chain = made_chain()
    probe = deploy(chain)
    alice = to_hex(chain.accounts[0].address)
    code = call(chain, "eth_getCode", to_hex(probe))
    acted(chain, probe, "note(uint256,uint256)", 1, 2)
    before = call(chain, "eth_getBalance", alice)
    name = acted(chain, probe, "note(uint256,uint256)", 1, 3)
    contract = {"balance": "0x0", "nonce": 1, "code": code, "storage": {word(0): word(2)}}
    assert traced(chain, name, "prestateTracer") == {
        alice: {"balance": before, "nonce": 2},
        to_hex(probe): contract,
    }
    bare = traced(chain, name, "prestateTracer", disableCode=True, disableStorage=True)
    assert bare[to_hex(probe)] == {"balance": "0x0", "nonce": 1}
    everyone = traced(chain, name, "prestateTracer", includeEmpty=True)
    assert everyone[ZERO] == {"balance": "0x0"}  # the coinbase
    assert traced(chain, name, "prestateTracer", diffMode=True) == {
        "pre": {alice: {"balance": before, "nonce": 2}, to_hex(probe): contract},
        "post": {alice: {"nonce": 3}, to_hex(probe): {"storage": {word(0): word(3)}}},
    }


@ENDS
def test_a_difference_leaves_out_zeros_and_what_did_not_exist() -> None:
    chain = made_chain()
    probe = deploy(chain)
    name = acted(chain, probe, "note(uint256,uint256)", 1, 2)
    diff = traced(chain, name, "prestateTracer", diffMode=True)
    assert "storage" not in diff["pre"][to_hex(probe)]
    deleted = acted(chain, probe, "note(uint256,uint256)", 1, 0)
    diff = traced(chain, deleted, "prestateTracer", diffMode=True)
    assert diff["pre"][to_hex(probe)]["storage"] == {word(0): word(2)}
    assert diff["post"][to_hex(probe)] == {}
    made = sent(chain, data=to_hex(compiled()[0]))
    diff = traced(chain, made, "prestateTracer", diffMode=True)
    address = receipt(chain, made)["contractAddress"]
    assert address not in diff["pre"]
    assert diff["post"][address]["nonce"] == 1
    gone = sent(chain, data="0x5fff", value="0x1")  # made and destroyed in one go
    diff = traced(chain, gone, "prestateTracer", diffMode=True)
    assert receipt(chain, gone)["contractAddress"] not in {**diff["pre"], **diff["post"]}
    assert diff["post"][ZERO]["balance"] == "0x1"


# Blocks and calls


def test_the_transactions_of_a_block_are_traced_each_on_what_the_others_left() -> None:
    chain = made_chain(automine=False)
    probe = deploy(chain)
    names = [acted(chain, probe, "note(uint256,uint256)", 1, value) for value in (2, 3, 4)]
    chain.mine()
    head = to_hex(chain.head.hash)
    traces = call(chain, "debug_traceBlockByNumber", "latest", {"tracer": "prestateTracer"})
    assert [trace["txHash"] for trace in traces] == names
    words = [trace["result"][to_hex(probe)]["storage"][word(0)] for trace in traces]
    assert words == [word(0), word(2), word(3)]
    for options in ({}, {"tracer": "callTracer"}):
        whole = call(chain, "debug_traceBlockByHash", head, options)
        assert whole == [
            {"txHash": name, "result": call(chain, "debug_traceTransaction", name, options)}
            for name in names
        ]
    chain.mine()
    assert call(chain, "debug_traceBlockByNumber", "latest") == []


def test_a_traced_call_changes_nothing_and_may_pretend() -> None:
    chain = made_chain()
    probe = to_hex(deploy(chain))
    request = {"to": probe, "data": to_hex(calldata("note(uint256,uint256)", 1, 2))}
    root = chain.head.state_root
    tree = call(chain, "debug_traceCall", request, "latest", {"tracer": "callTracer"})
    assert tree["gasUsed"] == call(chain, "eth_estimateGas", request)
    old = {"stateOverrides": {probe: {"stateDiff": {word(0): word(7)}}}}
    state = call(chain, "debug_traceCall", request, "latest", {"tracer": "prestateTracer", **old})
    assert state[probe]["storage"] == {word(0): word(7)}
    block = {"tracer": "callTracer", "blockOverrides": {"number": "0x99"}}
    around = {"to": probe, "data": to_hex(calldata("surroundings()"))}
    assert call(chain, "debug_traceCall", around, "latest", block)["output"][:66] == word(0x99)
    creation = {"data": to_hex(compiled()[0])}
    assert call(chain, "debug_traceCall", creation, "0x1", {"tracer": "callTracer"})["to"]
    assert chain.head.state_root == root


def test_a_trace_that_is_too_large_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = made_chain()
    name = acted(chain, deploy(chain), "note_many(uint256)", 100)
    monkeypatch.setattr(hooks.Budget, "__init__", lambda self: setattr(self, "_left", 50_000))
    for options in ({}, {"tracer": "callTracer", "tracerConfig": {"withLog": True}}):
        if options:
            monkeypatch.setattr(hooks.Budget, "__init__", lambda self: setattr(self, "_left", 500))
        error = refusal(chain, "debug_traceTransaction", name, options)
        assert error["code"] == -32005
        assert "limit, disableStack, onlyTopCall" in error["message"]
    # Nothing of it is left: the chain goes on.
    chain.mine()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tracer": "4byteTracer"}, "give one of callTracer, prestateTracer"),
        ({"tracer": "{step: function() {}}"}, "there is no such tracer"),
        ({"tracer": 5}, "there is no such tracer"),
        ({"enableMemory": "yes"}, "enableMemory: 'yes' is not true or false"),
        ({"limit": -1}, "limit:"),
        ({"tracerConfig": []}, "tracerConfig: [] is not an object"),
        ({"txIndex": "0x0"}, "txIndex is not served"),
        ([], "is not an object"),
    ],
)
def test_options_of_a_trace_that_make_no_sense_are_refused(options: object, text: str) -> None:
    error = refusal(made_chain(), "debug_traceCall", {}, "latest", options)
    assert error["code"] == -32602
    assert text in error["message"]


def test_what_is_not_mined_cannot_be_traced() -> None:
    chain = made_chain(automine=False)
    waiting = sent(chain, to=BOB)
    for name in (waiting, word(1)):
        error = refusal(chain, "debug_traceTransaction", name)
        assert error["code"] == -32000
        assert error["message"].startswith("transaction not found")
    assert refusal(chain, "debug_traceBlockByNumber", "earliest")["code"] == -32000
    assert refusal(chain, "debug_traceBlockByNumber", "0x99")["code"] == -32000
    assert refusal(chain, "debug_traceBlockByHash", word(1))["code"] == -32000


# Access lists


def test_an_access_list_names_what_a_call_touches_and_makes_it_cheaper_where_it_can() -> None:
    chain = made_chain()
    probe = deploy(chain)
    act(chain, probe, "note(uint256,uint256)", 1, 3)
    request = {"to": to_hex(probe), "data": to_hex(calldata("note(uint256,uint256)", 1, 2))}
    found = call(chain, "eth_createAccessList", request)
    listed = [{"address": to_hex(probe), "storageKeys": [word(0)]}]
    assert found == {"accessList": listed, "gasUsed": "0x76f6"}  # as anvil has it
    assert call(chain, "eth_estimateGas", {**request, "accessList": listed}) == found["gasUsed"]
    code = {BOB: {"code": "0x73" + "aa" * 20 + "3160043150"}}  # BALANCE of another, of a precompile
    found = call(chain, "eth_createAccessList", {"to": BOB}, "latest", code)
    assert found["accessList"] == [{"address": "0x" + "aa" * 20, "storageKeys": []}]
    creation = call(chain, "eth_createAccessList", {"data": to_hex(compiled()[0])})
    assert creation["accessList"] == []


def test_an_access_list_of_what_fails_says_so() -> None:
    chain = made_chain()
    request = {"to": to_hex(deploy(chain)), "data": to_hex(calldata("refuse()"))}
    found = call(chain, "eth_createAccessList", request)
    assert found["error"] == "execution reverted"
    assert found["accessList"] == []


def test_the_search_for_an_access_list_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = made_chain()
    # Looks at an account whose address is the gas that is left: every list changes it.
    code = {BOB: {"code": "0x5a31"}}
    monkeypatch.setattr(tracing, "ACCESS_LIST_TRIES_MAX", 3)
    found = call(chain, "eth_createAccessList", {"to": BOB}, "latest", code)
    assert len(found["accessList"]) == 1


def test_an_untraced_chain_mines_what_a_traced_one_does() -> None:
    """Tracing listens only: the same gas, and the state of the chain is what the block says."""
    chain = made_chain()
    probe = deploy(chain)
    for value in (5, 0, 5):
        name = to_hex(act(chain, probe, "note(uint256,uint256)", 1, value).transaction.hash)
        assert hex(traced(chain, name)["gas"]) == receipt(chain, name)["gasUsed"]
