"""A channel's whole life, and the identity it has on-chain."""

from eth_abi.abi import encode
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from .city import CENT, ZERO32, City, OpenRow, alice, alice_signer, bob, hub, hub_signer
from .evm import CHAIN_ID


def test_a_channel_opens_pays_both_ways_and_closes_by_agreement(city: City) -> None:
    hub_before = city.balance(hub.address)
    terms = city.open(deposit=100 * CENT)
    city.channels.send(bob, "deposit", terms, alice.address, 5 * CENT)
    city.settled(hub, city.voucher(terms, 0, 30 * CENT), city.voucher(terms, 1, 7 * CENT))
    expires = city.evm.time
    message = {"channel": city.channel(terms), "account": alice.address, "total": 20 * CENT}
    signed = city.signatures("Withdrawal", {**message, "expires": expires})
    city.channels.send(bob, "withdraw", terms, alice.address, 20 * CENT, expires, *signed)
    assert city.balance(alice.address) == 20 * CENT
    assert city.state(terms) == (1, 30 * CENT, 100 * CENT, 0, 7 * CENT, 5 * CENT, 20 * CENT, 0, 0)

    totals = {"transferredA": 31 * CENT, "transferredB": 7 * CENT, "expires": expires}
    signed = city.signatures("Close", {"channel": city.channel(terms), **totals})
    arguments = (terms, 31 * CENT, 7 * CENT, expires, *signed)
    [closed] = city.channels.send(bob, "close", *arguments).named("Closed")
    assert (closed["payout_a"], closed["payout_b"]) == (76 * CENT, 9 * CENT)
    assert closed["cooperative"] is True
    assert city.balance(alice.address) == 29 * CENT
    assert city.balance(hub.address) == hub_before - 24 * CENT
    assert city.balance(city.channels.address) == 0
    assert city.state(terms).status == 3


def test_a_channel_closes_through_its_window_by_what_was_settled_in_it(city: City) -> None:
    terms = city.open(deposit=100 * CENT, challenge_seconds=600, challenge_blocks=10)
    started = city.channels.send(alice_signer, "start_close", terms, 0, b"")
    assert started.named("CloseStarted") == [
        {
            "channel": city.channel(terms),
            "by": alice_signer.address,
            "deadline_seconds": city.evm.time + 600,
            "deadline_block": city.evm.block + 10,
        }
    ]
    city.settled(bob, city.voucher(terms, 0, 40 * CENT))
    city.evm.pass_time(seconds=601, blocks=11)
    [closed] = city.channels.send(bob, "finish_close", terms).named("Closed")
    assert (closed["payout_a"], closed["payout_b"]) == (60 * CENT, 40 * CENT)
    assert closed["cooperative"] is False
    assert city.balance(alice.address) == 40 * CENT
    assert city.state(terms)[-2:] == (0, 0)


def test_a_hub_opens_many_channels_in_one_call_and_gets_their_terms_from_events(city: City) -> None:
    first = city.channels.read("next_sequence")
    rows = [
        OpenRow(hub.address, hub_signer.address, person.address, person.address, deposit=deposit)
        for person, deposit in ((alice, 3 * CENT), (bob, 0))
    ]
    terms = city.opened(city.channels.send(hub, "open_many", rows))
    assert [each.sequence for each in terms] == [first, first + 1]
    assert [city.state(each).deposit_a for each in terms] == [3 * CENT, 0]
    assert city.balance(city.channels.address) == 3 * CENT


def test_a_channel_id_is_the_hash_of_ten_words(city: City) -> None:
    terms = city.open()
    types = ["uint256", "address", "bytes32", *["address"] * 4, *["uint64"] * 3]
    deployment = city.channels.read("DEPLOYMENT")
    words = encode(types, [CHAIN_ID, city.channels.address, deployment, *terms])
    assert len(words) == 10 * 32
    assert city.channel(terms) == keccak(words)


def test_the_deployment_is_the_hash_of_parent_block_and_time(city: City) -> None:
    parent = keccak(text=f"block {city.evm.block - 1}")
    words = encode(["bytes32", "uint256"], [parent, city.evm.time])
    assert city.channels.read("DEPLOYMENT") == keccak(words)


def test_the_domain_is_the_one_eth_account_signs_and_follows_the_chain_id(city: City) -> None:
    for chain_id in (CHAIN_ID, 1):
        city.evm.chain_id = chain_id
        city.evm.pass_time()
        data = city.typed_data("StartClose", {"channel": ZERO32, "expires": 0})
        assert city.channels.read("domain_separator") == encode_typed_data(full_message=data).header
