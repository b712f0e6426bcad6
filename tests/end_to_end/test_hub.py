"""A hub on a real devnet, over real sockets, with a real database: what a wallet gets from it."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from farthing.channels.client.exports import export_receipts
from farthing.channels.client.ledger import RECEIVED, SENT
from farthing.channels.errors import LocalError
from farthing.channels.events import AskedClose
from farthing.channels.ids import ChannelId, address_to_hex, to_hex
from farthing.channels.messages import (
    Ack,
    Authenticate,
    Challenge,
    ChannelProposal,
    ChannelTerms,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Error,
    Hello,
    Message,
    PaymentRefused,
    PaymentRequest,
    Pong,
    ReadingOutcome,
    Reestablish,
    SubmitReadings,
    Update,
)
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.senml import PackFormat
from farthing.channels.state import ChainStatus, Phase
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN
from farthing.channels.voucher import Payment
from farthing.contracts.members import MemberStatus
from farthing.node import engine, requests
from farthing.node.chain import OpenRow, Web3Chain
from farthing.node.control import Operator
from farthing.node.hub import Hub
from farthing.node.sender import Sender, connect

from ..hub_world import (
    DEPOSIT_UCENT,
    FLOW_UCENT,
    PROGRAMME,
    City,
    TinyWallet,
    hub_folder,
    new_signer,
    rewarded_times,
    running_hub,
    submit_message,
    tiny_wallet,
    until,
)
from ..people import payment

pytestmark = pytest.mark.usefixtures("quick_hub")


async def make_config(city: City, folder: Path, **settings: Any) -> Path:
    return await trio.to_thread.run_sync(lambda: hub_folder(city, folder / "hub", **settings))


@asynccontextmanager
async def joined(
    city: City, folder: Path, **settings: Any
) -> AsyncIterator[tuple[Hub, TinyWallet]]:
    """A hub and alice, who is connected and has a channel with it."""
    config = await make_config(city, folder, **settings)
    async with (
        running_hub(config) as hub,
        tiny_wallet(city, folder) as alice,
        alice.connected(hub),
    ):
        await alice.join()
        yield hub, alice


def ask(hub: Hub, method: str, **params: Any) -> Any:
    """Ask as the operator's commands do."""
    return Operator(hub).methods()[method](params)


# -- rewards and payments -------------------------------------------------------------------------


