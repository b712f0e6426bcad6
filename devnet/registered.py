"""Whom a chain's allowlist must take, read from a deployment's registry."""

from __future__ import annotations

from ..channels.deployment import Deployment
from ..channels.ids import Address
from ..node.audit.chain import ChainReader
from ..node.audit.rpc import HttpRpc
from ..node.chain import MemberStatus


def members_to_admit(rpc_url: str, deployment: Deployment) -> tuple[Address, ...]:
    """Everybody that the registry holds and has not removed; raises `ChainError`.

    Suspended members and those whose time is over among them: they can always close and be paid.
    """
    with HttpRpc(rpc_url) as rpc:
        reader = ChainReader(rpc, deployment)
        reader.verify_chain()
        block = reader.pin()
        reader.verify_contracts(block)
        status = {event.account: event.status for event in reader.memberships(block)}
        reader.confirm(block)
    return tuple(sorted(a for a, held in status.items() if held != MemberStatus.REMOVED))
