"""Whether the chain holds every µ¢ that was minted, where the vouchers say that it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...channels.ids import Address, ChannelId, to_hex
from ...channels.state import ChainStatus, ChainView
from ...channels.terms import Side
from ...node.administration import Administrator
from ...node.chain import Web3Chain
from ...node.sender import connect
from ..accounts import development_signer
from ..city import MINTED_UCENT, REGISTRAR, City
from .compare import Sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Conservation:
    """What the chain says in the end, in µ¢, and what of it cannot be."""

    deposits_ucent: int
    withdrawals_ucent: int
    payouts_ucent: int
    locked_ucent: int
    problems: tuple[str, ...]

    @property
    def conserved(self) -> bool:
        """Whether deposits = withdrawals + payouts + locked, and each account has its share."""
        spent = self.withdrawals_ucent + self.payouts_ucent + self.locked_ucent
        return not self.problems and self.deposits_ucent == spent


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """What the chain says at one block: every channel, and who owns how many µ¢ of tokens."""

    views: Mapping[ChannelId, ChainView]
    wallets: Mapping[str, int]
    hub: int
    contract: int


def read_chain(city: City, hub_account: Address, held: Mapping[str, list[Sides]]) -> OnChain:
    """Read what the held channels came to; raises `ChainError`."""
    web3 = connect(city.rpc_url)
    chain = Web3Chain(web3, city.deployment, signer=development_signer(REGISTRAR))
    tokens = Administrator(web3, city.deployment, None)
    head = chain.head()
    return OnChain(
        views={
            sides.channel: chain.view(sides.channel, head)
            for channels in held.values()
            for sides in channels
        },
        wallets={name: tokens.balance_ucent(city.wallets[name].account) for name in held},
        hub=tokens.balance_ucent(hub_account),
        contract=tokens.balance_ucent(city.deployment.payment_channels),
    )


def judge(held: Mapping[str, list[Sides]], chain: OnChain) -> Conservation:
    """Compare deposits, totals and balances on the chain with both sides' vouchers.

    Payouts are read as what the accounts own: none of them had a token before.
    """
    problems: list[str] = []
    deposits = withdrawals = payouts = locked = payouts_to_hub = 0
    for name, channels in held.items():
        for sides in channels:
            view = chain.views[sides.channel]
            deposits += sum(view.deposit_ucent)
            withdrawals += sum(view.withdrawn_ucent)
            left = sum(view.deposit_ucent) - sum(view.withdrawn_ucent)
            earned, owned = _earned(sides), chain.wallets[name]
            if view.status is not ChainStatus.CLOSED:
                locked += left
                problems += _unsettled(name, sides, view.settled_ucent)
                continue
            payouts += left
            payouts_to_hub += left - earned
            if owned != earned:
                problems.append(f"{name} was paid {owned} µ¢, its vouchers say {earned} µ¢")
    if chain.contract != locked:
        problems.append(f"the contract owns {chain.contract} µ¢ and locks {locked} µ¢")
    left_to_hub = MINTED_UCENT - deposits + payouts_to_hub
    if chain.hub != left_to_hub:
        problems.append(f"the hub owns {chain.hub} µ¢ instead of {left_to_hub} µ¢")
    return Conservation(
        deposits_ucent=deposits,
        withdrawals_ucent=withdrawals,
        payouts_ucent=payouts,
        locked_ucent=locked,
        problems=tuple(problems),
    )


def _earned(sides: Sides) -> int:
    """What is the wallet's in the end, in µ¢: by the vouchers that it holds itself."""
    received, sent = sides.rewarded[1].total, sides.paid[0].total
    return received.transferred_ucent - sent.transferred_ucent


def _unsettled(name: str, sides: Sides, settled_ucent: tuple[int, int]) -> Iterator[str]:
    """A channel that was kept open is settled by both lanes' newest vouchers; the hub is A."""
    lanes = ((Side.A, sides.rewarded[1]), (Side.B, sides.paid[0]))
    for side, lane in lanes:
        if settled_ucent[side] != lane.total.transferred_ucent:
            yield (
                f"{name}'s channel {to_hex(sides.channel)} is settled to {settled_ucent[side]} µ¢,"
                f" the voucher of lane {side.name} says {lane.total.transferred_ucent} µ¢"
            )
