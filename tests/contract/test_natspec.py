"""Everything that a contract offers is explained in it, as the compiler reads the explanation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vyper.ast import nodes
from vyper.ast.natspec import parse_natspec
from vyper.compiler import CompilerData
from vyper.compiler.input_bundle import FileInput, FilesystemInputBundle

import farthing.contracts
from farthing.contracts.artifacts import load

FOLDER = Path(farthing.contracts.__path__[0])
SOURCES = sorted(path.name for path in FOLDER.glob("*.vy"))


def module(name: str, source: str | None = None) -> Any:
    """The compiler's tree of a source, with types."""
    path = Path(name)
    contents = (FOLDER / name).read_text(encoding="utf-8") if source is None else source
    file = FileInput(contents=contents, source_id=-1, path=path, resolved_path=path)
    return CompilerData(file, FilesystemInputBundle([FOLDER])).annotated_vyper_module


def offered(tree: Any) -> Iterator[Any]:
    """External functions and the constructor."""
    for node in tree.get_children(nodes.FunctionDef):
        kind = node._metadata["func_type"]
        if kind.is_external or kind.is_constructor:
            yield node


def missing(tree: Any) -> list[str]:
    """What the file leaves unexplained."""
    found = []
    docs = parse_natspec(tree)
    contract = docs.userdoc | docs.devdoc
    found += [f"@{tag}" for tag in ("title", "license", "notice") if not contract.get(tag)]
    for node in offered(tree):
        # The compiler keys its output by signature and leaves constructors out; so each
        # explanation is read here by the name of its function.
        text = node.get("doc_string.value") or ""
        tags = [line.split()[:2] for line in text.splitlines() if line.strip().startswith("@")]
        if ["@notice"] not in [tag[:1] for tag in tags]:
            found.append(f"{node.name}: @notice")
        explained = [tag[1] for tag in tags if tag[0] == "@param"]
        for argument in node.args.args:
            if argument.arg not in explained:
                found.append(f"{node.name}: @param {argument.arg}")
        returns = node.returns.elements if isinstance(node.returns, nodes.Tuple) else [node.returns]
        count = 0 if node.returns is None else len(returns)
        if sum(tag[0] == "@return" for tag in tags) != count:
            found.append(f"{node.name}: {count} @return")
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_and_all_that_it_offers_is_explained(name: str) -> None:
    assert missing(module(name)) == []


def test_no_function_of_the_contract_escapes_the_test_above() -> None:
    names = {node.name for name in SOURCES for node in offered(module(name))}
    abi = [entry for entry in load("payment_channels").abi if entry["type"] == "function"]
    # Getters of constants, immutables and storage take no explanation: theirs stands where they
    # are declared.
    getters = {entry["name"] for entry in abi if entry["name"].upper() == entry["name"]}
    assert {entry["name"] for entry in abi} - getters - names == {"claimable", "next_sequence"}


def test_what_is_left_unexplained_is_found() -> None:
    source = '''# pragma version 0.4.3
"""
@title A
@license B
"""
@deploy
def __init__(first: uint256):
    pass

@external
def explained_in_part(one: uint256, two: uint256) -> (uint256, uint256):
    """
    @notice C
    @param one D
    @return E
    """
    return one, two
'''
    assert missing(module("other.vy", source)) == [
        "@notice",
        "__init__: @notice",
        "__init__: @param first",
        "explained_in_part: @param two",
        "explained_in_part: 2 @return",
    ]
