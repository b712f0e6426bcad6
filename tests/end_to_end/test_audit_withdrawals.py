"""The auditor on withdrawals that a real hub and wallet made, and on one that an insider signed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.eip712 import withdrawal_digest
from farthing.channels.events import AskedWithdraw
from farthing.channels.ids import address_to_hex, to_hex
from farthing.channels.state import ACT_AGAIN_SECONDS
from farthing.node.control import Operator
from farthing.node.hub import Hub

from ..hub_world import (
    DEPOSIT_UCENT,
    FLOW_UCENT,
    City,
    TinyWallet,
    build_city,
    farthing_beside,
    hub_folder,
    running_hub,
    tiny_wallet,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_hub")


@dataclass
class Agency:
    """A hub with contracts of its own, alice, and what an auditor is given."""

    city: City
    hub: Hub
    alice: TinyWallet
    folder: Path

    async def pass_time(self, seconds: int) -> None:
        await trio.to_thread.run_sync(self.city.warp, seconds)
        await self.hub.follower.catch_up()
        await self.alice.look()

    async def withdraws(self, amount_ucent: int) -> None:
        """Alice withdraws; the hub brings it to the chain."""
        self.alice.driver.feed(self.alice.channel.id, AskedWithdraw(amount_ucent=amount_ucent))
        pending = self.alice.channel.withdrawals[1]
        assert pending is not None
        total = pending.terms.total_ucent
        held = self.alice.withdrawals
        await self.alice.until(lambda: any(w.terms.total_ucent == total for w in held))
        await self.pass_time(ACT_AGAIN_SECONDS)
        await until(lambda: self._withdrawn() >= total)
        await self.alice.look()

    def _withdrawn(self) -> int:
        view = self.hub.driver.get(self.alice.channel.id).chain
        assert view is not None
        return view.withdrawn_ucent[1]

    async def asks(self, method: str, **params: Any) -> Any:
        return await Operator(self.hub).methods()[method](params)

    async def audit(self, code: int) -> dict[str, Any]:
        receipts = self.folder / "receipts.jsonl"
        receipts.unlink(missing_ok=True)
        config = self.folder / "hub" / "hub.toml"
        done = await farthing_beside("hub", "receipts", "--out", receipts, "--config", config)
        assert done.code == 0, done.err
        done = await farthing_beside(
            *("audit", "check", "--json", "--rpc", self.city.rpc_url),
            *("--deployment", self.city.deployment_file, "--receipts", receipts),
        )
        assert done.code == code, done.out
        record: dict[str, Any] = done.json
        return record

    async def insider_signs(self, total_ucent: int) -> None:
        """Both keys sign a withdrawal for alice that no voucher covers; the contract takes it."""
        channel, alice = self.alice.channel, self.alice.account
        expires = self.city.chain.head().timestamp + 100
        digest = withdrawal_digest(
            self.city.deployment.domain().separator(),
            channel=channel.id,
            account=alice,
            total_ucent=total_ucent,
            expires=expires,
        )
        signatures = [s.sign_digest(digest) for s in (self.hub.signer, self.alice.signer)]
        await self.hub.watcher._desk.send(
            lambda chain: chain.withdraw(
                channel.terms,
                account=alice,
                total_ucent=total_ucent,
                expires=expires,
                signatures=signatures,
            )
        )


async def test_withdrawals_tie_out_and_one_that_no_voucher_covers_is_named(
    hub_city: City, tmp_path: Path
) -> None:
    city = await trio.to_thread.run_sync(build_city, hub_city.rpc_url, tmp_path)
    config = await trio.to_thread.run_sync(hub_folder, city, tmp_path / "hub")
    async with (
        running_hub(config) as hub,
        tiny_wallet(city, tmp_path) as alice,
        alice.connected(hub),
    ):
        agency = Agency(city=city, hub=hub, alice=alice, folder=tmp_path)
        await alice.join()
        await alice.submit("1", "2", "3", "4")
        await alice.wait_received(4 * FLOW_UCENT)
        alice.pay(5_000)
        await alice.wait_quiet()
        await agency.pass_time(1)
        await agency.withdraws(20_000)
        await agency.asks("settle")
        channel = to_hex(alice.channel.id)
        await agency.asks("withdraw", channel=channel, amount_ucent=1_000_000)
        await until(lambda: hub.channel_rows()[0]["withdrawn_ucent"] == 1_000_000)
        await alice.look()
        await agency.withdraws(4 * FLOW_UCENT - 5_000 - 20_000)  # all she has
        honest = await agency.audit(0)
        assert honest["ok"] is True
        assert honest["withdrawals_ucent"] == 1_000_000 + 4 * FLOW_UCENT - 5_000
        assert honest["difference_ucent"] == 0
        assert honest["locked_ucent"] == DEPOSIT_UCENT - honest["withdrawals_ucent"]

        await agency.insider_signs(4 * FLOW_UCENT - 5_000 + 700)
        await hub.follower.catch_up()
        await alice.submit("5")  # which covers it, too late
        await alice.wait_received(5 * FLOW_UCENT)
        named = await agency.audit(1)
        (finding,) = (f for f in named["findings"] if f["severity"] == "failure")
        assert finding["code"] == "withdrew-too-much"
        assert finding["channel"] == channel
        assert finding["payer"] == address_to_hex(alice.account)
        assert address_to_hex(alice.account) in finding["text"]
        assert "700 µ¢ that no voucher covers" in finding["text"]
        assert named["difference_ucent"] == 0
