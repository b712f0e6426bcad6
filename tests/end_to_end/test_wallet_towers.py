"""A real wallet, hub and watchtower: what is handed over and when, and towers that are no help."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client import connection, follower, towers
from farthing.channels.client.covered import load_kept
from farthing.channels.client.folder import (
    TOWERS_MAX,
    Folder,
    HubAddress,
    TowerPlace,
    write_settings,
)
from farthing.channels.client.keystore import unlock
from farthing.channels.client.ledger import Ledger
from farthing.channels.client.pulse import Notice
from farthing.channels.client.schema import SCHEMA
from farthing.channels.client.wallet import Wallet
from farthing.channels.client.wire import Wire
from farthing.channels.errors import PeerError
from farthing.channels.ids import Address
from farthing.channels.messages import Error, Message, PaymentRefused, VoucherDeposit, VoucherKept
from farthing.channels.state import ChainStatus
from farthing.node.chain import Web3Chain
from farthing.node.hub import Hub
from farthing.node.sender import connect
from farthing.node.watchtower.tower import Tower

from ..hub_world import FLOW_UCENT, PASSWORD, City, hub_folder, new_signer, reading, running_hub
from ..hub_world import until as until_process
from ..real_wallet import Device, make_device, until
from ..tower_world import running_tower, tower_folder

pytestmark = pytest.mark.usefixtures("quick_hub", "quick_links")

NOBODY = Address(b"\x77" * 20)


@pytest.fixture
def quick_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dial hub and tower again every few milliseconds, and look at the chain a few times a second.

    Not more often: who stops a wallet in the middle of a request leaves one of httpx's generators.
    """
    for module in (towers, connection):
        for name in ("BACKOFF_SECONDS_MIN", "BACKOFF_SECONDS_MAX"):
            monkeypatch.setattr(module, name, 0.01)
    for name in ("POLL_SECONDS_MIN", "POLL_SECONDS_MAX"):
        monkeypatch.setattr(follower, name, 0.3)


@dataclass
class Home:
    """A hub that runs in this process, and alice's folder beside it."""

    city: City
    hub: Hub
    device: Device
    hub_config: Path

    def use(self, *places: TowerPlace) -> None:
        """Put these towers on the wallet's list, while it does not run."""
        folder = self.folder
        write_settings(folder, replace(folder.settings(), towers=places))

    @property
    def folder(self) -> Folder:
        return Folder(path=self.device.path)

    @asynccontextmanager
    async def wallet(self) -> AsyncIterator[Wallet]:
        async with self.device.wallet() as wallet:
            await wallet.join(timeout_seconds=30)
            yield wallet

    async def earn(self, wallet: Wallet, records: int = 1) -> None:
        """Be rewarded, one payment a record."""
        wanted = received_ucent(wallet) + records * FLOW_UCENT
        await wallet.wait_outcome(await wallet.submit([reading() for _ in range(records)]))
        await until(wallet, lambda: received_ucent(wallet) == wanted)

    def cheat(self, terms: Any) -> None:
        """As the hub's owner: start the close with nothing settled, and stay silent."""
        account = unlock(self.hub.config.account_keystore, PASSWORD)
        chain = Web3Chain(connect(self.city.rpc_url), self.city.deployment, signer=account)
        chain.start_close(terms)


def received_ucent(wallet: Wallet) -> int:
    return sum(c.received.total.transferred_ucent for c in wallet.channels())


def place_of(tower: Tower) -> TowerPlace:
    return TowerPlace(
        address=HubAddress(host="127.0.0.1", port=tower.port), signer=tower.signer.address
    )


@pytest.fixture
def hub_config(hub_city: City, tmp_path: Path) -> Path:
    return hub_folder(hub_city, tmp_path / "hub")


@pytest.fixture
def tower_config(hub_city: City, hub_config: Path, tmp_path: Path) -> Path:
    return tower_folder(hub_city, tmp_path / "tower")


@pytest.fixture
async def home(hub_city: City, hub_config: Path, tower_config: Path) -> AsyncIterator[Home]:
    async with running_hub(hub_config) as hub:
        device = await make_device(hub_city, hub, hub_config.parent.parent / "alice")
        yield Home(city=hub_city, hub=hub, device=device, hub_config=hub_config)


def row(wallet: Wallet) -> dict[str, Any]:
    (only,) = wallet.status()["towers"]
    return dict(only)


