"""The wheel and the sdist hold every file of the product and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("channels", "cli", "contracts", "devnet", "node")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy: building in place would find what an earlier build left in build/."""
    copy = tmp_path_factory.mktemp("source")
    for name in (*FOLDERS, ".src"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=LEFT_OUT)
    for name in ("__init__.py", "py.typed", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """The folder with the sdist and the wheel that was built from that sdist."""
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return source / "dist"


def product(source: Path) -> set[str]:
    files = {"farthing/__init__.py", "farthing/py.typed"}
    for folder in FOLDERS:
        for path in (source / folder).rglob("*"):
            if path.is_file():
                files.add(f"farthing/{path.relative_to(source).as_posix()}")
    return files


def test_the_wheel_holds_each_file_of_the_product(source: Path, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == product(source), "see [tool.setuptools.package-data] for files that are no code"


def test_the_wheel_says_its_licences_and_whose_data_it_carries(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        licences = {
            name.partition("/licenses/")[2] for name in archive.namelist() if "/licenses/" in name
        }
    assert licences == {"LICENSE", "NOTICE", "devnet/data/LICENSE-river-BSD-3-Clause.txt"}


def test_the_sdist_holds_files_where_the_repository_has_links(source: Path, built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert not any(member.issym() or member.islnk() for member in members)
    files = {member.name.partition("/.src/")[2] for member in members if member.isfile()}
    assert product(source) <= files
