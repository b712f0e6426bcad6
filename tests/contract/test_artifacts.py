"""The shipped artifacts are what the compiler gives, and deployed code is recognised by them."""

import hashlib
import json
from pathlib import Path

import pytest
from eth_utils.address import to_canonical_address

import farthing.contracts
from farthing.contracts import compile as compiler
from farthing.contracts.artifacts import NAMES, CodeDiffers, UnknownArtifact, load

from .city import City

FOLDER = Path(farthing.contracts.__path__[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_artifact_is_what_the_compiler_gives(name: str) -> None:
    source = (FOLDER / f"{name}.vy").read_text(encoding="utf-8")
    committed = (FOLDER / "artifacts" / f"{name}.json").read_text(encoding="utf-8")
    assert compiler.artifact_text(name, source) == committed


def test_each_source_belongs_to_an_artifact_that_has_its_hash() -> None:
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.vy")
    }
    found: dict[str, str] = {}
    for name in NAMES:
        assert f"{name}.vy" in load(name).sources_sha256
        found |= load(name).sources_sha256
    assert found == hashes


def test_a_change_of_an_imported_module_changes_the_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in FOLDER.glob("*.vy"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    source = (tmp_path / "payment_channels.vy").read_text(encoding="utf-8")
    before = json.loads(compiler.artifact_text("payment_channels", source))
    # Of all modules lanes.vy is imported most indirectly.
    (tmp_path / "lanes.vy").write_bytes((tmp_path / "lanes.vy").read_bytes() + b"# more\n")
    after = json.loads(compiler.artifact_text("payment_channels", source))
    changed = {name for name in before if before[name] != after[name]}
    # The compiler appends a checksum of all sources to the bytecode; the code itself stays.
    assert changed == {"sources_sha256", "bytecode"}
    assert before["sources_sha256"]["lanes.vy"] != after["sources_sha256"]["lanes.vy"]


def test_checking_fails_on_a_difference_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "artifacts").mkdir()
    name = "member_registry"
    (tmp_path / f"{name}.vy").write_text((FOLDER / f"{name}.vy").read_text(encoding="utf-8"))
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    monkeypatch.setattr(compiler, "NAMES", (name,))
    assert compiler.main(["--check"]) == 1
    assert "member_registry.json: differs" in capsys.readouterr().out
    assert not list((tmp_path / "artifacts").iterdir())
    assert compiler.main([]) == 0
    assert compiler.main(["--check"]) == 0


def test_deployed_code_matches_its_artifact_whatever_the_immutables(city: City) -> None:
    artifact = load("payment_channels")
    code = city.evm.code(city.channels.address)
    assert artifact.runtime_matches(code)
    words = artifact.immutables(code)
    assert words[12:32] == to_canonical_address(city.token.address)
    assert words[44:64] == to_canonical_address(city.registry.address)
    assert words[64:96] == city.channels.read("DEPLOYMENT")


@pytest.mark.parametrize("spoilt", ["missing", "shorter", "changed"])
def test_other_code_does_not_match(city: City, spoilt: str) -> None:
    code = city.evm.code(city.channels.address)
    code = {"missing": b"", "shorter": code[:-1], "changed": b"\x00" + code[1:]}[spoilt]
    artifact = load("payment_channels")
    assert not artifact.runtime_matches(code)
    with pytest.raises(CodeDiffers, match=r"not those of payment_channels"):
        artifact.immutables(code)


def test_another_compiler_or_evm_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(compiler.WrongPragma, match="pragma evm-version cancun"):
        compiler.artifact_text("other", "# pragma version 0.4.3\n# pragma evm-version paris\n")
    monkeypatch.setattr(compiler, "COMPILER", "0.4.4")
    with pytest.raises(compiler.WrongCompiler, match=r"vyper 0\.4\.3 is installed"):
        compiler.artifact_text("city_credit", "")


def test_an_unknown_artifact_is_named(city: City) -> None:
    with pytest.raises(UnknownArtifact, match=r"'receipt_log'.*city_credit"):
        load("receipt_log")
