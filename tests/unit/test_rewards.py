"""Rewards: each reading is priced once, whatever programme, restart or failed payment."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from farthing.channels.codecs import CONTROL_BYTES_MAX, encode_message
from farthing.channels.ids import Address
from farthing.channels.messages import OUTCOMES_MAX, ReadingOutcome
from farthing.channels.senml import Record
from farthing.channels.senml_record import NAME_CHARACTERS_MAX
from farthing.node.programme import CONTACT_CHARACTERS_MAX
from farthing.node.rewards import Rewards
from farthing.node.store import HubStore

from ..hub_parts import committed, programme, reopened
from ..hub_world import FLOW_UCENT, PROGRAMME
from ..people import NOW, moment

BOB = Address(b"\xb0" * 20)
PACK = bytes(16)


def flow(seconds_ago: int = 0, **changes: object) -> Record:
    fields: dict[str, object] = {
        "name": "pump/flow",
        "time": Decimal(NOW - seconds_ago),
        "value": Decimal("1.5"),
        "unit": "l/s",
        **changes,
    }
    return Record(**fields)  # type: ignore[arg-type]  # a test's mixture


@pytest.fixture
def store(tmp_path: Path) -> HubStore:
    return HubStore(tmp_path / "hub.sqlite")


def test_records_get_outcomes_in_order_and_payments_where_they_count(store: HubStore) -> None:
    rewards = Rewards(store, [programme()])
    records = [
        flow(100, original="noon"),
        flow(100),
        flow(50, name="pump/power"),
        flow(20, value=True),
    ]
    priced = rewards.price(BOB, PACK, records, moment())
    codes = ["", "duplicate", "unknown-quantity", "no-value"]
    assert [o.code for o in priced.outcomes] == codes
    (payment,) = priced.payments
    fields = payment.receipt.fields()
    assert payment.amount_ucent == fields["amount"] == FLOW_UCENT
    assert (fields["original"], fields["taken"], fields["block"]) == ("noon", NOW - 100, 100)
    assert fields["programme_hash"] == programme().hash
    store.ledger.close()


def test_what_could_not_be_paid_is_forgotten(store: HubStore) -> None:
    rewards = Rewards(store, [programme(budget_ucent=FLOW_UCENT)])
    first = rewards.price(BOB, PACK, [flow()], moment())
    assert rewards.price(BOB, PACK, [flow(60)], moment()).outcomes[0].code == "budget-spent"
    rewards.undo(BOB, first)
    assert rewards.price(BOB, PACK, [flow()], moment()).outcomes[0].code == ""
    store.ledger.close()


def test_what_was_rewarded_and_spent_is_known_after_a_restart(store: HubStore) -> None:
    rewards = Rewards(store, [programme(budget_ucent=2 * FLOW_UCENT)])
    priced = rewards.price(BOB, PACK, [flow(), flow(60)], moment())
    committed(store.ledger, *priced.statements)
    store = reopened(store)
    again = Rewards(store, [programme(budget_ucent=2 * FLOW_UCENT)])
    later = again.price(BOB, PACK, [flow(), flow(200)], moment())
    assert [o.code for o in later.outcomes] == ["duplicate", "budget-spent"]
    store.ledger.close()


def test_a_pricing_that_was_never_committed_is_unknown_after_a_restart(store: HubStore) -> None:
    Rewards(store, [programme()]).price(BOB, PACK, [flow()], moment())
    store = reopened(store)
    again = Rewards(store, [programme()]).price(BOB, PACK, [flow()], moment())
    assert [o.code for o in again.outcomes] == [""]
    store.ledger.close()


def test_programmes_that_name_a_quantity_alike_do_not_meet(store: HubStore) -> None:
    other = PROGRAMME.replace("test-block", "other-block").replace("*/flow", "*/drain")
    rewards = Rewards(store, [programme(), programme(other)])
    records = [flow(), flow(name="pump/drain")]
    priced = rewards.price(BOB, PACK, records, moment())
    assert [o.amount_ucent for o in priced.outcomes] == [FLOW_UCENT, FLOW_UCENT]
    committed(store.ledger, *priced.statements)
    assert store.spent_ucent("other-block") == FLOW_UCENT
    store.ledger.close()


def test_memory_holds_only_what_is_not_committed_yet(store: HubStore) -> None:
    rewards = Rewards(store, [programme()])
    first = rewards.price(BOB, PACK, [flow(120), flow(60)], moment())
    second = rewards.price(BOB, PACK, [flow()], moment())
    codes = [o.code for o in rewards.price(BOB, PACK, [flow(60), flow(1)], moment()).outcomes]
    assert codes == ["duplicate", "too-frequent"]
    committed(store.ledger, *first.statements)
    rewards.committed(BOB, first)
    (times,) = rewards._uncommitted.values()
    assert times == [Decimal(NOW)]
    committed(store.ledger, *second.statements)
    rewards.committed(BOB, second)
    assert rewards._uncommitted == {}
    codes = [o.code for o in rewards.price(BOB, PACK, [flow(60), flow(1)], moment()).outcomes]
    assert codes == ["duplicate", "too-frequent"]
    store.ledger.close()


def test_moments_that_a_double_cannot_tell_apart_are_told_apart(store: HubStore) -> None:
    (tariff,) = programme().tariffs
    often = programme(tariffs=(replace(tariff, interval_seconds_min=0),))
    rewards = Rewards(store, [often])
    times = [Decimal(NOW) - 1 + Decimal(n) / 10**12 for n in range(5)]
    priced = rewards.price(BOB, PACK, [flow(time=time) for time in times[::2]], moment())
    assert [o.code for o in priced.outcomes] == ["", "", ""]
    committed(store.ledger, *priced.statements)
    rewards.committed(BOB, priced)
    codes = [
        outcome.code
        for outcome in rewards.price(
            BOB, PACK, [flow(time=time) for time in times], moment()
        ).outcomes
    ]
    assert codes == ["duplicate", "", "duplicate", "", "duplicate"]
    store.ledger.close()


def test_the_longest_refusals_of_a_full_pack_fit_one_message(store: HubStore) -> None:
    text = PROGRAMME.replace("appeals@test.example", "x" * CONTACT_CHARACTERS_MAX)
    rewards = Rewards(store, [programme(text)])
    name = "x" * (NAME_CHARACTERS_MAX - len("/flow")) + "/flow"
    long = Decimal("9" * 30 + "." + "9" * 130)
    for record in (
        flow(name=name, value=long),
        flow(name="y" * NAME_CHARACTERS_MAX),
        flow(name=name, unit="z" * 32),
        flow(name=name, time=Decimal("1800100000." + "1" * 150)),
    ):
        priced = rewards.price(BOB, PACK, [record] * OUTCOMES_MAX, moment())
        assert not priced.payments
        answer = ReadingOutcome(id=PACK, outcomes=priced.outcomes)
        assert len(encode_message(answer)) <= CONTROL_BYTES_MAX
    store.ledger.close()