async def test_a_wallet_joins_is_rewarded_and_pays(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        assert alice.channel.chain is not None
        assert alice.channel.chain.deposit_ucent == (DEPOSIT_UCENT, 0)
        outcome = await alice.submit("1.5", "200", "2")
        assert [o.amount_ucent for o in outcome.outcomes] == [FLOW_UCENT, 0, FLOW_UCENT]
        assert [o.nonce for o in outcome.outcomes] == [1, 0, 2]
        assert outcome.outcomes[1].code == "implausible"
        await alice.wait_received(2 * FLOW_UCENT)
        alice.pay(FLOW_UCENT)
        await alice.wait_quiet()
        status = await ask(hub, "status")
        assert status["rewarded_ucent"] == 2 * FLOW_UCENT
        assert status["received_ucent"] == FLOW_UCENT
        (row,) = await ask(hub, "channels")
        assert row["account"] == address_to_hex(alice.account)
        assert row["available_ucent"] == DEPOSIT_UCENT - FLOW_UCENT


async def test_a_reward_outcome_and_its_payment_are_one_commit(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        packs = [secrets.token_bytes(16) for _ in range(50)]
        for pack in packs:
            alice.send(submit_message(pack, "1"))
        await alice.until(lambda: all(alice.answers(pack) for pack in packs))
        stored = {pack: hub.store.outcomes(alice.signer.address, pack) for pack in packs}
        nonces = [outcomes[0].nonce for outcomes in stored.values() if outcomes]
        assert nonces == list(range(1, 51))
        assert sum(1 for _ in hub.store.ledger.payments(alice.channel.id, SENT)) == 50
        assert hub.store.spent_ucent("test-block") == 50 * FLOW_UCENT
        assert len(rewarded_times(hub.store, alice.account)) == 50


async def test_a_submission_is_rewarded_once_however_often_it_comes(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    pack = submit_message(secrets.token_bytes(16), "1", "2")
    async with tiny_wallet(hub_city, tmp_path) as alice:
        async with running_hub(config) as hub:
            async with alice.connected(hub):
                await alice.join()
                for _ in range(3):  # before the first is committed, and after
                    alice.send(pack)
                await alice.until(lambda: bool(alice.answers(pack.id)))
                first = alice.answers(pack.id)[0]
            async with alice.connected(hub):  # on another connection
                await alice.wait_live()
                alice.send(pack)
                await alice.until(lambda: len(alice.answers(pack.id)) > 1)
        async with running_hub(config) as hub, alice.connected(hub):  # and to another process
            await alice.wait_live()
            before = len(alice.answers(pack.id))
            alice.send(pack)
            await alice.until(lambda: len(alice.answers(pack.id)) > before)
            assert all(answer == first for answer in alice.answers(pack.id))
            assert hub.status()["rewarded_ucent"] == 2 * FLOW_UCENT
            # the same readings under a new id: refused by their moment
            again = SubmitReadings(id=bytes(16), format=pack.format, senml=pack.senml)
            alice.send(again)
            await alice.until(lambda: bool(alice.answers(bytes(16))))
            codes = [o.code for o in alice.answers(bytes(16))[0].outcomes]
            assert codes == ["duplicate", "duplicate"]


async def test_a_programmes_budget_ends_its_rewards(hub_city: City, tmp_path: Path) -> None:
    programme = PROGRAMME.replace("[[tariff]]", f"budget_ucent = {2 * FLOW_UCENT}\n\n[[tariff]]")
    async with joined(hub_city, tmp_path, programme=programme) as (_, alice):
        outcome = await alice.submit("1", "2", "3")
        assert [o.code for o in outcome.outcomes] == ["", "", "budget-spent"]
        assert "appeals@test.example" in outcome.outcomes[2].what_to_do


async def test_without_liquidity_a_reward_is_refused_for_now_and_paid_once_there_is_some(
    hub_city: City, tmp_path: Path
) -> None:
    settings = {"deposit_ucent": FLOW_UCENT, "top_up_member_day_ucent": 0}
    async with joined(hub_city, tmp_path, **settings) as (_, alice):
        await alice.submit("1")
        await alice.wait_received(FLOW_UCENT)
        pack = secrets.token_bytes(16)
        refused = await alice.submit("2", "3", submission=pack)
        assert [o.code for o in refused.outcomes] == ["insufficient-balance"]
        alice.pay(FLOW_UCENT)
        await alice.wait_quiet()
        assert (await alice.submit("2", submission=pack)).outcomes[0].nonce == 2


async def test_a_removed_member_is_not_rewarded_any_more(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        await alice.submit("1")
        await trio.to_thread.run_sync(
            lambda: hub_city.register(alice.account, status=MemberStatus.REMOVED)
        )
        await hub.follower.catch_up()
        pack = secrets.token_bytes(16)
        refused = await alice.submit("2", submission=pack)
        assert refused.outcomes[0].code == "not-a-member"
        await trio.to_thread.run_sync(lambda: hub_city.register(alice.account))
        await hub.follower.catch_up()
        assert (await alice.submit("2", submission=pack)).outcomes[0].amount_ucent == FLOW_UCENT


async def test_a_hub_restarted_in_between_goes_on_with_the_same_lanes(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    async with tiny_wallet(hub_city, tmp_path) as alice:
        for round_ in range(1, 4):
            async with running_hub(config) as hub, alice.connected(hub):
                if round_ == 1:
                    alice.propose()
                await alice.wait_live()
                assert (await alice.submit("1")).outcomes[0].nonce == round_
                alice.pay(1)
                await alice.wait_quiet()
        assert alice.channel.received.total.transferred_ucent == 3 * FLOW_UCENT
        assert alice.channel.sent.total.nonce == 3


async def test_every_receipt_of_both_lanes_is_exported(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        await alice.submit("1", "2")
        await alice.wait_received(2 * FLOW_UCENT)
        alice.pay(7)
        await alice.wait_quiet()
        database = hub.config.data_dir / "hub.sqlite"
        count, ucent = await trio.to_thread.run_sync(
            export_receipts, database, tmp_path / "receipts.jsonl"
        )
        assert (count, ucent) == (3, 2 * FLOW_UCENT + 7)


# -- opening channels -----------------------------------------------------------------------------


async def test_wallets_that_join_at_once_get_their_channels_in_one_transaction(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    async with (
        tiny_wallet(hub_city, tmp_path, name="alice") as alice,
        tiny_wallet(hub_city, tmp_path, name="bob") as bob,
        running_hub(config) as hub,
        alice.connected(hub),
        bob.connected(hub),
    ):
        async with hub.opener._turn:  # nothing is opened before both have proposed
            alice.propose()
            bob.propose()
            bob.propose()  # a repeat opens nothing more
            await until(lambda: len(hub.engine.proposed(9)) == 2)
        blocks = {(await wallet.wait_live()).terms.sequence for wallet in (alice, bob)}
        assert len(blocks) == len(hub.driver.channels) == 2


async def test_a_wallet_that_is_no_member_learns_so(hub_city: City, tmp_path: Path) -> None:
    config = await make_config(hub_city, tmp_path)
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path, registered=False) as mallory,
        mallory.connected(hub),
    ):
        mallory.propose()
        await mallory.until(lambda: bool(mallory.errors("not-a-member")))
        assert address_to_hex(mallory.account) in mallory.errors("not-a-member")[0].text
        outcome = await mallory.submit("1")
        assert outcome.outcomes[0].code == "no-channel"


async def test_a_wallet_that_wants_a_longer_window_is_refused_before_money_is_locked(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path) as alice,
        alice.connected(hub),
    ):
        for seconds, blocks in ((601, 10), (600, 11), (2**64 - 1, 2**64 - 1)):
            alice.heard.clear()
            alice.send(
                ChannelProposal(
                    account=alice.account, challenge_seconds=seconds, challenge_blocks=blocks
                )
            )
            await alice.until(lambda: bool(alice.errors("window-too-short")))
        assert not hub.driver.channels


async def test_a_wallet_that_proposes_somebody_else_s_account_gets_no_channel(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path) as mallory,
        mallory.connected(hub),
    ):
        mallory.propose(hub.account)
        await mallory.until(lambda: bool(mallory.errors("account-not-proven")))


async def test_a_hub_that_is_full_says_so(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path, channels_max=1) as (hub, _):
        async with tiny_wallet(hub_city, tmp_path, name="bob") as bob, bob.connected(hub):
            bob.propose()
            await bob.until(lambda: bool(bob.errors("hub-full")))
        with pytest.raises(Exception, match="1 more channels are asked for") as caught:
            await ask(
                hub,
                "open",
                pairs=[[address_to_hex(bob.account), address_to_hex(bob.signer.address)]],
            )
        assert getattr(caught.value, "code", None) == "hub-full"


async def test_a_hub_without_credit_tells_wallets_to_come_back(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path, deposit_ucent=2**70)
    async with (
        running_hub(config) as hub,
        tiny_wallet(hub_city, tmp_path) as alice,
        alice.connected(hub),
    ):
        alice.propose()
        await alice.until(lambda: bool(alice.errors("hub-out-of-funds")))
        assert "join again later" in alice.errors("hub-out-of-funds")[0].what_to_do


async def test_an_operator_opens_channels_and_twice_is_once(hub_city: City, tmp_path: Path) -> None:
    config = await make_config(hub_city, tmp_path)
    async with running_hub(config) as hub, tiny_wallet(hub_city, tmp_path) as alice:
        stranger = [address_to_hex(new_signer().address)] * 2
        pairs = [[address_to_hex(alice.account), address_to_hex(alice.signer.address)], stranger]
        assert await ask(hub, "open", pairs=pairs) == {"asked": 2, "opened": 1, "open_before": 0}
        assert len(hub.driver.channels) == 1  # it is known as soon as the command ends
        assert await ask(hub, "open", pairs=pairs[:1]) == {
            "asked": 1,
            "opened": 0,
            "open_before": 1,
        }
        async with alice.connected(hub):  # it finds its channel without asking for one
            await alice.wait_live()


async def test_a_channel_that_somebody_else_opens_in_the_hubs_name_is_not_taken_up(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    mallory = new_signer()
    async with running_hub(config) as hub, tiny_wallet(hub_city, tmp_path) as alice:

        def impose() -> None:
            hub_city.register(mallory.address)
            web3 = connect(hub_city.rpc_url)
            chain = Web3Chain(web3, hub_city.deployment, signer=mallory)
            chain.open_many(
                [OpenRow(account_b=alice.account, signer_b=alice.signer.address)],
                account=hub.account,
                signer=hub.signer.address,
                challenge_seconds=CHALLENGE_SECONDS_MIN,
                challenge_blocks=CHALLENGE_BLOCKS_MIN,
                deposit_ucent=0,
            )

        await trio.to_thread.run_sync(impose)
        await hub.follower.catch_up()
        assert not hub.driver.channels
        async with alice.connected(hub):
            await alice.join()
            assert alice.channel.chain is not None
            assert alice.channel.chain.deposit_ucent[0] == DEPOSIT_UCENT


async def test_the_newest_connection_of_a_wallet_takes_over(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        before = alice.heard
        alice.heard = []
        async with alice.connected(hub):
            await alice.wait_live()
            assert (await alice.submit("1")).outcomes[0].nonce == 1
        replaced = [m for m in before + alice.heard if isinstance(m, Error)]
        assert [m.code for m in replaced] == ["replaced"]


# -- what a wallet can send wrongly ---------------------------------------------------------------


SOME = ChannelId(b"\x07" * 32)
CLOSE: dict[str, Any] = {
    "transferred_a_ucent": 1,
    "transferred_b_ucent": 2**96 - 1,
    "expires": 2**64 - 1,
    "signature": b"\x01" * 65,
}
UNEXPECTED: list[Message] = [
    Hello(
        version=1,
        features=0,
        chain_id=1,
        contract=b"\1" * 20,  # type: ignore[arg-type]  # bytes are what the wire gives
        signer=b"\1" * 20,  # type: ignore[arg-type]  # as above
        peer=b"\1" * 20,  # type: ignore[arg-type]  # as above
        nonce=bytes(32),
    ),
    Challenge(version=1, features=0, signer=b"\1" * 20, nonce=bytes(32)),  # type: ignore[arg-type]
    Authenticate(signature=bytes(65)),
    ChannelTerms(
        account_a=b"\1" * 20,  # type: ignore[arg-type]  # as above
        signer_a=b"\2" * 20,  # type: ignore[arg-type]  # as above
        account_b=b"\3" * 20,  # type: ignore[arg-type]  # as above
        signer_b=b"\4" * 20,  # type: ignore[arg-type]  # as above
        challenge_seconds=2**64 - 1,
        challenge_blocks=0,
        sequence=0,
    ),
    ReadingOutcome(id=bytes(16), outcomes=()),
]
UNLINKED: list[Message] = [
    Reestablish(channel=SOME, sent=None, received=None),
    Ack(channel=SOME, nonce=2**64 - 1, history=bytes(32)),
    CloseRequest(channel=SOME),
    CloseOffer(channel=SOME, **CLOSE),
    CloseAccept(channel=SOME, **CLOSE),
]


async def test_messages_that_no_wallet_sends_are_answered_and_harm_nobody(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (_, alice):
        for message in UNEXPECTED:
            alice.send(message)
        for message in UNLINKED:
            alice.send(message)
        await alice.until(lambda: len(alice.errors("unexpected-message")) == len(UNEXPECTED))
        await alice.until(lambda: len(alice.errors("unknown-channel")) == len(UNLINKED))
        alice.send(Pong(token=0))
        alice.send(PaymentRefused(id=bytes(16), code="", text=""))
        assert (await alice.submit("1")).outcomes[0].nonce == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda c: Ack(channel=c, nonce=99, history=bytes(32)),
        lambda c: CloseOffer(channel=c, **CLOSE),
        lambda c: CloseAccept(channel=c, **CLOSE),
        lambda c: Update(channel=c, first_nonce=5, signature=bytes(65), payments=(payment(1),)),
        lambda c: Update(channel=c, first_nonce=1, signature=b"\1" * 65, payments=(payment(1),)),
    ],
    ids=["ack", "offer", "accept", "gap", "forgery"],
)
async def test_a_wallet_that_breaks_the_protocol_loses_its_connection_and_nothing_else(
    hub_city: City, tmp_path: Path, make: Callable[[ChannelId], Message]
) -> None:
    async with joined(hub_city, tmp_path) as (hub, mallory):
        await mallory.submit("1")
        mallory.send(make(mallory.channel.id))
        await mallory.until(lambda: mallory.ended is not None or mallory.channel.sent.quiet)
        async with tiny_wallet(hub_city, tmp_path, name="bob") as bob, bob.connected(hub):
            await bob.join()
            assert (await bob.submit("1")).outcomes[0].nonce == 1
        async with mallory.connected(hub):
            await mallory.wait_live()
            assert (await mallory.submit("2")).outcomes[0].nonce == 2


BAD_PACKS: list[tuple[int, bytes, str]] = [
    (0, b"[]", "unknown-senml-format"),
    (255, b"[]", "unknown-senml-format"),
    (PackFormat.JSON, b"", "not-json"),
    (PackFormat.JSON, b"[" * 5000, "not-json"),
    (PackFormat.JSON, b'[{"n":"a","\\ud800_":1,"v":1}]', "unknown-requirement"),
    (PackFormat.CBOR, b"\x9f" * 100, "not-cbor"),
    (PackFormat.JSON, b"[{}]" + b" " * (48 * 1024 - 4), "malformed-name"),
    (PackFormat.JSON, b"[" + b'{"n":"a/flow","v":1},' * 64 + b"{}]", "too-many-records"),
]


async def test_a_pack_that_cannot_be_read_gets_one_refusal(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (_, alice):
        for pack_format, senml, code in BAD_PACKS:
            pack = SubmitReadings(id=secrets.token_bytes(16), format=pack_format, senml=senml)
            alice.send(pack)
            await alice.until(lambda p=pack: bool(alice.answers(p.id)))  # type: ignore[misc]
            (outcome,) = alice.answers(pack.id)[0].outcomes
            assert (outcome.code, outcome.amount_ucent) == (code, 0)
            assert outcome.what_to_do


async def test_a_flood_of_errors_ends_that_connection_only(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, mallory):
        noise = Error(code="x\x1b[2J", channel=b"", text="line\nline", what_to_do="")
        for _ in range(engine.ERRORS_HEARD_MAX + 1):
            mallory.send(noise)
        await mallory.until(lambda: mallory.ended is not None)
        async with mallory.connected(hub):
            await mallory.wait_live()
        assert mallory.errors("too-many-errors")


# -- requests to be paid --------------------------------------------------------------------------


def request_of(alice: TinyWallet, **changes: Any) -> PaymentRequest:
    fields: dict[str, Any] = {
        "channel": alice.channel.id,
        "id": secrets.token_bytes(16),
        "amount_ucent": 5000,
        "purpose": "good-deed",
        "expires": 2**64 - 1,
        **changes,
    }
    return PaymentRequest(**fields)


def refusals(alice: TinyWallet) -> list[PaymentRefused]:
    return [m for m in alice.heard if isinstance(m, PaymentRefused)]


async def test_an_operator_pays_a_wallets_request_once(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        request = request_of(alice)  # expires is beyond what SQLite's integers hold
        alice.send(request)
        alice.send(request)
        await until(lambda: bool(hub.engine.requests.listed()))
        (row,) = await ask(hub, "requests")
        assert (row["asked_by"], row["state"], row["expires"]) == ("wallet", "open", 2**64 - 1)
        assert await ask(hub, "answer", id=row["id"], pay=True) == {
            "id": row["id"],
            "state": "paid",
        }
        await alice.wait_received(5000)
        with pytest.raises(Exception, match="is paid already"):
            await ask(hub, "answer", id=row["id"], pay=True)
        alice.send(request)  # repeated after a reconnect: nothing more
        assert (await alice.submit("1")).outcomes[0].nonce == 2
        await alice.driver.wait_durable()
        first = next(alice.ledger.payments(alice.channel.id, RECEIVED))
        assert first.payment.receipt.type is ReceiptType.REQUEST
        assert first.payment.receipt.fields()["request"] == request.id


async def test_two_answers_before_the_commit_pay_once(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        request = request_of(alice)
        alice.send(request)
        await until(lambda: bool(hub.engine.requests.listed()))
        hub.engine.requests.pay(request.id)
        with pytest.raises(Exception, match="waits for an answer"):
            hub.engine.requests.pay(request.id)
        await alice.wait_received(5000)
        assert hub.driver.get(alice.channel.id).sent.total.nonce == 1


async def test_an_operator_refuses_a_request_and_a_repeat_hears_it_again(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        request = request_of(alice)
        alice.send(request)
        await until(lambda: bool(hub.engine.requests.listed()))
        await ask(hub, "answer", id=to_hex(request.id), pay=False)
        await alice.until(lambda: len(refusals(alice)) == 1)
        alice.send(request)
        await alice.until(lambda: len(refusals(alice)) == 2)
        assert refusals(alice)[1].text == "the operator refused it"
        assert [row["state"] for row in await ask(hub, "requests")] == ["refused"]


async def test_a_request_that_no_receipt_could_answer_is_refused_at_once(
    hub_city: City, tmp_path: Path
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"amount_ucent": 0}, "asks for nothing"),
        ({"expires": 1}, "expired"),
        ({"purpose": ""}, "0 characters"),
        ({"purpose": "x" * 65}, "65 characters"),
        ({"purpose": "a\x00b"}, "characters"),
        ({"channel": bytes(32)}, "no such channel"),
    ]
    async with joined(hub_city, tmp_path) as (hub, alice):
        for changes, text in wrong:
            before = len(refusals(alice))
            alice.send(request_of(alice, **changes))
            await alice.until(lambda n=before: len(refusals(alice)) > n)  # type: ignore[misc]
            assert text in refusals(alice)[-1].text
        assert hub.engine.requests.listed() == []


async def test_an_absurd_amount_is_kept_and_cannot_be_paid(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path, top_up_member_day_ucent=0) as (hub, alice):
        request = request_of(alice, amount_ucent=2**96 - 1)
        alice.send(request)
        await until(lambda: bool(hub.engine.requests.listed()))
        with pytest.raises(Exception, match="are needed"):
            await ask(hub, "answer", id=to_hex(request.id), pay=True)
        assert [row["state"] for row in await ask(hub, "requests")] == ["open"]


async def test_one_wallet_cannot_fill_the_operators_list(
    hub_city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        for _ in range(requests.REQUESTS_OF_CHANNEL_MAX + 1):
            alice.send(request_of(alice))
        await alice.until(lambda: bool(refusals(alice)))
        assert "of this wallet wait already" in refusals(alice)[0].text
        monkeypatch.setattr(requests, "REQUESTS_OPEN_MAX", 1)
        alice.send(request_of(alice))
        await alice.until(lambda: len(refusals(alice)) > 1)
        assert "wait for the operator already" in refusals(alice)[1].text
        taken = hub.engine.requests.listed()[0]
        async with tiny_wallet(hub_city, tmp_path, name="bob") as bob, bob.connected(hub):
            await bob.join()
            await hub.driver.wait_durable()
            hub.engine.requests.refuse(taken.id, "no")
            await hub.driver.wait_durable()
            bob.send(request_of(bob, id=taken.id))
            await bob.until(lambda: bool(refusals(bob)))
            assert "names another request" in refusals(bob)[0].text


async def test_a_request_that_nobody_decides_expires(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        expires = hub.follower.moment().head_timestamp + 5
        request = request_of(alice, expires=expires)
        alice.send(request)
        await until(lambda: bool(hub.engine.requests.listed()))
        await trio.to_thread.run_sync(hub_city.warp, 10)
        await hub.follower.catch_up()
        assert hub.engine.requests.listed() == []
        await hub.driver.wait_durable()
        with pytest.raises(Exception, match="is expired already"):
            await ask(hub, "answer", id=to_hex(request.id), pay=True)


async def test_the_hub_asks_a_wallet_and_sees_what_becomes_of_it(
    hub_city: City, tmp_path: Path
) -> None:
    config = await make_config(hub_city, tmp_path)
    async with tiny_wallet(hub_city, tmp_path) as alice:
        async with running_hub(config) as hub:
            async with alice.connected(hub):
                await alice.join()
                channel = to_hex(alice.channel.id)
                await alice.submit("1")
                asked = await ask(
                    hub, "request", channel=channel, amount_ucent=5, purpose="parking"
                )
                assert asked["sent"]
                await alice.until(lambda: bool(asked_of(alice)))
                other = await ask(hub, "request", channel=channel, amount_ucent=6, purpose="p")
                third = await ask(hub, "request", channel=channel, amount_ucent=7, purpose="p")
                alice.send(PaymentRefused(id=id_of(other), code="no", text="too dear"))
                answer(alice, id_of(third), 6)  # too little
                answer(alice, id_of(asked), 5)
                await alice.wait_quiet()
                await hub.driver.wait_durable()
                states = {r["id"]: r["state"] for r in await ask(hub, "requests")}
                assert states == {
                    asked["id"]: "paid",
                    other["id"]: "refused",
                    third["id"]: "open",
                }
            late = await ask(hub, "request", channel=channel, amount_ucent=8, purpose="later")
            assert not late["sent"]
        async with running_hub(config) as hub, alice.connected(hub):
            await alice.wait_live()  # what is open comes again
            await alice.until(
                lambda: {id_of(third), id_of(late)} <= {m.id for m in asked_of(alice)}
            )


def asked_of(alice: TinyWallet) -> list[PaymentRequest]:
    return [m for m in alice.heard if isinstance(m, PaymentRequest)]


def id_of(row: dict[str, Any]) -> bytes:
    return bytes.fromhex(row["id"][2:])


def answer(alice: TinyWallet, request: bytes, amount_ucent: int) -> None:
    """Pay with a receipt that names the request."""
    fields = {
        "amount": amount_ucent,
        "block": 1,
        "at": 1,
        "purpose": "answer",
        "request": request,
    }
    receipt = make_receipt(ReceiptType.REQUEST, fields, salt=secrets.token_bytes(32))
    alice.driver.pay(alice.channel.id, (Payment(amount_ucent=amount_ucent, receipt=receipt),), ())


async def test_a_wallet_cannot_refuse_in_anothers_name(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        asked = await ask(
            hub, "request", channel=to_hex(alice.channel.id), amount_ucent=5, purpose="parking"
        )
        async with (
            tiny_wallet(hub_city, tmp_path, name="mallory") as mallory,
            mallory.connected(hub),
        ):
            mallory.send(PaymentRefused(id=id_of(asked), code="no", text=""))
            await mallory.join()
            await mallory.submit("1")
            await mallory.wait_received(FLOW_UCENT)
            answer(mallory, id_of(asked), 5)  # nor pay for her
            await mallory.wait_quiet()
        assert [row["state"] for row in await ask(hub, "requests")] == ["open"]


# -- settlement and closing -----------------------------------------------------------------------


async def test_both_lanes_are_settled_when_they_are_due(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path, settle_unsettled_ucent=FLOW_UCENT) as (hub, alice):
        await alice.submit("1", "2")
        await alice.wait_received(2 * FLOW_UCENT)
        alice.pay(FLOW_UCENT)
        await alice.wait_quiet()

        def settled() -> tuple[int, int]:
            chain = hub.driver.get(alice.channel.id).chain
            return (0, 0) if chain is None else chain.settled_ucent

        await until(lambda: settled() == (2 * FLOW_UCENT, FLOW_UCENT))
        await hub.driver.wait_durable()
        assert sum(row["settled"] for row in hub.store.settlements()) >= 2


async def test_an_operator_settles_now_and_nothing_twice(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        await alice.submit("1")
        await alice.wait_received(FLOW_UCENT)
        first = await ask(hub, "settle")
        assert (first["settled"], first["skipped"], first["confirmed"]) == (1, 0, True)
        again = await ask(hub, "settle")
        assert again["transactions"] == []
        assert hub.status()["settled_ucent"] == FLOW_UCENT


async def test_a_close_in_agreement_pays_both_parties(hub_city: City, tmp_path: Path) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        await alice.submit("1", "2")
        await alice.wait_received(2 * FLOW_UCENT)
        alice.pay(1)
        await alice.wait_quiet()
        alice.ask_close()
        await until(lambda: hub.driver.get(alice.channel.id).phase is Phase.CLOSED)
        paid = await trio.to_thread.run_sync(hub_city.treasury.balance_ucent, alice.account)
        assert paid == 2 * FLOW_UCENT - 1
        await alice.look()
        assert alice.channel.phase is Phase.CLOSED
        # and the wallet may have another channel
        await alice.join()
        assert len(hub.driver.channels) == 2


async def test_the_operator_asks_for_a_close_and_the_wallet_agrees(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        await alice.submit("1")
        await alice.wait_received(FLOW_UCENT)
        asked = await ask(hub, "close", channel=to_hex(alice.channel.id))
        assert asked["asked"]
        await alice.until(lambda: bool(alice.closes))  # which this wallet does not submit
        await trio.to_thread.run_sync(hub_city.warp, 20)
        await until(lambda: hub.driver.get(alice.channel.id).phase is Phase.CLOSED)


async def test_a_close_that_was_submitted_already_does_no_harm(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        await alice.submit("1")
        await alice.wait_received(FLOW_UCENT)
        alice.ask_close()
        await until(lambda: hub.driver.get(alice.channel.id).close is not None)
        close = hub.driver.get(alice.channel.id).close
        assert close is not None
        await until(lambda: hub.driver.get(alice.channel.id).phase is Phase.CLOSED)
        hub.engine.on_submit_close(hub.driver.get(alice.channel.id), close)
        await until(lambda: not hub.engine.closes)
        assert (await ask(hub, "status"))["channels"] == 1


async def test_a_dishonest_close_is_answered_with_the_newest_vouchers_and_finished(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, mallory):
        await mallory.submit("1", "2")
        await mallory.wait_received(2 * FLOW_UCENT)
        mallory.pay(FLOW_UCENT)
        await mallory.wait_quiet()
        terms, channel = mallory.channel.terms, mallory.channel.id

        def start_close() -> None:  # before anything is settled: she hides what she paid
            web3 = connect(hub_city.rpc_url)
            contract: Any = hub_city.chain._channels
            values = tuple(
                address_to_hex(v) if isinstance(v, bytes) else v
                for v in (getattr(terms, n) for n in type(terms).__dataclass_fields__)
            )
            sender = Sender(web3, mallory.signer, hub_city.deployment.chain_id)
            sender.send("starting a close", contract.functions.start_close(values, 0, b""))

        await trio.to_thread.run_sync(start_close)

        def settled() -> tuple[int, int]:
            chain = hub.driver.get(channel).chain
            return (0, 0) if chain is None else chain.settled_ucent

        await until(lambda: settled() == (2 * FLOW_UCENT, FLOW_UCENT))
        chain = hub.driver.get(channel).chain
        assert chain is not None
        assert chain.status is ChainStatus.CLOSING
        refused = await mallory.submit("3")
        assert refused.outcomes[0].code == "not-now"  # nothing on a closing channel
        await trio.to_thread.run_sync(hub_city.warp, CHALLENGE_SECONDS_MIN + 1)
        await trio.to_thread.run_sync(hub_city.mine, CHALLENGE_BLOCKS_MIN + 1)
        await until(lambda: hub.driver.get(channel).phase is Phase.CLOSED)
        paid = await trio.to_thread.run_sync(hub_city.treasury.balance_ucent, mallory.account)
        assert paid == FLOW_UCENT


# -- the operator's socket ------------------------------------------------------------------------


async def test_wrong_params_are_refused_with_advice(hub_city: City, tmp_path: Path) -> None:
    no_id, no_channel = "0x" + "00" * 16, "0x" + "00" * 32
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("open", {}),
        ("open", {"pairs": []}),
        ("open", {"pairs": [["0x00"]]}),
        ("open", {"pairs": [[1, 2]]}),
        ("open", {"pairs": [["0x00", "0x00"]]}),
        ("answer", {"id": 5, "pay": True}),
        ("answer", {"id": no_id}),
        ("answer", {"id": no_id, "pay": True}),
        ("request", {}),
        ("request", {"channel": no_channel, "amount_ucent": 1, "purpose": "p"}),
        ("close", {"channel": no_channel}),
        ("close", {"channel": None}),
    ]
    config = await make_config(hub_city, tmp_path)
    async with running_hub(config) as hub:
        for method, params in wrong:
            with pytest.raises(LocalError) as caught:
                await ask(hub, method, **params)
            assert caught.value.what_to_do


async def test_a_request_of_the_hub_needs_a_whole_amount_and_a_purpose(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        channel = to_hex(alice.channel.id)
        for amount, purpose, text in (
            (1.5, "p", "no whole number"),
            (0, "p", "out of range"),
            (1, "", "0 characters"),
            (1, 5, "no text"),
        ):
            with pytest.raises(Exception, match=text):
                await ask(hub, "request", channel=channel, amount_ucent=amount, purpose=purpose)


async def test_asking_for_a_close_twice_or_while_closed_is_an_answer_not_a_crash(
    hub_city: City, tmp_path: Path
) -> None:
    async with joined(hub_city, tmp_path) as (hub, alice):
        alice.ask_close()
        await until(lambda: hub.driver.get(alice.channel.id).phase is Phase.CLOSED)
        with pytest.raises(Exception, match="closed"):
            await ask(hub, "close", channel=to_hex(alice.channel.id))
        with pytest.raises(Exception, match="closed"):
            hub.driver.feed(alice.channel.id, AskedClose())
