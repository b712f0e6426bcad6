"""The wallet's two ports to the chain, over the endpoint of its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..signing import Signer
from .chain import ChainReader
from .folder import Folder, Settings
from .outbox import KEEP_BLOCKS, Outbox
from .ports import ChainPort, SignerTransactions, TransactionPort
from .rpc import RpcClient
from .transaction import ContractCalls, TransactionSender


@asynccontextmanager
async def open_endpoint(
    folder: Folder,
    settings: Settings,
    signer: Signer,
    chain: ChainPort | None,
    transactions: TransactionPort | None,
) -> AsyncIterator[tuple[ChainPort, TransactionPort, TransactionSender | None]]:
    """The ports as given; those that are not are made while the block lasts, with their sender.

    Raises `OutboxUnusable`.
    """
    if chain is not None and transactions is not None:
        yield chain, transactions, None
        return
    confirmations = settings.policy.confirmations
    outbox = Outbox(folder.outbox, keep_blocks=max(confirmations, KEEP_BLOCKS))
    async with RpcClient(settings.rpc_url) as rpc:
        reader = ChainReader(rpc, settings.deployment, confirmations=confirmations)
        sender = TransactionSender(reader, signer, outbox=outbox)
        sending = SignerTransactions(sender, ContractCalls(settings.deployment))
        yield chain or reader, transactions or sending, sender
