"""Every page: its links lead somewhere, and what it names in the code is there."""

import importlib
import re
from pathlib import Path

import pytest

from farthing.channels.client.submissions import WAITING_MAX
from farthing.channels.errors import FarthingError

from .pages import page, programs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
_ERROR = re.compile(r"^\| `([a-z_.]+)\.([A-Z]\w+)` \|", re.MULTILINE)


def anchors(markdown: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = (re.sub(r"[^\w\s-]", "", title.lower()) for title in _HEADING.findall(markdown))
    return {title.replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_of_a_page_leads_somewhere(path: Path) -> None:
    for link in _LINK.findall(path.read_text()):
        if re.match(r"[a-z]+://", link):
            continue
        name, _, anchor = link.partition("#")
        target = path if not name else (path.parent / name).resolve()
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{path.name}: {link}"


def test_the_errors_that_a_device_is_told_of_are_there() -> None:
    named = _ERROR.findall(page("devices.md"))
    assert len(named) >= 10
    for module, name in named:
        error = getattr(importlib.import_module(f"farthing.channels.{module}"), name)
        assert issubclass(error, FarthingError)
        assert error.code


def test_a_device_is_told_how_much_waits() -> None:
    assert page("devices.md").count(f"{WAITING_MAX:,}") == 2


def test_a_program_is_found_by_its_first_line_and_nothing_else_is_one() -> None:
    text = "```python\n# one.py\nprint(1)\n```\n\n```python\nprint(2)\n```\n```sh\n# two.py\n```\n"
    assert programs(text) == {"one.py": "# one.py\nprint(1)\n"}
