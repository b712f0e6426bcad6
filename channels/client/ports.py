"""What a wallet needs of the chain, as ports: one for reading, one for its few transactions."""

from __future__ import annotations

from typing import Protocol

from ..ids import Address, ChannelId
from ..state import ChainView, Settlement, SignedClose, Withdrawal
from ..terms import Terms
from ..voucher import Voucher
from .abi import SettleRow
from .chain import Head
from .transaction import ContractCalls, TransactionSender


class ChainPort(Protocol):
    """Reads one deployment at confirmed blocks; every method raises `ChainError`."""

    async def check_identity(self) -> None:
        """Check that chain, genesis block and contracts are those of the deployment record."""

    async def head(self) -> Head:
        """The newest confirmed block."""

    async def block_hash(self, number: int) -> bytes:
        """The hash of the block of that number."""

    async def channel_state(self, channel: ChannelId, head: Head) -> ChainView:
        """What the contract says of a channel at that block; amounts in µ¢."""

    async def closed_totals(
        self, channel: ChannelId, first_block: int, last_block: int
    ) -> tuple[int, int] | None:
        """The totals, in µ¢, by which one of these blocks closed the channel; None if none did."""

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        """By which payments these blocks settled a payer's lane, oldest first."""

    async def balance_of(self, account: Address, block: int) -> int:
        """µ¢ of tokens that the account holds outside channels."""

    async def claimable(self, account: Address, block: int) -> int:
        """µ¢ of refused payouts that wait for the account's `claim`."""


class TransactionPort(Protocol):
    """Sends the wallet's transactions and waits until each is confirmed; raises `ChainError`."""

    async def settle(self, terms: Terms, voucher: Voucher) -> None:
        """Raise the lane of the voucher's payer to the voucher's total."""

    async def close(self, terms: Terms, close: SignedClose, *, ours_is_a: bool) -> None:
        """End a channel at once by a close that both signers signed."""

    async def withdraw(self, terms: Terms, withdrawal: Withdrawal, *, ours_is_a: bool) -> None:
        """Pay an account out of its open channel by a withdrawal that both signers signed."""

    async def claim(self, account: Address) -> None:
        """Pay the account what the contract could not pay out before."""

    async def start_close(self, terms: Terms) -> None:
        """Start the challenge window."""

    async def finish_close(self, terms: Terms) -> None:
        """End a channel whose window has passed."""


class SignerTransactions:
    """The transaction port over a `TransactionSender`: the wallet's signer pays the gas, if any."""

    def __init__(self, sender: TransactionSender, calls: ContractCalls) -> None:
        self._sender = sender
        self._calls = calls

    async def settle(self, terms: Terms, voucher: Voucher) -> None:
        """Raise the lane of the voucher's payer to the voucher's total."""
        await self._sender.execute(self._calls.settle([SettleRow(terms=terms, voucher=voucher)]))

    async def close(self, terms: Terms, close: SignedClose, *, ours_is_a: bool) -> None:
        """End a channel at once by a close that both signers signed; raises `ValueError`."""
        if close.theirs is None:
            raise ValueError("a close that only one side signed cannot be submitted")
        first, second = (close.ours, close.theirs) if ours_is_a else (close.theirs, close.ours)
        await self._sender.execute(
            self._calls.close(terms, close.terms, signature_a=first, signature_b=second)
        )

    async def withdraw(self, terms: Terms, withdrawal: Withdrawal, *, ours_is_a: bool) -> None:
        """Pay an account out of its channel by both signatures; raises `ValueError`."""
        if withdrawal.ours is None or withdrawal.theirs is None:
            raise ValueError("a withdrawal that only one side signed cannot be submitted")
        ours, theirs = withdrawal.ours, withdrawal.theirs
        first, second = (ours, theirs) if ours_is_a else (theirs, ours)
        await self._sender.execute(
            self._calls.withdraw(terms, withdrawal.terms, signature_a=first, signature_b=second)
        )

    async def claim(self, account: Address) -> None:
        """Pay the account what the contract could not pay out before."""
        await self._sender.execute(self._calls.claim(account))

    async def start_close(self, terms: Terms) -> None:
        """Start the challenge window; our signer is a party, so no signature is needed."""
        await self._sender.execute(self._calls.start_close(terms))

    async def finish_close(self, terms: Terms) -> None:
        """End a channel whose window has passed."""
        await self._sender.execute(self._calls.finish_close(terms))
