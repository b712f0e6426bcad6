"""The committed vectors are what their generators write today, and nothing of ours made them."""

import ast
from pathlib import Path

import pytest

from .forms import FOLDER
from .make_all import FILES

FOLDER_OF_MAKERS = Path(__file__).parent
MAKERS = [*sorted(FOLDER_OF_MAKERS.glob("make_*.py")), FOLDER_OF_MAKERS / "wire_plain.py"]


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_what_its_generator_writes(name: str) -> None:
    assert FILES[name]() == (FOLDER / name).read_text(encoding="utf-8")


def test_every_file_has_a_generator_and_a_place_in_the_index() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(FILES)
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in FILES:
        assert f"## {name}" in index


@pytest.mark.parametrize("path", MAKERS, ids=lambda path: path.name)
def test_no_maker_imports_our_own_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            assert node.level <= 1
        assert not any(name.split(".")[0] == "farthing" for name in names)