def is_covered(wallet: Wallet) -> bool:
    return bool(row(wallet)["acknowledged_ucent"]) and row(wallet)["uncovered_ucent"] == 0


def held_ucent(tower: Tower) -> list[int]:
    return [one["transferred_ucent"] for one in tower.channel_rows()]


# -- the story ------------------------------------------------------------------------------------


async def test_a_wallet_that_sleeps_while_its_hub_cheats_is_paid_in_full_by_its_tower(
    hub_city: City, hub_config: Path, tower_config: Path
) -> None:
    async with running_tower(tower_config) as tower:
        async with running_hub(hub_config) as hub:
            device = await make_device(hub_city, hub, hub_config.parent.parent / "alice")
            home = Home(city=hub_city, hub=hub, device=device, hub_config=hub_config)
            home.use(place_of(tower))
            async with home.wallet() as wallet:
                await home.earn(wallet, 3)
                (channel,) = wallet.channels()
        # The wallet sleeps; what it did not hand over before, it did when it ended.
        assert held_ucent(tower) == [3 * FLOW_UCENT]
        await trio.to_thread.run_sync(home.cheat, channel.terms)
        await until_process(lambda: tower.answerer.answered == 1)
        await trio.to_thread.run_sync(hub_city.warp, channel.terms.challenge_seconds + 1)
        await trio.to_thread.run_sync(hub_city.mine, channel.terms.challenge_blocks + 1)
        await until_process(lambda: tower.channel_rows()[0]["status"] == "closed")
        assert await device.tokens() == 3 * FLOW_UCENT
        async with device.wallet() as wallet:
            await until(wallet, lambda: wallet.channels()[0].chain is not None)
            await wallet._follower.refresh()
            view = wallet.channels()[0].chain
            assert view is not None
            assert view.status is ChainStatus.CLOSED


# -- when what is handed over ---------------------------------------------------------------------


async def test_payments_are_handed_over_together_and_the_rest_when_the_wallet_ends(
    home: Home, tower_config: Path
) -> None:
    async with running_tower(tower_config) as tower:
        home.use(place_of(tower))
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: is_covered(wallet))
            assert held_ucent(tower) == [FLOW_UCENT]
            for _ in range(5):  # within the half minute that a deposit lasts
                await home.earn(wallet)
            assert held_ucent(tower) == [FLOW_UCENT]
            assert row(wallet)["uncovered_ucent"] == 5 * FLOW_UCENT
        assert held_ucent(tower) == [6 * FLOW_UCENT]


async def test_a_wallet_that_is_awake_for_a_moment_hands_over_what_it_has(
    home: Home, tower_config: Path
) -> None:
    async with home.wallet() as wallet:
        await home.earn(wallet)
    async with running_tower(tower_config) as tower:
        home.use(place_of(tower))
        async with home.device.wallet():
            pass  # not even connected yet
        assert held_ucent(tower) == [FLOW_UCENT]


async def test_a_wallet_waits_for_no_tower_that_cannot_be_reached(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers, "HAND_OVER_SECONDS_MAX", float("inf"))
    home.use(TowerPlace(address=HubAddress(host="127.0.0.1", port=1), signer=NOBODY))
    with trio.fail_after(30):
        async with home.wallet() as wallet:
            await home.earn(wallet)


async def test_a_large_amount_is_handed_over_without_waiting(
    home: Home, tower_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers, "DEPOSIT_UCENT", 2 * FLOW_UCENT)
    monkeypatch.setattr(towers, "DEPOSIT_SECONDS_MIN", 0.01)
    async with running_tower(tower_config) as tower:
        home.use(place_of(tower))
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: is_covered(wallet))
            await home.earn(wallet)
            assert row(wallet)["uncovered_ucent"] == FLOW_UCENT  # below: it waits
            await home.earn(wallet)
            await until(wallet, lambda: is_covered(wallet))
            assert held_ucent(tower) == [3 * FLOW_UCENT]


async def test_what_waits_is_handed_over_when_its_time_has_come(
    home: Home, tower_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers, "DEPOSIT_SECONDS", 0.1)
    async with running_tower(tower_config) as tower:
        home.use(place_of(tower))
        async with home.wallet() as wallet:
            for paid in (1, 2, 3):
                await home.earn(wallet)
                await until(wallet, lambda: is_covered(wallet))
                assert held_ucent(tower) == [paid * FLOW_UCENT]


