"""Makes the mutants of a module: its source with one small mistake each, as a person might make it.

Rule: a mutant has a name that does not depend on its line, so that results stay good while other
parts of the file change. Not mutated: annotations, decorators, docstrings and texts for people.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_PARTED = {"replace", "Step", "Error", "frozenset"}
"""Calls whose arguments may be left out: what is not said keeps an old or an empty value."""
_PROSE = {"remedy", "kind", "text", "what_to_do"}
"""Names of arguments and attributes that hold sentences for people."""

Edit = tuple[ast.expr | ast.stmt, str, str]
"""What is replaced, the kind of mistake, and the new text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake: where it stands and the whole source with it."""

    name: str
    function: str
    line: int
    end_line: int
    kind: str
    before: str
    after: str
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines; none of them equals the source."""
    tree = ast.parse(source)
    raw = source.encode()
    starts = [0]
    for text in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    mutants: list[Mutant] = []
    seen: Counter[tuple[str, ...]] = Counter()
    for function, (node, kind, after) in _walk(tree, ""):
        line, end_line = node.lineno, node.end_lineno or node.lineno
        start = starts[line - 1] + node.col_offset
        end = starts[end_line - 1] + (node.end_col_offset or 0)
        before = raw[start:end].decode()
        padding = "\n" * before.count("\n") if isinstance(node, ast.stmt) else ""
        mutated = raw[:start] + (after + padding).encode() + raw[end:]
        key = (function, kind, " ".join(before.split()), after)
        seen[key] += 1
        digest = hashlib.sha256(repr((*key, seen[key])).encode()).hexdigest()[:10]
        mutants.append(
            Mutant(
                name=digest,
                function=function or "(module)",
                line=line,
                end_line=end_line,
                kind=kind,
                before=" ".join(before.split()),
                after=after,
                source=mutated.decode(),
            )
        )
    return mutants


def _walk(node: ast.AST, function: str) -> Iterator[tuple[str, Edit]]:
    """Every edit below a node with the name of the function that it stands in."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}" if function else node.name
    for edit in _edits(node):
        yield function, edit
    for child in _children(node):
        yield from _walk(child, function)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        if isinstance(node, ast.AnnAssign) and _is_alias(node):
            continue
        if isinstance(node, ast.Call) and name == "keywords":
            yield from (word for word in node.keywords if word.arg not in _PROSE)
            continue
        if isinstance(value, ast.AST):
            yield value
        elif isinstance(value, list):
            yield from (child for child in value if isinstance(child, ast.AST))


def _is_alias(node: ast.AnnAssign) -> bool:
    return isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias"


def _edits(node: ast.AST) -> Iterator[Edit]:
    """The mistakes that can be made at this very node."""
    if isinstance(node, ast.expr):
        for kind, changed in _expressions(node):
            yield node, kind, f"({ast.unparse(changed)})"
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(
        node.test, ast.Compare | ast.BoolOp | ast.UnaryOp
    ):
        yield node.test, "condition negated", f"(not ({ast.unparse(node.test)}))"
    if isinstance(node, ast.stmt):
        yield from _statements(node)


def _expressions(  # noqa: C901 - one branch a kind of node
    node: ast.expr,
) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Compare):
        for index, found in enumerate(node.ops):
            for other in _COMPARED[type(found)]:
                changed = copy.deepcopy(node)
                changed.ops[index] = other()
                yield "comparison", changed
    elif isinstance(node, ast.BinOp) and not isinstance(node.left, ast.JoinedStr):
        yield "arithmetic", ast.BinOp(node.left, _CALCULATED[type(node.op)](), node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "sign dropped", node.operand
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", ast.BoolOp(other_op, node.values)
        for index in range(len(node.values)):
            rest = node.values[:index] + node.values[index + 1 :]
            left = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
            yield "condition dropped", left
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Tuple | ast.Set | ast.List) and isinstance(
        getattr(node, "ctx", ast.Load()), ast.Load
    ):
        yield from _parts(node)
    elif isinstance(node, ast.Dict):
        for index in range(len(node.keys)):
            changed_dict = copy.copy(node)
            changed_dict.keys = node.keys[:index] + node.keys[index + 1 :]
            changed_dict.values = node.values[:index] + node.values[index + 1 :]
            yield "entry dropped", changed_dict


def _constants(node: ast.Constant) -> Iterator[tuple[str, ast.expr]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, bytes):
        yield "constant", ast.Constant(value[:-1] + bytes([value[-1] ^ 1]) if value else b"\1")


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    called = node.func.id if isinstance(node.func, ast.Name) else ""
    if called in _CALLED:
        yield "call", ast.Call(ast.Name(_CALLED[called]), node.args, node.keywords)
    if called in _PARTED:
        for index, word in enumerate(node.keywords):
            if word.arg not in _PROSE:
                rest = node.keywords[:index] + node.keywords[index + 1 :]
                yield "argument dropped", ast.Call(node.func, node.args, rest)


def _parts(node: ast.Tuple | ast.Set | ast.List) -> Iterator[tuple[str, ast.expr]]:
    if len(node.elts) == 1 and isinstance(node, ast.Set):
        return  # {} would be a dictionary
    for index in range(len(node.elts)):
        changed = copy.copy(node)
        changed.elts = node.elts[:index] + node.elts[index + 1 :]
        yield "element dropped", changed


def _statements(node: ast.stmt) -> Iterator[Edit]:
    if isinstance(node, ast.Return) and not _is_none(node.value):
        yield node, "return nothing", "return None"
    elif isinstance(node, ast.Continue | ast.Break):
        yield node, "jump", "continue" if isinstance(node, ast.Break) else "break"
    elif isinstance(node, ast.Raise | ast.AugAssign) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ):
        yield node, "statement dropped", "pass"
    elif isinstance(node, ast.Assign) and _is_code(node):
        yield node.value, "code changed", '"another"'
    elif isinstance(node, ast.Delete) or (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    ):
        yield node, "statement dropped", "pass"


def _is_code(node: ast.Assign) -> bool:
    """Whether this gives an error the code by which programs know it."""
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "code"


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)
