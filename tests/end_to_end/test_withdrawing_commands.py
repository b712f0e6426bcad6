"""`farthing wallet withdraw | claim` and `farthing hub withdraw` against running processes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.channels.ids import address_to_hex
from farthing.channels.state import ACT_AGAIN_SECONDS

from ..agency import Agency, running_agency
from ..hub_world import DEPOSIT_UCENT, FLOW_UCENT, City, farthing


@pytest.fixture(scope="module")
def agency(hub_city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    with running_agency(hub_city, tmp_path_factory.mktemp("agency")) as agency:
        yield agency


def test_a_wallet_withdraws_and_shows_it(agency: Agency) -> None:
    agency.earn(4)
    agency.pass_time(1)
    before = agency.tokens()
    done = agency.ask_wallet("withdraw", "0.01c", "--json").json
    assert done == {
        "channel": agency.channel()["channel"],
        "amount_ucent": 10_000,
        "total_ucent": done["total_ucent"],
    }
    assert agency.tokens() == before + 10_000
    agency.pass_time(1)
    people = agency.ask_wallet("withdraw", "2000", "--channel", done["channel"])
    assert f"total_ucent   {done['total_ucent'] + 2_000}" in people.out
    assert agency.tokens() == before + 12_000
    assert agency.balance()["withdrawing_ucent"] == 0
    assert agency.channel()["withdrawn_ucent"] == done["total_ucent"] + 2_000


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("withdraw", "1000c"), 1, "are available"),
        (("withdraw", "0"), 1, "out of range"),
        (("withdraw", "0.5"), 1, "fraction of a microcent"),
        (("withdraw", "1", "--channel", "0x" + "00" * 32), 1, "is unknown"),
        (("withdraw", "1", "--channel", "0x00"), 1, "32 bytes"),
        (("withdraw",), 64, "Missing argument 'AMOUNT'"),
        (("withdraw", "1", "--timeout", "x"), 64, "'--timeout'"),
        (("withdraw", "1", "--timeout", "nan"), 64, "no number of seconds"),
        (("claim",), 1, "no refused payout waits"),
        (("claim", "1"), 64, "unexpected extra argument"),
    ],
)
def test_a_wallet_command_that_cannot_be_done_says_why(
    agency: Agency, arguments: tuple[str, ...], code: int, what: str
) -> None:
    refused = agency.ask_wallet(*arguments, code=code)
    assert what in refused.err
    if code == 1:
        record = agency.ask_wallet(*arguments, "--json", code=code).json
        assert what in record["error"]["text"]
        assert record["error"]["what_to_do"]


def test_a_withdrawal_that_the_hub_does_not_answer_in_time_ends_with_2_and_happens_later(
    agency: Agency,
) -> None:
    agency.earn(1)
    agency.pass_time(1)
    before = agency.tokens()
    agency.hub.signal(signal.SIGSTOP)
    try:
        late = agency.ask_wallet("withdraw", "5000", "--timeout", "0.5", "--json", code=2)
        assert "withdrawing took over 0.5 s" in late.json["error"]["text"]
        assert "taken in time or free again" in late.err
        assert agency.balance()["withdrawing_ucent"] == 5_000
        pending = agency.ask_wallet("withdraw", "1", "--json", code=1)
        assert pending.json["error"]["code"] == "withdrawal-pending"
    finally:
        agency.hub.signal(signal.SIGCONT)
    agency.until(lambda: agency.tokens() == before + 5_000)
    agency.pass_time(ACT_AGAIN_SECONDS)
    assert agency.balance()["withdrawing_ucent"] == 0


def test_a_hub_withdraws_its_own_and_shows_it(agency: Agency) -> None:
    agency.pass_time(1)
    channel, before = agency.channel()["channel"], agency.hub_channel()
    asked = agency.ask_hub("withdraw", channel, "1c", "--json").json
    assert (asked["channel"], asked["amount_ucent"]) == (channel, 1_000_000)
    assert (asked["asked"], asked["expires"] > 0) == (True, True)
    agency.until(lambda: agency.hub_channel()["withdrawn_ucent"] == asked["total_ucent"])
    assert agency.hub_channel()["available_ucent"] == before["available_ucent"] - 1_000_000
    agency.pass_time(1)
    people = agency.ask_hub("withdraw", channel, "2000000")
    assert f"total_ucent   {asked['total_ucent'] + 2_000_000}" in people.out
    agency.until(
        lambda: agency.hub_channel()["withdrawn_ucent"] == asked["total_ucent"] + 2_000_000
    )
    assert "is on-chain" in agency.log(agency.hub)


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("CHANNEL", "1000c"), 1, "are available"),
        (("CHANNEL", "0"), 1, "out of range"),
        (("0x" + "00" * 32, "1"), 1, "is unknown"),
        (("0x00", "1"), 1, "32 bytes"),
        (("CHANNEL",), 64, "Missing argument 'AMOUNT'"),
    ],
)
def test_a_hub_command_that_cannot_be_done_says_why(
    agency: Agency, arguments: tuple[str, ...], code: int, what: str
) -> None:
    given = [agency.channel()["channel"] if a == "CHANNEL" else a for a in arguments]
    assert what in agency.ask_hub("withdraw", *given, code=code).err


def test_commands_to_processes_that_do_not_run_say_so(
    agency: Agency, tmp_path: Path, hub_city: City
) -> None:
    home = tmp_path / "bob"
    made = farthing(
        *("wallet", "init", "--folder", home, "--hub", "127.0.0.1:1"),
        *("--hub-signer", address_to_hex(agency.account), "--rpc", hub_city.rpc_url),
        *("--deployment", hub_city.deployment_file),
    )
    assert made.code == 0, made.err
    for command in (("withdraw", "1"), ("claim",)):
        ended = farthing("wallet", *command, "--folder", home)
        assert (ended.code, "farthing wallet run --folder" in ended.err) == (1, True)


def test_everything_adds_up_in_the_end(agency: Agency) -> None:
    """Runs last: the channel closes, and what both took out is what both owned."""
    agency.pass_time(1)
    received = agency.channel()["received_ucent"]
    agency.ask_wallet("close")
    assert agency.tokens() == received
    assert received % FLOW_UCENT == 0
    assert received < DEPOSIT_UCENT
