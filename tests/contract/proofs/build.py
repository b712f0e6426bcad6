"""Compiles the proofs with the contracts' own modules into the artifacts that halmos reads.

halmos asks `forge build` for Solidity's; the file `forge` beside this one calls this instead.
"""

import json
import sys
from pathlib import Path

from vyper.compiler import CompilerData
from vyper.compiler.input_bundle import FileInput, FilesystemInputBundle
from vyper.compiler.output import build_abi_output, build_method_identifiers_output

HERE = Path(__file__).resolve().parent
CONTRACTS = HERE.parents[2] / "contracts"


def compiled(path: Path, contracts: Path = CONTRACTS) -> CompilerData:
    """The proof with the contracts of that folder, which are ours unless a control is built."""
    source = path.read_text(encoding="utf-8")
    if "TOKEN_CODE" in source:  # a contract that deploys the token carries its code
        token = compiled(HERE / "proof_token.vy").bytecode
        source = source.replace("TOKEN_BYTES", str(len(token))).replace("TOKEN_CODE", token.hex())
    return CompilerData(
        FileInput(contents=source, source_id=-1, path=Path(path.name), resolved_path=path),
        FilesystemInputBundle([contracts]),
    )


def artifact(path: Path, contracts: Path) -> dict[str, object]:
    """What halmos reads of one contract."""
    data = compiled(path, contracts)
    methods = build_method_identifiers_output(data)
    name = path.stem
    return {
        "abi": build_abi_output(data),
        "bytecode": {"object": "0x" + data.bytecode.hex(), "linkReferences": {}},
        "deployedBytecode": {"object": "0x" + data.bytecode_runtime.hex(), "linkReferences": {}},
        "methodIdentifiers": {sig: f"{int(number, 16):08x}" for sig, number in methods.items()},
        "metadata": {"compiler": {"version": "0.4.3"}},
        "ast": {
            "absolutePath": path.name,
            "nodes": [{"nodeType": "ContractDefinition", "name": name, "contractKind": "contract"}],
        },
    }


def main(out: Path, contracts: Path) -> None:
    """Write the artifact of every proof."""
    for path in sorted(HERE.glob("*_proof.vy")):
        folder = out / f"{path.stem}.sol"  # halmos looks into folders of this name only
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(artifact(path, contracts))
        (folder / f"{path.stem}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else CONTRACTS)
