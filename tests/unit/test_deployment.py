"""A deployment record pins one chain and its contracts; a damaged one is refused by field."""

import json
from typing import Any

import pytest

from farthing.channels.deployment import Deployment, MalformedDeployment

from ..people import CHANNEL, DEPLOYMENT, TERMS

RECORD: dict[str, Any] = json.loads(DEPLOYMENT.to_json())
ADDRESSES = ("city_credit", "member_registry", "payment_channels")
WORDS = ("genesis_hash", "deployment")


def test_a_record_reads_back_as_what_was_written() -> None:
    assert Deployment.from_json(DEPLOYMENT.to_json()) == DEPLOYMENT
    assert DEPLOYMENT.to_json().endswith("}\n")


def test_a_record_gives_the_domain_and_the_ids_of_its_channels() -> None:
    assert DEPLOYMENT.domain().chain_id == DEPLOYMENT.chain_id
    assert DEPLOYMENT.domain().contract == DEPLOYMENT.payment_channels
    assert DEPLOYMENT.channel_id(TERMS) == CHANNEL


@pytest.mark.parametrize("text", ["", "{", "nothing", '"'])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedDeployment, match="not JSON"):
        Deployment.from_json(text)


@pytest.mark.parametrize("text", ["1", "[]", "null", "{}", '{"version": 2}', '{"version": "1"}'])
def test_what_is_no_record_of_version_one_is_refused(text: str) -> None:
    with pytest.raises(MalformedDeployment, match="no version 1"):
        Deployment.from_json(text)


@pytest.mark.parametrize("key", ["chain_id", "block"])
@pytest.mark.parametrize("value", [None, -1, 1.0, "1", True])
def test_a_number_that_is_not_whole_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(MalformedDeployment, match=f"'{key}'"):
        Deployment.from_json(json.dumps(RECORD | {key: value}))


@pytest.mark.parametrize("key", ADDRESSES + WORDS)
@pytest.mark.parametrize("value", [None, 5, "", "0x", "0x12", "0x" + "zz" * 32, "ab" * 32])
def test_a_damaged_address_or_hash_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(MalformedDeployment, match=key):
        Deployment.from_json(json.dumps(RECORD | {key: value}))


@pytest.mark.parametrize("key", ADDRESSES)
def test_an_address_with_a_wrong_letter_is_refused_by_name(key: str) -> None:
    text = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    with pytest.raises(MalformedDeployment, match=f"'{key}'.*checksum"):
        Deployment.from_json(json.dumps(RECORD | {key: text}))
