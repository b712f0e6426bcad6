"""The compiled contracts as they are shipped: their ABI and bytecode, without a compiler."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, ClassVar

from ..channels.errors import LocalError

NAMES = ("city_credit", "member_registry", "payment_channels")


class UnknownArtifact(LocalError):
    """No compiled contract of that name is shipped."""

    code: ClassVar[str] = "unknown-artifact"
    remedy: ClassVar[str] = f"use one of {', '.join(NAMES)}"

    def __init__(self, *, name: str) -> None:
        self.name = name
        super().__init__(f"no contract is called {name!r}")


class CodeDiffers(LocalError):
    """Code found on the chain is not that of the contract it was taken for."""

    code: ClassVar[str] = "code-differs"
    remedy: ClassVar[str] = "check the address, the chain and the version of farthing"

    def __init__(self, *, name: str, code_bytes: int) -> None:
        self.name = name
        self.code_bytes = code_bytes
        super().__init__(f"the {code_bytes} bytes of code are not those of {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One compiled contract.

    Vyper puts a contract's immutables behind its runtime code: what `eth_getCode` answers is
    `runtime_bytecode` and then `immutables_bytes` more bytes, which differ with each deployment.
    `sources_sha256` names each file it was compiled of, its own and the modules it imports.
    """

    name: str
    compiler: str
    evm_version: str
    sources_sha256: Mapping[str, str]
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    runtime_bytecode: bytes
    immutables_bytes: int

    def runtime_matches(self, code: bytes) -> bool:
        """Tell whether deployed code is this contract's, whatever its immutables are."""
        runtime = self.runtime_bytecode
        return len(code) == len(runtime) + self.immutables_bytes and code.startswith(runtime)

    def immutables(self, code: bytes) -> bytes:
        """Return the immutables of deployed code: one 32-byte word each, in order of declaration.

        Raises CodeDiffers where the code is not this contract's.
        """
        if not self.runtime_matches(code):
            raise CodeDiffers(name=self.name, code_bytes=len(code))
        return code[len(self.runtime_bytecode) :]


@cache
def load(name: str) -> Artifact:
    """Return a shipped contract by name; raises UnknownArtifact for any other name."""
    if name not in NAMES:
        raise UnknownArtifact(name=name)
    text = (resources.files(__package__) / "artifacts" / f"{name}.json").read_text(encoding="utf-8")
    fields: dict[str, Any] = json.loads(text)
    return Artifact(
        name=fields["name"],
        compiler=fields["compiler"],
        evm_version=fields["evm_version"],
        sources_sha256=MappingProxyType(fields["sources_sha256"]),
        abi=tuple(fields["abi"]),
        bytecode=bytes.fromhex(fields["bytecode"][2:]),
        runtime_bytecode=bytes.fromhex(fields["runtime_bytecode"][2:]),
        immutables_bytes=fields["immutables_bytes"],
    )
