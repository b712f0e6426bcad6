"""The files of a Besu chain: extra-data as Besu's own tests and pages have it, and allowlists."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from farthing.channels.ids import Address, address_from_hex, address_to_hex
from farthing.channels.signing import Signer
from farthing.contracts.members import MemberStatus
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.besu import (
    BadChain,
    BadExtraData,
    BadNode,
    BesuChain,
    ExtraData,
    Node,
    OtherGenesis,
    export,
)
from farthing.devnet.registered import members_to_admit
from farthing.node.administration import Administrator, Registration, Role
from farthing.node.audit.errors import WrongContract
from farthing.node.deploying import deploy
from farthing.node.sender import connect

from ..chains import served_devnet
from ..hub_world import City, build_city, farthing

# From Besu's page "Configure QBFT consensus": four validators, and none where a contract says who.
PAGE = bytes.fromhex(
    "f87aa0" + "00" * 32 + "f854"
    "9464a702e6263b7297a96638cac6ae65e6541f4169"
    "943923390ad55e90c237593b3b0e401f3b08a03185"
    "94aefdb9a738c9f433e5b6b212a6d62f6370c2f692"
    "94c7eeb9a4e00ce683cf93039b212648e01c6c6b78"
    "c080c0"
)
PAGE_VALIDATORS = (
    "64a702e6263b7297a96638cac6ae65e6541f4169",
    "3923390ad55e90c237593b3b0e401f3b08a03185",
    "aefdb9a738c9f433e5b6b212a6d62f6370c2f692",
    "c7eeb9a4e00ce683cf93039b212648e01c6c6b78",
)
PAGE_OF_A_CONTRACT = bytes.fromhex("e5a0" + "00" * 32 + "c0c080c0")
# From Besu's QbftExtraDataCodecTest: two validators, a vote for one, a round, two seals.
CODEC_TEST = bytes.fromhex(
    "f8f0a00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20ea940000000000000000"
    "000000000000000000000001940000000000000000000000000000000000000002d7940000000000000000"
    "00000000000000000000000181ff83fedcbaf886b841000000000000000000000000000000000000000000"
    "0000000000000000000001000000000000000000000000000000000000000000000000000000000000000a"
    "00b841000000000000000000000000000000000000000000000000000000000000000a0000000000000000"
    "00000000000000000000000000000000000000000000000100"
)
ONE, TWO = (Address(number.to_bytes(20, "big")) for number in (1, 2))


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


VECTORS = [
    (PAGE, ExtraData(validators=tuple(Address(bytes.fromhex(v)) for v in PAGE_VALIDATORS))),
    (PAGE_OF_A_CONTRACT, ExtraData(validators=())),
    (
        CODEC_TEST,
        ExtraData(
            vanity=bytes(range(1, 33)),
            validators=(ONE, TWO),
            vote=(ONE, True),
            round=0x00FEDCBA,
            seals=(word(1) + word(10) + b"\0", word(10) + word(1) + b"\0"),
        ),
    ),
]


@pytest.mark.parametrize(("content", "meaning"), VECTORS)
def test_extra_data_is_what_besu_itself_writes_and_reads(
    content: bytes, meaning: ExtraData
) -> None:
    assert meaning.encode() == content
    assert ExtraData.decode(content) == meaning


addresses = st.binary(min_size=20, max_size=20).map(Address)


@given(
    st.builds(
        ExtraData,
        validators=st.lists(addresses, max_size=12).map(tuple),
        vanity=st.binary(min_size=32, max_size=32),
        vote=st.none() | st.tuples(addresses, st.booleans()),
        round=st.integers(0, 2**32 - 1),
        seals=st.lists(st.binary(min_size=65, max_size=65), max_size=9).map(tuple),
    )
)
def test_extra_data_is_read_as_it_was_written(extra: ExtraData) -> None:
    assert ExtraData.decode(extra.encode()) == extra


@pytest.mark.parametrize(
    "items",
    [
        b"",
        [],
        [bytes(32), [], [], b""],
        [bytes(31), [], [], b"", []],
        [bytes(32), [bytes(19)], [], b"", []],
        [bytes(32), b"", [], b"", []],
        [bytes(32), [[]], [], b"", []],
        [bytes(32), [], [bytes(20)], b"", []],
        [bytes(32), [], [bytes(20), b"\x01"], b"", []],
        [bytes(32), [], [bytes(19), b"\xff"], b"", []],
        [bytes(32), [], b"", b"", []],
        [bytes(32), [], [], b"\x00\x01", []],
        [bytes(32), [], [], bytes([1]) * 5, []],
        [bytes(32), [], [], [], []],
        [bytes(32), [], [], b"", [bytes(64)]],
        [[], [], [], b"", []],
    ],
)
def test_other_extra_data_is_refused(items: Any) -> None:
    with pytest.raises(BadExtraData):
        ExtraData.decode(rlp.encode(items))


def test_truncated_extra_data_is_refused() -> None:
    for size in range(len(CODEC_TEST)):
        with pytest.raises(BadExtraData):
            ExtraData.decode(CODEC_TEST[:size])
    with pytest.raises(BadExtraData):
        ExtraData.decode(CODEC_TEST + b"\0")


# -- nodes ----------------------------------------------------------------------------------------

# The key of the first development account (32 bytes), and what it makes as a node.
KEY = dev_accounts(1)[0]


def enode(index: int, host: str = "10.0.0.1", port: int = 30303) -> str:
    from coincurve import PrivateKey  # noqa: PLC0415 - to make keys here alone

    secret = dev_accounts(index + 1)[index].private_key
    key = PrivateKey(secret).public_key.format(compressed=False)[1:]
    return f"enode://{key.hex()}@{host}:{port}"


def test_a_nodes_address_is_that_of_its_key() -> None:
    node = Node.parse(enode(0))
    assert node.address == KEY.address == Signer(KEY.private_key).address
    assert node.enode == enode(0)
    assert Node.parse(enode(0).replace("10.0.0.1", "[2001:db8:0::1]")).host == "[2001:db8::1]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        enode(0) + "?discport=0",
        enode(0, host="validator.example"),
        enode(0, host="10.0.0.300"),
        enode(0, host="10.0.0"),
        enode(0, host="[10.0.0.1]x"),
        enode(0, port=0),
        enode(0, port=65_536),
        "enode://" + "00" * 64 + "@10.0.0.1:30303",
        "enode://" + "11" * 63 + "@10.0.0.1:30303",
        enode(0) + "\n",
    ],
)
def test_what_is_no_node_is_refused(text: str) -> None:
    with pytest.raises(BadNode):
        Node.parse(text)


# -- files ----------------------------------------------------------------------------------------

VALIDATORS = tuple(Node.parse(enode(index, host=f"10.0.{index}.1")) for index in range(4))
FOLLOWER = Node.parse(enode(4, host="10.0.9.1"))


def chain(**changes: Any) -> BesuChain:
    settings: dict[str, Any] = {
        "chain_id": 20_271,
        "validators": VALIDATORS,
        "nodes": (FOLLOWER,),
        "accounts": (TWO, ONE, TWO),
        **changes,
    }
    return BesuChain(**settings)


def test_the_genesis_is_one_of_free_gas_and_of_these_validators() -> None:
    genesis = chain().genesis(1_800_000_000)
    config = genesis["config"]
    assert (config["chainId"], config["zeroBaseFee"]) == (20_271, True)
    assert config["qbft"] == {
        "epochlength": 30_000,
        "blockperiodseconds": 2,
        "requesttimeoutseconds": 4,
    }
    assert (config["londonBlock"], config["cancunTime"]) == (0, 0)
    extra = ExtraData.decode(bytes.fromhex(genesis["extraData"][2:]))
    assert extra.validators == tuple(sorted(node.address for node in VALIDATORS))
    assert (extra.vote, extra.round, extra.seals, extra.vanity) == (None, 0, (), bytes(32))
    assert genesis["alloc"] == {}
    assert (
        genesis["mixHash"] == "0x63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365"
    )
    assert int(genesis["timestamp"], 16) == 1_800_000_000
    # As long as those of the page: 120 bytes and more are what clients must stand.
    assert len(extra.encode()) == len(PAGE) == 124


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"validators": ()}, "0 validators"),
        ({"validators": (VALIDATORS[0], VALIDATORS[0])}, "named twice"),
        ({"nodes": VALIDATORS[:1]}, "named twice"),
        ({"accounts": ()}, "no account"),
        ({"chain_id": 20_262_026}, "development"),
        ({"chain_id": 0}, "development"),
    ],
)
def test_what_makes_no_safe_chain_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(BadChain, match=text):
        chain(**change)


def test_the_files_are_written_and_only_allowlists_are_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "besu"
    paths = export(chain(), folder, now=1_800_000_000)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths.values())
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in paths.values())
    lists = tomllib.loads(paths["permissions"].read_text())
    every = [*(node.enode for node in VALIDATORS), FOLLOWER.enode]
    assert lists == {
        "nodes-allowlist": every,
        "accounts-allowlist": ["0x" + ONE.hex(), "0x" + TWO.hex()],
    }
    assert json.loads(paths["static_nodes"].read_text()) == every
    options = tomllib.loads(paths["options"].read_text())
    assert (options["min-gas-price"], options["rpc-http-host"]) == (0, "127.0.0.1")
    for key in ("genesis-file", "static-nodes-file", "permissions-accounts-config-file"):
        assert (folder / options[key]).exists()
    genesis = paths["genesis"].read_text()
    export(chain(accounts=(ONE,)), folder, now=1_900_000_000)
    assert paths["genesis"].read_text() == genesis
    assert tomllib.loads(paths["permissions"].read_text())["accounts-allowlist"] == [
        "0x" + ONE.hex()
    ]
    for other in ({"chain_id": 5}, {"validators": VALIDATORS[:3]}, {"block_seconds": 3}):
        with pytest.raises(OtherGenesis):
            export(chain(**other), folder, now=1_800_000_000)
    for damaged in ("", "[]", '{"timestamp": 5}'):
        paths["genesis"].write_text(damaged)
        with pytest.raises(OtherGenesis, match="cannot be read"):
            export(chain(), folder, now=1_800_000_000)


# -- the registry's members -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with served_devnet() as rpc_url:
        yield build_city(rpc_url, tmp_path_factory.mktemp("city"))


def test_members_are_admitted_who_may_still_close(city: City, tmp_path: Path) -> None:
    alice, bob, carol, mallory = (Signer(bytes([n]) * 32).address for n in (1, 2, 3, 4))
    city.register(alice, carol, role=Role.RESIDENT)
    city.register(bob, role=Role.DEVICE, status=MemberStatus.SUSPENDED)
    city.register(mallory, role=Role.DEVICE, status=MemberStatus.REMOVED)
    city.registrar.set_members([Registration(account=carol, role=Role.RESIDENT, valid_until=1)])
    admitted = members_to_admit(city.rpc_url, city.deployment)
    assert {alice, bob, carol} < set(admitted)
    assert mallory not in admitted
    arguments = ["--rpc", city.rpc_url, "--deployment", city.deployment_file]
    out = tmp_path / "besu"
    nodes = [word for index in range(3) for word in ("--validators", enode(index))]
    extra = address_to_hex(ONE)
    command = ["devnet", "export-besu", "--chain-id", "7", "--out", out, *nodes]
    done = farthing(*command, *arguments, "--account", extra, "--json")
    assert done.code == 0
    assert "stops when one fails" in done.err
    assert done.json["validators"] == [address_to_hex(a.address) for a in dev_accounts(3)]
    assert {address_from_hex(a) for a in done.json["accounts"]} == {*admitted, ONE}
    lists = tomllib.loads((out / "permissions_config.toml").read_text())
    assert lists["accounts-allowlist"] == [a.lower() for a in done.json["accounts"]]


def test_members_are_read_of_the_right_chain_alone(city: City, tmp_path: Path) -> None:
    with served_devnet() as other:
        elsewhere = deploy(connect(other), Signer(KEY.private_key), tmp_path / "d.json").deployment
        assert Administrator(connect(other), elsewhere, None).member(KEY.address)
        with pytest.raises(WrongContract):
            members_to_admit(city.rpc_url, elsewhere)


def test_a_command_that_makes_no_chain_says_why(tmp_path: Path) -> None:
    out = tmp_path / "besu"
    command = ["devnet", "export-besu", "--chain-id", "7", "--out", out, "--json"]
    nobody = farthing(*command, "--validators", enode(0))
    assert (nobody.code, nobody.json["error"]["code"]) == (1, "bad-besu-chain")
    bad = farthing(*command, "--validators", "enode://x", "--account", address_to_hex(ONE))
    assert (bad.code, bad.json["error"]["code"]) == (1, "bad-enode")
    half = farthing(*command, "--validators", enode(0), "--rpc", "http://127.0.0.1:9")
    assert half.code == 64
    assert not out.exists()
