"""Whether a channel that the hub announces is one to sign and accept money on (rule 8).

Rule: pure; what the chain says is an argument, read by this wallet itself at a confirmed block.
"""

from __future__ import annotations

from ..ids import Address, ChannelId, address_to_hex
from ..messages import ChannelTerms
from ..state import ChainStatus, ChainView, Channel
from ..terms import Side, Terms, UnsafeTerms
from .folder import Settings


class NotConfirmed(UnsafeTerms):
    """The chain that we read does not know the channel, or not yet."""

    code = "not-confirmed"
    remedy = "wait for the next block; if it stays so, hub and wallet look at different chains"
    retryable = True


def terms_of(message: ChannelTerms) -> Terms:
    """The announced terms as a checked record; raises `UnsafeTerms`."""
    return Terms(
        account_a=message.account_a,
        signer_a=message.signer_a,
        account_b=message.account_b,
        signer_b=message.signer_b,
        challenge_seconds=message.challenge_seconds,
        challenge_blocks=message.challenge_blocks,
        sequence=message.sequence,
    )


def check_terms(terms: Terms, settings: Settings, signer: Address) -> ChannelId:
    """Check terms against ourselves, the hub and our policy; the id they imply here.

    The id binds chain id, contract and deployment, so a confirmed channel under that id proves
    that the contract knows exactly these terms. Raises `UnsafeTerms`.
    """
    for what, named, ours in (
        ("our signer", terms.signer_b, signer),
        ("our account", terms.account_b, settings.account),
        ("the hub's signer", terms.signer_a, settings.hub_signer),
    ):
        if named != ours:
            raise UnsafeTerms(
                f"the terms name {address_to_hex(named)} as {what}, which is {address_to_hex(ours)}"
            )
    policy = settings.policy
    for what, value, low, high in (
        ("s", terms.challenge_seconds, policy.challenge_seconds_min, policy.challenge_seconds_max),
        (
            "blocks",
            terms.challenge_blocks,
            policy.challenge_blocks_min,
            policy.challenge_blocks_max,
        ),
    ):
        if not low <= value <= high:
            raise UnsafeTerms(
                f"the challenge window of {value} {what} is outside this wallet's policy,"
                f" {low} to {high}",
                remedy="ask the hub for another window, or change the policy in wallet.json",
            )
    return settings.deployment.channel_id(terms)


def adopt(terms: Terms, settings: Settings, signer: Address, view: ChainView) -> Channel:
    """The channel to hold, seen as confirmed; raises `UnsafeTerms`, `NotConfirmed`."""
    channel = check_terms(terms, settings, signer)
    if view.status is ChainStatus.NEVER:
        raise NotConfirmed(f"the chain knows no channel 0x{channel.hex()} at block {view.block}")
    if view.status is ChainStatus.CLOSED:
        raise UnsafeTerms(f"channel 0x{channel.hex()} is closed already")
    return Channel(id=channel, terms=terms, side=Side.B)
