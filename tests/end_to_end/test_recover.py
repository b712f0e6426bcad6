"""What a recovery believes: its own key, signatures that verify, and the chain; nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.channels.client.bundle import Bundle, bundle_of
from farthing.channels.client.chain import Head
from farthing.channels.client.driver import Driver
from farthing.channels.client.evidence import load_shown
from farthing.channels.client.folder import Folder, FolderExists
from farthing.channels.client.keystore import KeystoreUnreadable, MalformedKeystore, WrongPassword
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.logs import OpenedLog, Place
from farthing.channels.client.recover import (
    NoKeystore,
    OtherKey,
    Recovery,
    recover,
    report,
    take_up,
)
from farthing.channels.client.resending import Resending
from farthing.channels.client.results import TookTooLong
from farthing.channels.client.wire import Wire
from farthing.channels.ids import Address, ChannelId, to_hex
from farthing.channels.messages import Message, Reestablish
from farthing.channels.state import (
    DOUBT_UNKNOWN,
    OFFER_SECONDS_MAX,
    ChainView,
    Phase,
    SentLane,
    Settlement,
)
from farthing.channels.terms import Terms

from .small_city import (
    DEPLOYMENT,
    MALLORY,
    PASSWORD,
    PRICE_UCENT,
    TERMS,
    SmallChain,
    SmallCity,
    earn,
    settings,
    until,
)


class Logs:
    """The small chain with its logs of opened channels, and those of a lying endpoint."""

    def __init__(self, chain: SmallChain) -> None:
        self.chain = chain
        self.lies: list[tuple[ChannelId, Terms]] = []

    async def check_identity(self) -> None:
        await self.chain.check_identity()

    async def head(self) -> Head:
        return await self.chain.head()

    async def block_hash(self, number: int) -> bytes:
        return await self.chain.block_hash(number)

    async def channel_state(self, channel: ChannelId, head: Head) -> ChainView:
        return await self.chain.channel_state(channel, head)

    async def closed_totals(
        self, channel: ChannelId, first_block: int, last_block: int
    ) -> tuple[int, int] | None:
        return await self.chain.closed_totals(channel, first_block, last_block)

    async def settlements(
        self, channel: ChannelId, payer: Address, first_block: int, last_block: int
    ) -> tuple[Settlement, ...]:
        return await self.chain.settlements(channel, payer, first_block, last_block)

    async def balance_of(self, account: Address, block: int) -> int:
        return await self.chain.balance_of(account, block)

    async def claimable(self, account: Address, block: int) -> int:
        return await self.chain.claimable(account, block)

    async def channels_of(self, account: Address) -> tuple[OpenedLog, ...]:
        place = Place(block=1, block_hash=b"", transaction_hash=b"", log_index=0)
        return tuple(
            OpenedLog(
                place=place, channel=channel, terms=terms, funder=terms.account_a, deposit_ucent=1
            )
            for channel, terms in [*self.chain.terms.items(), *self.lies]
            if terms.account_b == account
        )


async def lost(city: SmallCity) -> Bundle:
    """A wallet that has earned and paid is gone; its bundle."""
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.pay(700, "parking", timeout_seconds=10)
    bundle = bundle_of(Folder(path=city.folder), with_keystore=True)
    shutil.rmtree(city.folder)
    return bundle


async def recovered(
    city: SmallCity, bundle: Bundle, logs: Logs | None = None, **options: Any
) -> Recovery:
    return await recover(city.folder, bundle, PASSWORD, logs or Logs(city.chain), **options)


def drafts(city: SmallCity) -> list[Path]:
    """What an unfinished recovery would have left beside the folder."""
    return [path for path in city.folder.parent.iterdir() if path.name.startswith(".")]


def held(city: SmallCity) -> list[ChannelId]:
    ledger = Ledger(Folder(path=city.folder).ledger_file)
    try:
        assert ledger.query("SELECT value FROM setting WHERE key='doubt'") == [
            (str(DOUBT_UNKNOWN),)
        ]
        return [channel.id for channel in ledger.load_channels()]
    finally:
        ledger.close()


async def test_what_is_made_is_in_doubt_holds_the_channels_and_is_for_its_owner(
    city: SmallCity,
) -> None:
    bundle = await lost(city)
    (found,) = (await recovered(city, bundle)).found
    assert held(city) == [found.channel] == list(city.chain.channels)
    assert found.shown is not None
    assert found.shown.ours is not None
    assert found.shown.theirs is not None
    assert found.shown.ours.total.transferred_ucent == 700
    assert found.shown.theirs.total.transferred_ucent == 4 * PRICE_UCENT
    folder = Folder(path=city.folder)
    assert folder.settings() == bundle.settings
    for path in (city.folder, *city.folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
    assert drafts(city) == []


async def test_a_channel_that_only_the_chain_names_is_found(city: SmallCity) -> None:
    bundle = replace(await lost(city), channels=())
    (found,) = (await recovered(city, bundle, offline=True)).found
    assert (report(found)["found"], held(city)) == (["chain"], [found.channel])


async def test_a_chain_and_a_hub_that_are_down_leave_what_the_bundle_names(
    city: SmallCity,
) -> None:
    bundle = await lost(city)
    nowhere = replace(bundle.settings, hub=replace(bundle.settings.hub, port=1))
    city.chain.is_down = True
    recovery = await recovered(city, replace(bundle, settings=nowhere))
    assert "it is down" in recovery.chain_trouble
    assert "cannot be reached" in recovery.hub_trouble
    (found,) = recovery.found
    row = report(found)
    assert (row["found"], row["status"]) == (["bundle"], "unknown")
    assert "the chain was not read" in str(row["at_risk"])
    assert held(city) == [found.channel]


async def test_a_channel_that_has_ended_is_no_risk(city: SmallCity) -> None:
    async with city.wallet() as wallet:
        await earn(wallet)
        await wallet.close(timeout_seconds=10)
    bundle = bundle_of(Folder(path=city.folder), with_keystore=True)
    shutil.rmtree(city.folder)
    (found,) = (await recovered(city, bundle, offline=True)).found
    assert report(found)["at_risk"] == "nothing: the channel is closed and was paid out"


async def test_what_a_hub_or_an_endpoint_makes_up_is_not_held(city: SmallCity) -> None:
    bundle = await lost(city)
    made_up = replace(TERMS, sequence=9)
    city.hub.announced.append(made_up)  # by the hub, and on no chain
    logs = Logs(city.chain)
    foreign = replace(TERMS, signer_b=MALLORY.address, sequence=7)
    logs.lies += [
        (DEPLOYMENT.channel_id(foreign), foreign),  # of our account, under another key
        (ChannelId(b"x" * 32), replace(TERMS, sequence=8)),  # an id that is not its terms'
    ]
    recovery = await recovered(city, bundle, logs)
    assert {found.terms.sequence for found in recovery.found} == {1, 9}
    assert held(city) == list(city.chain.channels)


@pytest.mark.parametrize(
    ("forged", "named", "kept"),
    [
        ("received", "our own payments", (None, 4 * PRICE_UCENT)),
        ("sent", "the hub's payments", (700, None)),
    ],
)
async def test_a_forged_voucher_is_named_and_takes_nothing_from_the_good_one_beside_it(
    city: SmallCity,
    monkeypatch: pytest.MonkeyPatch,
    forged: str,
    named: str,
    kept: tuple[int | None, int | None],
) -> None:
    bundle = await lost(city)
    send = Driver._send

    def forge(driver: Driver, channel: ChannelId, message: Message, wire: Wire | None) -> None:
        if isinstance(message, Reestablish):
            good = getattr(message, forged)
            more = replace(good.total, transferred_ucent=90_000)
            message = replace(message, **{forged: replace(good, total=more)})
        send(driver, channel, message, wire)

    monkeypatch.setattr(Driver, "_send", forge)
    recovery = await recovered(city, bundle)
    assert named in recovery.hub_trouble
    assert "is not believed" in recovery.hub_trouble
    (found,) = recovery.found
    row = report(found)
    assert (row["sent_ucent"], row["received_ucent"]) == kept
    assert row["found"] == ["bundle", "chain", "hub"]
    assert "may hold more" in str(row["at_risk"])
    evidence = load_shown(Ledger(Folder(path=city.folder).ledger_file))
    assert [one.total.transferred_ucent for one in evidence.values()] == [
        ucent for ucent in kept[1:] if ucent is not None
    ]


async def test_a_channel_with_a_forged_voucher_takes_nothing_from_its_neighbours(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = await lost(city)
    (good,) = city.chain.channels
    other = city.chain.open()
    city.hub.hold(other)
    signature = city.hub.driver.channels[good].sent.voucher
    assert signature is not None
    city.hub.driver.channels[other] = replace(
        city.hub.driver.channels[other],
        sent=SentLane(voucher=replace(signature, channel=other), acknowledged_nonce=4),
    )
    recovery = await recovered(city, bundle)
    by_channel = {found.channel: found.shown for found in recovery.found}
    kept, lost_one = by_channel[good], by_channel[other]
    assert kept is not None
    assert lost_one is not None
    assert (kept.is_whole, lost_one.is_whole, lost_one.theirs) == (True, False, None)
    assert kept.theirs is not None
    assert to_hex(other) in recovery.hub_trouble
    assert to_hex(good) not in recovery.hub_trouble


async def test_a_folder_with_anything_in_it_is_not_touched(city: SmallCity) -> None:
    bundle = await lost(city)
    city.folder.mkdir()
    (city.folder / "ledger.sqlite").write_bytes(b"the newest there is")
    with pytest.raises(FolderExists, match="not empty"):
        await recovered(city, bundle)
    assert [path.name for path in city.folder.iterdir()] == ["ledger.sqlite"]
    shutil.rmtree(city.folder)
    city.folder.write_text("a file")
    with pytest.raises(FolderExists):
        await recovered(city, bundle)
    city.folder.unlink()
    city.folder.mkdir()  # an empty one may be there already
    await recovered(city, bundle, offline=True)


async def test_another_key_or_none_makes_nothing(city: SmallCity, tmp_path: Path) -> None:
    bundle = await lost(city)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff")
    for changed, file, error in (
        (replace(bundle, signer=MALLORY.address), None, OtherKey),
        (replace(bundle, keystore=None), None, NoKeystore),
        (bundle, tmp_path / "missing", KeystoreUnreadable),
        (bundle, garbage, MalformedKeystore),
    ):
        with pytest.raises(error):
            await recovered(city, changed, keystore_file=file)
    with pytest.raises(WrongPassword):
        await recover(city.folder, bundle, "wrong", Logs(city.chain))
    assert not city.folder.exists()
    assert drafts(city) == []


async def test_a_key_that_is_taken_up_again_starts_in_doubt(
    city: SmallCity, tmp_path: Path
) -> None:
    bundle = await lost(city)
    assert bundle.keystore is not None
    key = tmp_path / "key.json"
    key.write_text(bundle.keystore)
    made = take_up(city.folder, PASSWORD, key, lambda _: settings(city.hub.port))
    assert made.settings().account == bundle.settings.account
    assert held(city) == []
    async with city.wallet() as wallet:
        assert wallet.status()["restored"]


async def test_what_the_hub_has_shown_is_settled_before_anything_may_be_accepted(
    city: SmallCity,
) -> None:
    """The hub closes by an old total while the wallet is still in doubt."""
    await recovered(city, await lost(city))
    async with city.wallet() as wallet:
        assert wallet.status()["restored"]
        assert wallet.channels()[0].received.voucher is None
        await city.chain.start_close(TERMS)
        await until(wallet, lambda: city.chain.settled != [])
        assert city.chain.settled[0].total.transferred_ucent == 4 * PRICE_UCENT


async def test_a_close_in_agreement_is_not_asked_for_while_the_hub_keeps_back_what_it_has_shown(
    city: SmallCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recovered(city, await lost(city))
    monkeypatch.setattr(Resending, "start", lambda *_: None)
    async with city.wallet() as wallet:
        await until(wallet, lambda: wallet.channels()[0].doubt_ends != DOUBT_UNKNOWN)
        city.chain.mine(seconds=2 * OFFER_SECONDS_MAX)
        await wallet._follower.refresh()
        await until(wallet, lambda: wallet.channels()[0].phase is Phase.LIVE)
        with pytest.raises(TookTooLong, match="closing in agreement"):
            await wallet.close(timeout_seconds=0.2)
        assert not wallet.channels()[0].we_want_close
        await wallet.start_close(timeout_seconds=10)
        assert [one.total.transferred_ucent for one in city.chain.settled] == [4 * PRICE_UCENT]


async def test_a_recovered_wallet_closes_alone_with_what_the_hub_has_shown(
    city: SmallCity,
) -> None:
    await recovered(city, await lost(city))
    async with city.wallet() as wallet:
        await wallet.start_close(timeout_seconds=10)
        assert [one.total.transferred_ucent for one in city.chain.settled] == [4 * PRICE_UCENT]
    async with city.wallet() as wallet:  # and does so once
        await wallet._follower.refresh()
        assert len(city.chain.settled) == 1
