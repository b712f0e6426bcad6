"""What the devnet's console binds: a chain at hand in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from web3 import Web3

from ..channels.client.deployment_file import read_deployment
from ..channels.deployment import Deployment
from ..channels.errors import LocalError
from ..channels.ids import address_to_hex
from ..contracts.artifacts import NAMES, load
from .asking import HASHES, HttpAsk
from .client import web3_at

DEFAULT_RECORD = Path("deployment.json")


class CommandFailed(LocalError):
    """Code that was given to the console raised an error."""

    code = "console-command-failed"


class OtherDeployment(LocalError):
    """The record is of contracts that are not on this chain."""

    code = "devnet-other-deployment"
    remedy = "deploy with `farthing devnet deploy`, or give the record of this chain"


class Workbench:
    """A connection with names bound to it; close it with its `with` block.

    Raises `OtherDeployment`, `MalformedDeployment`, `NoDevnet`.
    """

    def __init__(self, rpc_url: str, record: Path | None = None) -> None:
        with ExitStack() as stack:
            self._ask = stack.enter_context(HttpAsk(rpc_url))
            self.w3 = stack.enter_context(web3_at(rpc_url))
            self.deployment = self._read(record)
            self._open = stack.pop_all()
        self.names: Mapping[str, Any] = {
            "w3": self.w3,
            "ask": self._ask,
            "accounts": list(self.w3.eth.accounts),
            "deployment": self.deployment,
            "contracts": SimpleNamespace(**self._contracts()),
            "mine": self.mine,
            "warp": self.warp,
        }

    def __enter__(self) -> Self:
        """Work within the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._open.close()

    def _read(self, record: Path | None) -> Deployment | None:
        """The record that is given, or the usual one if it is there and of this chain."""
        if record is None and not DEFAULT_RECORD.exists():
            return None
        deployment = read_deployment(record or DEFAULT_RECORD)
        genesis = self._ask("eth_getBlockByNumber", "0x0", HASHES)["hash"]
        code = self._ask("eth_getCode", address_to_hex(deployment.payment_channels), "latest")
        if bytes.fromhex(genesis[2:]) != deployment.genesis_hash or not load(
            "payment_channels"
        ).runtime_matches(bytes.fromhex(code[2:])):
            raise OtherDeployment(
                f"{record or DEFAULT_RECORD} is of contracts that are not on this chain"
            )
        return deployment

    def _contracts(self) -> dict[str, Any]:
        if self.deployment is None:
            return {}
        return {
            name: self.w3.eth.contract(
                address=Web3.to_checksum_address(address_to_hex(getattr(self.deployment, name))),
                abi=load(name).abi,
            )
            for name in NAMES
        }

    def mine(self, count: int = 1) -> int:
        """Mine blocks; returns the newest block's number."""
        self._ask("anvil_mine", hex(count))
        return self.w3.eth.block_number

    def warp(self, seconds: int) -> int:
        """Move the clock forward and mine a block; returns its time."""
        self._ask("evm_increaseTime", hex(seconds))
        self._ask("evm_mine")
        return self.w3.eth.get_block("latest")["timestamp"]

    def banner(self) -> str:
        """What a person is told at the start."""
        contracts = "none: `farthing devnet deploy`, then open the console again"
        if self.deployment is not None:
            contracts = f"contracts.{', contracts.'.join(NAMES)}"
        return (
            f"chain {self.w3.eth.chain_id} at block {self.w3.eth.block_number}\n"
            f"w3          web3.py, connected\n"
            f"accounts    {len(self.names['accounts'])} addresses that the devnet signs for\n"
            f"contracts   {contracts}\n"
            "mine(n), warp(seconds), ask(method, ...)"
        )

    def run(self, command: str, *, as_json: bool) -> str | None:
        """Run code; the text of an expression's value, None for statements.

        Raises `CommandFailed` with what the code raised.
        """
        names = dict(self.names)
        try:
            try:
                compiled = compile(command, "<console>", "eval")
            except SyntaxError:
                exec(compile(command, "<console>", "exec"), names)  # noqa: S102 - the user's own code
                return json.dumps({"result": None}) if as_json else None
            value = eval(compiled, names)  # noqa: S307 - the user's own code
        except Exception as error:
            raise CommandFailed(f"{type(error).__name__}: {error}") from error
        if as_json:
            return str(Web3.to_json({"result": value}))
        return None if value is None else repr(value)