async def test_what_the_chain_has_settled_needs_no_tower(home: Home, tower_config: Path) -> None:
    async with home.wallet() as wallet:
        await home.earn(wallet)
        await trio.to_thread.run_sync(home.city.mine)
        await home.hub.settler.settle()
        await until(wallet, lambda: wallet.balance().unsettled_ucent == 0)
        async with running_tower(tower_config) as tower:
            added = await wallet.towers.add(place_of(tower))
            assert added["uncovered_ucent"] == 0
            await until(wallet, lambda: row(wallet)["connected"])
            assert held_ucent(tower) == []


async def test_a_wallet_remembers_what_its_tower_has_acknowledged(
    home: Home, tower_config: Path
) -> None:
    async with running_tower(tower_config) as tower:
        home.use(place_of(tower))
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: is_covered(wallet))
            before = row(wallet)
    ledger = Ledger(home.folder.ledger_file, schema=SCHEMA)
    ((kept,),) = [list(channels.values()) for channels in load_kept(ledger).values()]
    ledger.close()
    assert (kept.nonce, kept.transferred_ucent) == (1, FLOW_UCENT)
    async with home.device.wallet() as wallet:  # the tower is gone
        after = row(wallet)
    for key in ("acknowledged_at", "acknowledged_ucent", "uncovered_ucent"):
        assert after[key] == before[key]


async def test_a_tower_that_lost_its_database_gets_the_newest_vouchers_again(
    home: Home, tower_config: Path
) -> None:
    async with running_tower(tower_config) as tower:
        home.use(place_of(tower))
        async with home.wallet() as wallet:
            await home.earn(wallet)
    for file in (tower_config.parent / "data").glob("watchtower.sqlite*"):
        file.unlink()
    async with running_tower(tower_config) as tower:
        assert held_ucent(tower) == []
        home.use(place_of(tower))
        async with home.wallet() as wallet:
            await until(wallet, lambda: row(wallet)["connected"])
            await until_process(lambda: held_ucent(tower) == [FLOW_UCENT])


# -- towers that are no help ----------------------------------------------------------------------


async def test_a_tower_that_is_down_does_not_stop_the_wallet_and_gets_all_when_it_is_back(
    home: Home, tower_config: Path
) -> None:
    async with running_tower(tower_config) as tower:
        port = tower.port
        home.use(place_of(tower))
    async with home.wallet() as wallet:
        await until(wallet, lambda: row(wallet)["trouble"] is not None)
        await home.earn(wallet, 2)
        await wallet.pay(FLOW_UCENT, "parking")
        assert row(wallet)["uncovered_ucent"] == 2 * FLOW_UCENT
        assert "cannot be reached" in row(wallet)["trouble"]
        async with running_tower(tower_config, FARTHING_WATCHTOWER_LISTEN_PORT=str(port)) as tower:
            await until(wallet, lambda: is_covered(wallet))
            assert held_ucent(tower) == [2 * FLOW_UCENT]
            assert row(wallet)["trouble"] is None


@asynccontextmanager
async def false_tower(
    city: City, answer: Callable[[VoucherDeposit], list[Message]]
) -> AsyncIterator[TowerPlace]:
    """A tower under a good key that answers deposits as a test wants."""
    signer = new_signer()

    async def serve(stream: trio.SocketStream) -> None:
        wire = Wire(stream)
        try:
            await wire.accept(city.deployment.domain(), signer)
            while True:
                for message in await wire.receive():
                    if isinstance(message, VoucherDeposit):
                        for said in answer(message):
                            await wire.say_now(said)
        except PeerError:
            await wire.finish()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        yield TowerPlace(address=HubAddress(host="127.0.0.1", port=port), signer=signer.address)
        nursery.cancel_scope.cancel()


def kept(deposit: VoucherDeposit, **changes: Any) -> VoucherKept:
    said = VoucherKept(
        channel=deposit.channel, nonce=deposit.nonce, transferred_ucent=deposit.transferred_ucent
    )
    return replace(said, **changes)


@pytest.mark.parametrize(
    ("lie", "trouble"),
    [
        (lambda d: [kept(d, transferred_ucent=10**9)], "was not deposited"),
        (lambda d: [kept(d, nonce=d.nonce + 1)], "was not deposited"),
        (lambda d: [kept(d, channel=bytes(32))], "was not deposited"),
        (lambda d: [PaymentRefused(id=bytes(16), code="", text="")], "nothing a wallet takes"),
    ],
    ids=["a greater total", "another nonce", "another channel", "another message"],
)
async def test_a_tower_that_lies_changes_nothing(
    home: Home, lie: Callable[[VoucherDeposit], list[Message]], trouble: str
) -> None:
    async with false_tower(home.city, lie) as place:
        home.use(place)
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: trouble in str(row(wallet)["trouble"]))
            assert row(wallet)["acknowledged_ucent"] == 0
            assert row(wallet)["uncovered_ucent"] == FLOW_UCENT
            await wallet.pay(FLOW_UCENT, "parking")


