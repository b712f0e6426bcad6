"""What must hold of two honest cores, at every moment and once everything has settled down."""

from farthing.channels.client.ledger import RECEIVED, SENT

from .cores import World


def agree(world: World) -> None:
    """Both hold the same lanes, everything is acknowledged, nobody owns less than nothing."""
    for payer, payee in (world.parties, world.parties[::-1]):
        assert payer.state.sent.quiet
        assert payer.state.withdrawals == (None, None)
        assert payer.state.sent.total == payee.state.received.total
        assert payer.durable.payments[SENT] == payee.durable.payments[RECEIVED]
        assert payer.state.our_balance_ucent() >= 0
        # All of it was told.
        assert set(payee.told) == set(range(1, payee.state.received.total.nonce + 1))
        assert payee.state.untold_from is None
    total = sum(world.view.deposit_ucent) - sum(world.view.withdrawn_ucent)
    assert sum(party.state.our_balance_ucent() for party in world.parties) == total


def sound(world: World) -> None:
    """What holds at every moment, under way or not."""
    for payer, payee in (world.parties, world.parties[::-1]):
        sent, received = payer.durable.payments[SENT], payee.durable.payments[RECEIVED]
        # A payee holds only what its payer has stored, each payment once and in order.
        assert received == sent[: len(received)]
        assert [one.total.nonce for one in sent] == list(range(1, len(sent) + 1))
        counted = sum(one.payment.amount_ucent for one in received)
        kept = payee.durable.load().received.total
        assert (kept.nonce, kept.transferred_ucent) == (len(received), counted)
        # Acknowledged is durable at the payee, and told once.
        assert payer.state.sent.acknowledged_nonce <= len(received)
        assert payee.told == sorted(set(payee.told))
        assert payee.told[-1:] <= [len(received)]
        assert payee.durable.load().told_nonce == len(payee.told)
        # Nobody promises, and nobody accepts, more than the payer owns.
        assert payer.state.our_balance_ucent() >= 0
        assert payee.state.peer_balance_ucent(kept.transferred_ucent) >= 0
    assert all(party.state.stopped is None for party in world.parties)
    assert sum(world.view.withdrawn_ucent) <= sum(world.view.deposit_ucent)


def peaceful(world: World) -> None:
    """On a wire that keeps order nobody gives the other a reason to hang up."""
    assert (world.quarrels, world.hang_ups) == ([], 0)
