"""Who is in a deployment's registry, and whom a chain's allowlist must take."""

from __future__ import annotations

from dataclasses import dataclass

from ..channels.deployment import Deployment
from ..channels.ids import Address
from ..contracts.members import MemberStatus
from ..node.administration import Role
from ..node.audit.chain import ChainReader
from ..node.audit.rpc import HttpRpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the registry holds of somebody, since the block of the last change."""

    account: Address
    role: Role
    status: MemberStatus
    valid_until: int
    block: int


def members_of(rpc_url: str, deployment: Deployment) -> tuple[Held, ...]:
    """Everybody that the registry has ever held, by role and address; raises `ChainError`."""
    with HttpRpc(rpc_url) as rpc:
        reader = ChainReader(rpc, deployment)
        reader.verify_chain()
        block = reader.pin()
        reader.verify_contracts(block)
        newest = {
            event.account: Held(
                account=event.account,
                role=Role(event.role),
                status=MemberStatus(event.status),
                valid_until=event.valid_until,
                block=event.block,
            )
            for event in reader.memberships(block)
        }
        reader.confirm(block)
    return tuple(sorted(newest.values(), key=lambda held: (held.role, held.account)))


def members_to_admit(rpc_url: str, deployment: Deployment) -> tuple[Address, ...]:
    """Everybody that the registry holds and has not removed; raises `ChainError`.

    Suspended members and those whose time is over among them: they can always close and be paid.
    """
    held = members_of(rpc_url, deployment)
    return tuple(sorted(each.account for each in held if each.status != MemberStatus.REMOVED))
