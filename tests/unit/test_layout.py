"""The layout that the import names, the type checkers and the wheel stand on stays as it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("channels", "cli", "contracts", "devnet", "node")
"""The product. Each is a sub-package of `farthing` through its link in .src/farthing."""

LINES_MAX = 550
"""A file is read in an evening: about 500 lines, and nobody splits one for the last ten."""

PRODUCT = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
CORE = [
    path
    for path in PRODUCT
    if path.is_relative_to(ROOT / "channels")
    and not path.is_relative_to(ROOT / "channels" / "client")
    and path != ROOT / "channels" / "signing.py"
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """(dots, module, line) of each import statement in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", node.lineno


def test_each_product_folder_has_one_relative_link_and_nothing_else_is_there() -> None:
    package = ROOT / ".src" / "farthing"
    links = {entry.name: entry for entry in package.iterdir() if entry.name != "__pycache__"}
    assert sorted(links) == sorted([*FOLDERS, "__init__.py", "py.typed"])
    for name, link in links.items():
        assert link.is_symlink(), f"{link} must be a symbolic link, not a copy"
        assert link.readlink() == Path("../..") / name


def test_the_top_level_holds_only_the_folders_agreed_on() -> None:
    with_python = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("[!.]*/**/*.py")}
    assert with_python == {*FOLDERS, "tests"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_with_python_in_it_is_a_package_so_that_the_wheel_has_it(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} needs an __init__.py"


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_product_code_imports_its_own_relatively(path: Path) -> None:
    for dots, module, line in imports(path):
        if dots == 0:
            top = module.partition(".")[0]
            assert top not in {"farthing", "tests", *FOLDERS}, (
                f"{name_of(path)}:{line} imports {module}: write it relatively"
            )


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_import_the_product_by_its_name(path: Path) -> None:
    depth = len(path.relative_to(ROOT / "tests").parts)
    for dots, module, line in imports(path):
        assert dots <= depth, f"{name_of(path)}:{line} reaches out of tests/: import farthing..."
        if dots == 0:
            assert module.partition(".")[0] not in FOLDERS, (
                f"{name_of(path)}:{line} imports {module}: write farthing.{module}"
            )


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_a_file_is_short_enough_for_an_evening(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX, f"{name_of(path)} has {lines} lines: split it by noun"


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_calls_no_builtin_that_does_input_or_output(path: Path) -> None:
    # import-linter keeps the modules out; these need no import.
    banned = {"open", "print", "input", "breakpoint", "eval", "exec", "__import__"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in banned, f"{name_of(path)}:{node.lineno} calls {node.func.id}"
