"""Compiles the Vyper contracts into the artifacts that are committed and shipped.

Run `python -m farthing.contracts.compile` after a change of a contract, and with `--check` to learn
whether the artifacts are what the compiler gives. Needs the `dev` extra; nothing else imports this.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import ClassVar

import vyper
from vyper.compiler import CompilerData
from vyper.compiler.input_bundle import FileInput, FilesystemInputBundle
from vyper.compiler.output import build_abi_output

from ..channels.errors import LocalError
from .artifacts import NAMES

FOLDER = Path(__file__).resolve().parent
EVM_VERSION = "cancun"
COMPILER = "0.4.3"


class WrongCompiler(LocalError):
    """The installed Vyper is not the one whose bytecode is committed."""

    code: ClassVar[str] = "wrong-compiler"
    remedy: ClassVar[str] = f"install vyper=={COMPILER}"

    def __init__(self, *, found: str) -> None:
        self.found = found
        super().__init__(f"vyper {found} is installed")


class WrongPragma(LocalError):
    """A contract does not ask for the EVM version all of them are compiled for."""

    code: ClassVar[str] = "wrong-pragma"
    remedy: ClassVar[str] = f"write '# pragma evm-version {EVM_VERSION}' at its top"

    def __init__(self, *, name: str, found: str | None) -> None:
        self.name = name
        self.found = found
        super().__init__(f"{name}.vy asks for EVM version {found}")


def artifact_text(name: str, source: str) -> str:
    """Return the artifact of one contract as JSON text, byte for byte the same each time.

    Raises WrongCompiler, WrongPragma, or Vyper's own exception where the source does not
    compile.
    """
    if vyper.__version__ != COMPILER:
        raise WrongCompiler(found=vyper.__version__)
    path = Path(f"{name}.vy")
    data = CompilerData(
        FileInput(contents=source, source_id=-1, path=path, resolved_path=path),
        FilesystemInputBundle([FOLDER]),
    )
    if data.settings.evm_version != EVM_VERSION:
        raise WrongPragma(name=name, found=data.settings.evm_version)
    artifact = {
        "name": name,
        "compiler": COMPILER,
        "evm_version": EVM_VERSION,
        "sources_sha256": {
            file: hashlib.sha256(text.encode()).hexdigest()
            for file, text in {path.name: source, **_modules(data)}.items()
        },
        "abi": build_abi_output(data),
        "bytecode": "0x" + data.bytecode.hex(),
        "runtime_bytecode": "0x" + data.bytecode_runtime.hex(),
        "immutables_bytes": data.global_ctx.immutable_section_bytes,
    }
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def _modules(data: CompilerData) -> dict[str, str]:
    """Return the sources of all modules that a contract imports, directly or not, by file name."""
    return {
        file.path.name: file.contents
        for file in data.resolved_imports.compiler_inputs
        if file.path.suffix == ".vy"
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the artifacts, or with `--check` compare them; 0 fine, 1 an artifact differs."""
    parser = argparse.ArgumentParser(prog="python -m farthing.contracts.compile")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    check: bool = parser.parse_args(arguments).check
    differing = []
    for name in NAMES:
        text = artifact_text(name, (FOLDER / f"{name}.vy").read_text(encoding="utf-8"))
        path = FOLDER / "artifacts" / f"{name}.json"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differing.append(path.name)
        if not check:
            path.write_text(text, encoding="utf-8", newline="\n")
    verb = "differs from what the compiler gives" if check else "written"
    sys.stdout.write("".join(f"{name}: {verb}\n" for name in differing))
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
