"""Our Python and the contract give a channel the id that eth-abi gives it."""

from typing import Any

import pytest

from farthing.channels.eip712 import Domain
from farthing.channels.ids import Address
from farthing.channels.terms import Terms, UnsafeTerms, channel_id

from ..contract import city as on_evm
from ..contract.city import City, OpenRow
from ..contract.evm import Evm, Reverted
from .forms import read, unhex
from .placed import NUMBERS, evm_terms, open_channel, placed_city, send_wide, view

RECORD = read("channel_ids.json")
DEPLOYMENTS = RECORD["deployments"]
CHANNELS = RECORD["channels"]
REFUSED = RECORD["refused"]


def our_terms(written: dict[str, str]) -> Terms:
    values: dict[str, Any] = {
        name: int(value) if name in NUMBERS else Address(unhex(value))
        for name, value in written.items()
    }
    return Terms(**values)


def city_of(place: dict[str, str]) -> City:
    assert Evm().state.get_ancestor_hash(0) == unhex(place["parent_hash"])
    return placed_city(int(place["chain_id"]), unhex(place["contract"]), int(place["timestamp"]))


@pytest.fixture(scope="module")
def first_city() -> City:
    return city_of(DEPLOYMENTS[0])


def test_our_ids_are_those_of_the_vectors() -> None:
    for vector in CHANNELS:
        found = channel_id(
            chain_id=int(vector["chain_id"]),
            contract=Address(unhex(vector["contract"])),
            deployment=unhex(vector["deployment"]),
            terms=our_terms(vector["terms"]),
        )
        assert found == unhex(vector["id"])


def test_our_separators_are_those_of_the_vectors() -> None:
    for place in DEPLOYMENTS:
        domain = Domain(chain_id=int(place["chain_id"]), contract=Address(unhex(place["contract"])))
        assert domain.separator() == unhex(place["domain_separator"])


@pytest.mark.parametrize("place", DEPLOYMENTS, ids=lambda p: f"{p['chain_id']} {p['timestamp']}")
def test_the_contract_names_itself_and_its_channels_as_the_vectors_do(
    place: dict[str, str],
) -> None:
    city = city_of(place)
    assert view(city, "DEPLOYMENT") == unhex(place["deployment"])
    assert view(city, "domain_separator") == unhex(place["domain_separator"])
    here = {name: place[name] for name in ("chain_id", "contract", "deployment")}
    chosen = [v for v in CHANNELS if {name: v[name] for name in here} == here]
    assert chosen
    for vector in chosen:
        assert view(city, "channel_id", evm_terms(vector["terms"])) == unhex(vector["id"])


def test_every_deployment_and_every_term_makes_another_id() -> None:
    assert len({v["id"] for v in CHANNELS}) == len(CHANNELS)
    assert len({place["deployment"] for place in DEPLOYMENTS}) >= 3
    assert {v["chain_id"] for v in CHANNELS} >= {"1", str(2**64 - 1), str(2**256 - 1)}


def test_the_channel_that_the_contract_opens_has_the_id_of_the_vectors(first_city: City) -> None:
    terms = evm_terms(CHANNELS[0]["terms"])
    assert open_channel(first_city, terms, 5, 0) == terms
    state = first_city.channels.read("channel_state", unhex(CHANNELS[0]["id"]))
    assert state[:4] == (1, 0, 5, 0)


def test_terms_at_their_bounds_are_opened_and_beyond_them_are_not(first_city: City) -> None:
    open_channel(first_city, evm_terms(CHANNELS[0]["terms"]), 0, 0)
    for vector in CHANNELS:
        terms = evm_terms(vector["terms"])
        if terms.sequence == 1:
            opened = open_channel(first_city, terms, 0, 0)
            assert opened == terms._replace(sequence=opened.sequence)
    for vector in REFUSED:
        terms = evm_terms(vector["terms"])
        if vector["contract"] == "never assigned":
            assert first_city.channels.read("next_sequence") > terms.sequence == 0
            continue
        expected = vector["contract"] if vector["contract"].startswith("channels: ") else ""
        call: tuple[Any, ...] = ("open", OpenRow(*terms[:6], deposit=0))
        if vector["member"] == "sequence":
            call = ("channel_id", terms)
        with pytest.raises(Reverted) as caught:
            send_wide(first_city, on_evm.hub, *call)
        assert caught.value.reason == expected


def test_our_terms_refuse_what_no_contract_opens() -> None:
    for vector in REFUSED:
        with pytest.raises(UnsafeTerms):
            our_terms(vector["terms"])


@pytest.mark.parametrize(
    ("chain_id", "contract", "deployment"),
    [
        (-1, 20, 32),
        (2**256, 20, 32),
        (1, 0, 32),
        (1, 19, 32),
        (1, 21, 32),
        (1, 20, 31),
        (1, 20, 33),
    ],
)
def test_no_id_is_made_of_a_value_that_does_not_fit_its_word(
    chain_id: int, contract: int, deployment: int
) -> None:
    with pytest.raises(UnsafeTerms):
        channel_id(
            chain_id=chain_id,
            contract=Address(bytes(contract)),
            deployment=bytes(deployment),
            terms=our_terms(CHANNELS[0]["terms"]),
        )
