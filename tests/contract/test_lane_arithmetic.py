"""A part of the search of docs/proofs.md that takes seconds: the rest is one command away."""

import pytest

from .proofs.controls import CONTRACTS, CONTROLS
from .proofs.search import WRITES, Broken, Contract, Lane, finish_close, lanes, pairs, search


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract()


def test_finish_close_never_reverts_and_conserves_at_every_corner_of_the_words(
    contract: Contract,
) -> None:
    counts = search(contract, pairs(few=True), [finish_close])
    assert counts["finish_close"] == counts["pairs"] == 432


def test_no_call_changes_more_than_its_own_field_at_some_corners(contract: Contract) -> None:
    least, most = lanes(few=True)[0], lanes(few=True)[-1]
    some = [(most, most), (least, most._replace(withdrawn=0)), (most._replace(withdrawn=0), least)]
    counts = search(contract, some, WRITES)
    assert counts["pairs"] == len(some)
    assert all(counts[check.__name__] > len(some) for check in WRITES)


def test_the_search_finds_a_word_that_the_contract_did_not_write(contract: Contract) -> None:
    class Spoilt(Lane):
        def word(self, status: int) -> int:
            return super().word(status) + (2**84 if status == 3 else 0)

    with pytest.raises(Broken, match="spoilt a word"):
        search(contract, [(Spoilt(1, 2, 1), Lane(1, 2, 1))], [finish_close])


def test_the_search_finds_a_payout_that_is_not_due(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{search.__module__}.clamped", lambda a, b: (1, 0))
    with pytest.raises(Broken, match="paid wrongly"):
        search(contract, [(Lane(1, 2, 1), Lane(1, 2, 1))], [finish_close])


@pytest.mark.parametrize("name", CONTROLS)
def test_each_mistake_of_the_controls_still_has_its_place_in_the_contracts(name: str) -> None:
    control = CONTROLS[name]
    source = (CONTRACTS / control.file).read_text(encoding="utf-8")
    assert source.count(control.right) == 1
    assert control.wrong != control.right
