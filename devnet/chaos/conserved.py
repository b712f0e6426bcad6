"""Whether the chain holds every µ¢ that was minted, where the vouchers say that it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...channels.ids import Address, to_hex
from ...channels.state import ChainStatus
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


def check_conservation(
    city: City, hub_account: Address, held: Mapping[str, list[Sides]]
) -> Conservation:
    """Compare deposits, totals and balances on the chain with both sides' vouchers.

    Payouts are read as what the accounts own: none of them had a token before. Raises `ChainError`.
    """
    web3 = connect(city.rpc_url)
    chain = Web3Chain(web3, city.deployment, signer=development_signer(REGISTRAR))
    tokens = Administrator(web3, city.deployment, None)
    head = chain.head()
    problems: list[str] = []
    deposits = withdrawals = payouts = locked = payouts_to_hub = 0
    for name, channels in held.items():
        account = city.wallets[name].account
        for sides in channels:
            view = chain.view(sides.channel, head)
            deposits += sum(view.deposit_ucent)
            withdrawals += sum(view.withdrawn_ucent)
            left = sum(view.deposit_ucent) - sum(view.withdrawn_ucent)
            earned = _earned(sides)
            if view.status is ChainStatus.CLOSED:
                payouts += left
                payouts_to_hub += left - earned
                owned = tokens.balance_ucent(account)
                if owned != earned:
                    problems.append(f"{name} was paid {owned} µ¢, its vouchers say {earned} µ¢")
            else:
                locked += left
                problems += _unsettled(name, sides, view.settled_ucent)
    in_contract = tokens.balance_ucent(city.deployment.payment_channels)
    if in_contract != locked:
        problems.append(f"the contract owns {in_contract} µ¢ and locks {locked} µ¢")
    of_hub = tokens.balance_ucent(hub_account)
    if of_hub != MINTED_UCENT - deposits + payouts_to_hub:
        left_to_hub = MINTED_UCENT - deposits + payouts_to_hub
        problems.append(f"the hub owns {of_hub} µ¢ instead of {left_to_hub} µ¢")
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