async def test_a_tower_that_acknowledges_twice_is_believed_once(home: Home) -> None:
    async with false_tower(home.city, lambda d: [kept(d), kept(d)]) as place:
        home.use(place)
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: "was not deposited" in str(row(wallet)["trouble"]))
            assert row(wallet)["acknowledged_ucent"] == FLOW_UCENT


async def test_a_refusal_is_told_and_not_asked_again_at_once(home: Home) -> None:
    asked: list[VoucherDeposit] = []

    def full(deposit: VoucherDeposit) -> list[Message]:
        asked.append(deposit)
        what = {"text": "it is full", "what_to_do": "use another"}
        return [Error(code="watchtower-full", channel=deposit.channel, **what)]

    async with false_tower(home.city, full) as place:
        home.use(place)
        async with home.wallet() as wallet:
            notices = wallet.listen()
            await home.earn(wallet)
            with trio.fail_after(30):
                notice = await _first(notices, "tower-refused")
            assert notice.values["code"] == "watchtower-full"
            await home.earn(wallet)
            await wallet.pay(FLOW_UCENT, "parking")
        assert [one.transferred_ucent for one in asked] == [FLOW_UCENT]


async def test_a_tower_that_never_answers_is_dialled_anew(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers, "ANSWER_SECONDS_MAX", 0.05)
    async with false_tower(home.city, lambda _: []) as place:
        home.use(place)
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: "was not answered" in str(row(wallet)["trouble"]))
            assert row(wallet)["acknowledged_ucent"] == 0


async def test_a_tower_under_another_key_than_the_one_on_the_list_is_handed_nothing(
    home: Home,
) -> None:
    asked: list[VoucherDeposit] = []
    async with false_tower(home.city, lambda d: [*map(kept, [d]), *asked]) as place:
        home.use(replace(place, signer=NOBODY))
        async with home.wallet() as wallet:
            await home.earn(wallet)
            await until(wallet, lambda: row(wallet)["trouble"] is not None)
            assert row(wallet)["uncovered_ucent"] == FLOW_UCENT
            assert not row(wallet)["connected"]


async def _first(notices: trio.MemoryReceiveChannel[Notice], kind: str) -> Notice:
    async for notice in notices:
        if notice.kind == kind:
            return notice
    raise AssertionError("the wallet ended")


# -- the list -------------------------------------------------------------------------------------


async def test_a_running_wallet_takes_up_and_drops_a_tower(home: Home, tower_config: Path) -> None:
    async with home.wallet() as wallet, running_tower(tower_config) as tower:
        await home.earn(wallet)
        await wallet.towers.add(place_of(tower))
        with pytest.raises(towers.TowerKnown):
            await wallet.towers.add(place_of(tower))
        await until(wallet, lambda: is_covered(wallet))
        assert home.folder.settings().towers == (place_of(tower),)
        assert json.loads(home.folder.settings_file.read_text())["towers"]
        await wallet.towers.remove(tower.signer.address)
        with pytest.raises(towers.TowerUnknown):
            await wallet.towers.remove(tower.signer.address)
        assert home.folder.settings().towers == ()
        assert wallet.status()["towers"] == []
        await until_process(lambda: not tower.reception.connected)
        assert held_ucent(tower) == [FLOW_UCENT]  # what it holds it keeps


async def test_a_wallet_has_a_handful_of_towers(home: Home) -> None:
    nowhere = HubAddress(host="127.0.0.1", port=1)
    async with home.device.wallet() as wallet:
        for _ in range(TOWERS_MAX):
            await wallet.towers.add(TowerPlace(address=nowhere, signer=new_signer().address))
        hub = home.folder.settings().hub_signer
        with pytest.raises(towers.TowerIsTheHub):
            await wallet.towers.add(TowerPlace(address=nowhere, signer=hub))
        with pytest.raises(towers.TooManyTowers):
            await wallet.towers.add(TowerPlace(address=nowhere, signer=NOBODY))
