"""Puts an audit together: read the chain and the receipts, then judge them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...channels.deployment import Deployment
from ...channels.errors import FarthingError
from .chain import ChainReader
from .errors import UnreadableFile
from .judge import judge
from .receipts import read_receipts
from .report import Inconclusive, Report
from .rpc import HttpRpc, Rpc


def check(
    *, rpc_url: str, deployment: Path, receipts: Sequence[Path], block: int | None = None
) -> Report | Inconclusive:
    """Audit a deployment at a block, the newest by default; what stops it is the outcome too."""
    try:
        record = Deployment.from_json(record_text(deployment))
        with HttpRpc(rpc_url) as rpc:
            return audit(rpc, record, receipts, block)
    except FarthingError as error:
        return Inconclusive.because(error)


def audit(
    rpc: Rpc, deployment: Deployment, receipts: Sequence[Path], block: int | None = None
) -> Report:
    """Read everything and judge it; raises what makes it inconclusive (`errors.py`)."""
    reader = ChainReader(rpc, deployment)
    reader.verify_chain()
    pinned = reader.pin(block)
    reader.verify_contracts(pinned)
    told = read_receipts(receipts)
    return judge(reader.read(pinned, told.blocks), told)


def record_text(path: Path) -> str:
    """Read a deployment record's text; raises `UnreadableFile`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableFile(f"the deployment record {path} cannot be read ({reason})") from None
    except UnicodeDecodeError:
        raise UnreadableFile(f"the deployment record {path} is not UTF-8 text") from None
