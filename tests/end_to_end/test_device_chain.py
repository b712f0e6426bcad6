"""A device's own chain reading and transactions, against a devnet in another process.

The contracts are deployed and the members registered with web3, an implementation that the device
does not have; whatever the device then reads or sends is its own.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from eth_account import Account
from web3 import HTTPProvider, Web3
from web3.logs import DISCARD
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import RPCEndpoint, TxReceipt

from farthing.channels import eip712
from farthing.channels.client.abi import SettleRow
from farthing.channels.client.chain import (
    ChainReader,
    NoContract,
    Outcome,
    OutcomeUnknown,
    WrongChain,
    WrongContract,
    WrongGenesis,
)
from farthing.channels.client.logs import (
    ChainLog,
    ClosedLog,
    CloseStartedLog,
    DepositedLog,
    OpenedLog,
    RowSkippedLog,
    SettledLog,
)
from farthing.channels.client.rpc import RpcClient, RpcRefused
from farthing.channels.client.transaction import (
    Call,
    ContractCalls,
    SignedTransaction,
    TransactionFailed,
    TransactionSender,
)
from farthing.channels.deployment import Deployment
from farthing.channels.ids import Address, ChannelId, address_from_hex
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.state import ChainStatus, ChainView, CloseTerms
from farthing.channels.terms import CHALLENGE_BLOCKS_MIN, CHALLENGE_SECONDS_MIN, Terms
from farthing.channels.voucher import LaneTotal, Voucher
from farthing.contracts.artifacts import load
from farthing.devnet.accounts import DevAccount, dev_accounts
from farthing.node.chain import Web3Chain

DEPOSIT = 1_000_000
ACTIVE, TREASURY, HUB, RESIDENT, DEVICE = 1, 2, 3, 4, 5


@dataclass
class City:
    """A devnet with contracts: the hub is party A and alice, with her device, party B."""

    url: str
    web3: Web3
    contracts: dict[str, Any]
    hub: DevAccount
    alice: DevAccount
    device: DevAccount
    stranger: DevAccount
    deployment: Deployment = field(init=False)

    @property
    def hub_signer(self) -> Signer:
        return Signer(self.hub.private_key)

    @property
    def alice_signer(self) -> Signer:
        return Signer(self.alice.private_key)

    @property
    def device_signer(self) -> Signer:
        return Signer(self.device.private_key)

    def send(self, sender: DevAccount, call: Any) -> TxReceipt:
        transaction = call.build_transaction({"from": sender.checksum_address, "gasPrice": 0})
        nonce = self.web3.eth.get_transaction_count(sender.signer().address)
        signed = Account.sign_transaction(transaction | {"nonce": nonce}, sender.private_key)
        receipt = self.web3.eth.wait_for_transaction_receipt(
            self.web3.eth.send_raw_transaction(signed.raw_transaction), poll_latency=0.02
        )
        assert receipt["status"] == 1
        return receipt

    def open(self, deposit: int = DEPOSIT) -> tuple[ChannelId, Terms]:
        """A new channel between the hub and alice; returns its id and terms."""
        channels = self.contracts["payment_channels"]
        parties = (self.hub, self.hub, self.alice, self.device)
        row = (
            *(party.checksum_address for party in parties),
            CHALLENGE_SECONDS_MIN,
            CHALLENGE_BLOCKS_MIN,
            deposit,
        )
        receipt = self.send(self.hub, channels.functions.open(row))
        (event,) = channels.events.Opened().process_receipt(receipt, errors=DISCARD)
        terms = Terms(
            account_a=self.hub.address,
            signer_a=self.hub.address,
            account_b=self.alice.address,
            signer_b=self.device.address,
            challenge_seconds=CHALLENGE_SECONDS_MIN,
            challenge_blocks=CHALLENGE_BLOCKS_MIN,
            sequence=event["args"]["sequence"],
        )
        return ChannelId(bytes(event["args"]["channel"])), terms

    def ask(self, method: str, *params: object) -> Any:
        answer = self.web3.provider.make_request(RPCEndpoint(method), list(params))
        assert "error" not in answer, answer
        return answer["result"]

    def voucher(
        self, signer: Signer, channel: ChannelId, payer: Address, amount: int, nonce: int = 1
    ) -> Voucher:
        total = LaneTotal(nonce=nonce, transferred_ucent=amount, history=b"\x21" * 32)
        separator = self.deployment.domain().separator()
        return sign_voucher(separator, signer, channel=channel, payer=payer, total=total)


def build_city(url: str) -> City:
    web3 = Web3(HTTPProvider(url))
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)  # as QBFT's blocks need
    registrar, treasury, hub, alice, device, *_, stranger = dev_accounts(10)
    contracts: dict[str, Any] = {}
    blocks: dict[str, int] = {}
    arguments: dict[str, Callable[[], list[str]]] = {
        "member_registry": lambda: [registrar.checksum_address],
        "city_credit": lambda: [contracts["member_registry"].address],
        "payment_channels": lambda: [
            contracts["city_credit"].address,
            contracts["member_registry"].address,
        ],
    }
    city = City(url, web3, contracts, hub, alice, device, stranger)
    for name, values in arguments.items():
        artifact = load(name)
        factory = web3.eth.contract(abi=list(artifact.abi), bytecode=artifact.bytecode)
        deployed = city.send(registrar, factory.constructor(*values()))
        blocks[name] = deployed["blockNumber"]
        contracts[name] = web3.eth.contract(
            address=deployed["contractAddress"], abi=list(artifact.abi)
        )
    rows = [
        (account.checksum_address, role, ACTIVE, 0, bytes(32), bytes(32))
        for account, role in ((treasury, TREASURY), (hub, HUB), (alice, RESIDENT), (device, DEVICE))
    ]
    city.send(registrar, contracts["member_registry"].functions.set_members(rows))
    token, channels = contracts["city_credit"], contracts["payment_channels"]
    for reference, account in enumerate((hub, alice), 1):
        mint = token.functions.mint(account.checksum_address, 10**12, bytes([reference]) * 32)
        city.send(treasury, mint)
    city.send(hub, token.functions.approve(channels.address, 2**256 - 1))
    city.deployment = Deployment(
        chain_id=web3.eth.chain_id,
        genesis_hash=bytes(web3.eth.get_block(0)["hash"]),
        block=blocks["payment_channels"],
        city_credit=address_from_hex(token.address),
        member_registry=address_from_hex(contracts["member_registry"].address),
        payment_channels=address_from_hex(channels.address),
        deployment=bytes(channels.functions.DEPLOYMENT().call()),
    )
    return city


@pytest.fixture(scope="module")
def city(own_chain: str) -> City:
    return build_city(own_chain)


@pytest.fixture
async def rpc(city: City) -> AsyncIterator[RpcClient]:
    async with RpcClient(city.url) as client:
        yield client


@pytest.fixture
def reader(city: City, rpc: RpcClient) -> ChainReader:
    return ChainReader(rpc, city.deployment)


@pytest.fixture
def device(city: City, reader: ChainReader) -> TransactionSender:
    """The device's sender: it holds only the signer that alice's account named."""
    return TransactionSender(reader, city.device_signer)


@pytest.fixture
def calls(city: City) -> ContractCalls:
    return ContractCalls(city.deployment)


async def view(reader: ChainReader, channel: ChannelId) -> ChainView:
    return await reader.channel_state(channel, await reader.head())


def test_our_domain_and_channel_ids_are_the_contracts(city: City) -> None:
    channel, terms = city.open()
    functions = city.contracts["payment_channels"].functions
    assert bytes(functions.domain_separator().call()) == city.deployment.domain().separator()
    assert city.deployment.channel_id(terms) == channel


async def test_the_deployment_is_recognised_and_any_other_named(
    city: City, rpc: RpcClient, reader: ChainReader
) -> None:
    await reader.check_identity()
    deployment = city.deployment
    for change, error in (
        ({"chain_id": 1}, WrongChain),
        ({"genesis_hash": bytes(32)}, WrongGenesis),
        ({"payment_channels": city.stranger.address}, NoContract),
        ({"deployment": bytes(32)}, WrongContract),
        ({"city_credit": deployment.member_registry}, WrongContract),
        ({"payment_channels": deployment.city_credit}, RpcRefused),
    ):
        with pytest.raises(error):
            await ChainReader(rpc, replace(deployment, **change)).check_identity()


async def test_a_channel_is_found_by_its_accounts_and_by_its_id(
    city: City, reader: ChainReader
) -> None:
    channel, terms = city.open(deposit=123)
    for account in (city.hub.address, city.alice.address):
        found = await reader.channels_of(account)
        assert found[-1].channel == channel
        assert found[-1].terms == terms
        assert (found[-1].funder, found[-1].deposit_ucent) == (city.hub.address, 123)
        assert [log.terms.sequence for log in found] == sorted(log.terms.sequence for log in found)
    assert await reader.channels_of(city.device.address) == ()
    opened = await reader.terms_opened(channel)
    assert opened is not None
    assert opened.terms == terms
    assert await reader.terms_opened(ChannelId(bytes(32))) is None
    assert await reader.channels_of(Address(b"\x09" * 20)) == ()
    state = await view(reader, channel)
    assert state.status is ChainStatus.OPEN
    assert state.deposit_ucent == (123, 0)
    assert state.timestamp == city.web3.eth.get_block(state.block)["timestamp"]
    assert (await view(reader, ChannelId(bytes(32)))).status is ChainStatus.NEVER


async def test_members_and_balances_are_read(city: City, reader: ChainReader) -> None:
    head = await reader.head()
    assert await reader.is_active(city.device.address, head.block)
    assert not await reader.is_active(city.stranger.address, head.block)
    assert not await reader.is_active(city.device.address, city.deployment.block)
    assert await reader.balance_of(city.alice.address, head.block) > 0
    assert await reader.balance_of(city.stranger.address, head.block) == 0
    assert await reader.claimable(city.alice.address, head.block) == 0
    assert await reader.allowance(city.hub.address, head.block) > 2**255


async def test_an_account_approves_and_deposits(
    city: City, reader: ChainReader, calls: ContractCalls
) -> None:
    channel, terms = city.open()
    alice = TransactionSender(reader, city.alice_signer)
    await alice.execute(calls.approve(500))
    assert await reader.allowance(city.alice.address, (await reader.head()).block) == 500
    deposit = calls.deposit(terms, account=city.alice.address, amount_ucent=500)
    outcome = await alice.execute(deposit)
    (log,) = [log for log in outcome.logs if isinstance(log, DepositedLog)]
    assert (log.channel, log.account, log.funder) == (channel, alice.address, alice.address)
    assert (log.amount_ucent, log.deposit_total_ucent) == (500, 500)
    assert (await view(reader, channel)).deposit_ucent == (DEPOSIT, 500)
    with pytest.raises(RpcRefused):  # the allowance is used up
        await alice.execute(deposit)


async def test_a_device_settles_what_it_earned_and_stale_rows_are_reported(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    channel, terms = city.open()
    newest = city.voucher(city.hub_signer, channel, city.hub.address, 700, nonce=2)
    older = city.voucher(city.hub_signer, channel, city.hub.address, 300)
    forged = city.voucher(city.device_signer, channel, city.hub.address, 900)
    rows = [SettleRow(terms=terms, voucher=each) for each in (newest, older, forged)]
    outcome = await device.execute(calls.settle(rows))
    settled, *skipped = outcome.logs
    assert isinstance(settled, SettledLog)
    assert (settled.payer, settled.nonce, settled.history) == (terms.account_a, 2, b"\x21" * 32)
    assert (settled.transferred_before_ucent, settled.transferred_ucent) == (0, 700)
    rows_skipped = [log for log in skipped if isinstance(log, RowSkippedLog)]
    assert [(log.index, log.channel) for log in rows_skipped] == [(1, channel), (2, channel)]
    assert len(rows_skipped) == len(skipped)
    assert (await view(reader, channel)).settled_ucent == (700, 0)


async def test_a_payer_settles_its_own_lane_without_a_signature(
    city: City, reader: ChainReader, calls: ContractCalls
) -> None:
    channel, terms = city.open()
    mine = city.voucher(city.hub_signer, channel, city.alice.address, 40)  # not the lane's signer
    row = SettleRow(terms=terms, voucher=mine, signed=False)
    await TransactionSender(reader, city.alice_signer).execute(calls.settle([row]))
    assert (await view(reader, channel)).settled_ucent == (0, 40)


async def test_a_close_runs_through_its_window_and_pays_out(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    channel, terms = city.open()
    newest = city.voucher(city.hub_signer, channel, city.hub.address, 700)
    before = await reader.balance_of(city.alice.address, (await reader.head()).block)

    outcome = await device.execute(calls.start_close(terms))
    (started,) = outcome.logs
    assert isinstance(started, CloseStartedLog)
    assert started.by == city.device.address
    state = await view(reader, channel)
    assert state.status is ChainStatus.CLOSING
    assert (state.deadline_seconds, state.deadline_block) == (
        started.deadline_seconds,
        started.deadline_block,
    )
    await device.execute(calls.settle([SettleRow(terms=terms, voucher=newest)]))
    with pytest.raises(RpcRefused, match="channels: "):
        await device.execute(calls.finish_close(terms))

    # With a block for each transaction the chain's time runs ahead: name the second itself.
    city.ask("evm_setNextBlockTimestamp", state.deadline_seconds + 1)
    city.ask("anvil_mine", CHALLENGE_BLOCKS_MIN + 1)
    outcome = await device.execute(calls.finish_close(terms))
    (closed,) = outcome.logs
    assert isinstance(closed, ClosedLog)
    assert (closed.payout_a_ucent, closed.payout_b_ucent) == (DEPOSIT - 700, 700)
    assert not closed.cooperative
    assert (await view(reader, channel)).status is ChainStatus.CLOSED
    assert await reader.balance_of(city.alice.address, outcome.block) == before + 700


async def test_a_signed_start_of_a_close_is_sent_by_anybody(
    city: City, reader: ChainReader, calls: ContractCalls
) -> None:
    channel, terms = city.open()
    expires = (await reader.head()).timestamp + 3600
    separator = city.deployment.domain().separator()
    digest = eip712.start_close_digest(separator, channel=channel, expires=expires)
    signature = city.device_signer.sign_digest(digest)
    treasury = TransactionSender(reader, Signer(dev_accounts(2)[1].private_key))
    with pytest.raises(RpcRefused, match="not a party"):
        await treasury.execute(calls.start_close(terms))
    outcome = await treasury.execute(calls.start_close(terms, expires=expires, signature=signature))
    (started,) = outcome.logs
    assert isinstance(started, CloseStartedLog)
    assert started.by == city.device.address


async def test_both_signatures_close_at_once(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    channel, terms = city.open()
    content = CloseTerms(
        transferred_a_ucent=250,
        transferred_b_ucent=50,
        expires=(await reader.head()).timestamp + 120,
    )
    digest = eip712.close_digest(
        city.deployment.domain().separator(),
        channel=channel,
        transferred_a_ucent=250,
        transferred_b_ucent=50,
        expires=content.expires,
    )
    by_hub, by_device = (s.sign_digest(digest) for s in (city.hub_signer, city.device_signer))
    with pytest.raises(RpcRefused, match="bad signature"):
        await device.execute(calls.close(terms, content, signature_a=by_device, signature_b=by_hub))
    outcome = await device.execute(
        calls.close(terms, content, signature_a=by_hub, signature_b=by_device)
    )
    (closed,) = outcome.logs
    assert isinstance(closed, ClosedLog)
    assert closed.cooperative
    assert (closed.payout_a_ucent, closed.payout_b_ucent) == (DEPOSIT - 200, 200)
    assert (await view(reader, channel)).settled_ucent == (0, 0)  # only the event has the totals
    other, _ = city.open()
    assert await reader.closed_totals(channel, outcome.block, outcome.block) == (250, 50)
    assert await reader.closed_totals(channel, 0, outcome.block - 1) is None
    assert await reader.closed_totals(other, 0, outcome.block + 1) is None


async def test_logs_are_read_in_batches_for_the_asked_channels_only(
    city: City,
    reader: ChainReader,
    device: TransactionSender,
    calls: ContractCalls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("farthing.channels.client.chain.LOG_BLOCKS_MAX", 3)
    mine, terms = city.open()
    other, other_terms = city.open()
    for channel, these in ((mine, terms), (other, other_terms)):
        voucher = city.voucher(city.hub_signer, channel, city.hub.address, 5)
        await device.execute(calls.settle([SettleRow(terms=these, voucher=voucher)]))
    city.ask("anvil_mine", 5)
    await device.execute(calls.start_close(terms))
    found: list[ChainLog] = []
    block, head = city.deployment.block, await reader.head()
    while block <= head.block:
        batch = await reader.log_batch(block, head.block, [mine])
        assert batch.through_block <= min(block + 2, head.block)
        found += batch.logs
        block = batch.through_block + 1
    assert [type(log) for log in found] == [OpenedLog, SettledLog, CloseStartedLog]
    assert {getattr(log, "channel", None) for log in found} == {mine}


async def test_wallet_and_hub_read_the_same_settlements_of_a_lane(
    city: City,
    reader: ChainReader,
    device: TransactionSender,
    calls: ContractCalls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("farthing.channels.client.chain.LOG_BLOCKS_MAX", 2)
    channel, terms = city.open()
    hub, alice = city.hub.address, city.alice.address
    raised = [
        (city.hub_signer, hub, 5, 1),
        (city.device_signer, alice, 3, 1),
        (city.hub_signer, hub, 9, 4),
    ]
    for signer, payer, amount, nonce in raised:
        voucher = city.voucher(signer, channel, payer, amount, nonce)
        await device.execute(calls.settle([SettleRow(terms=terms, voucher=voucher)]))
    through = (await reader.head()).block
    web3 = Web3Chain(city.web3, city.deployment, signer=None)

    async def settled(payer: Address, first: int, last: int) -> list[tuple[int, int, int, bytes]]:
        found = await reader.settlements(channel, payer, first, last)
        assert found == web3.settlements(channel, payer, first, last)
        return [(s.before_ucent, s.transferred_ucent, s.nonce, s.history) for s in found]

    history = b"\x21" * 32
    both = [(0, 5, 1, history), (5, 9, 4, history)]
    assert await settled(hub, city.deployment.block, through) == both
    assert await settled(hub, through, through) == both[1:]
    assert await settled(alice, city.deployment.block, through) == [(0, 3, 1, history)]
    assert await settled(alice, through, through) == []


@pytest.mark.allowlist("it takes an account off the allowlist")
async def test_a_nonmembers_transaction_is_refused_by_the_chain(
    city: City, reader: ChainReader, calls: ContractCalls
) -> None:
    city.ask("perm_removeAccountsFromAllowlist", [city.stranger.checksum_address])
    mallory = TransactionSender(reader, Signer(city.stranger.private_key))
    with pytest.raises(RpcRefused, match=r"eth_sendRawTransaction was refused"):
        await mallory.execute(calls.approve(1))


async def test_a_call_that_would_revert_is_refused_before_it_is_sent(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    nonce = await reader.next_nonce(device.address)
    with pytest.raises(RpcRefused, match="channels: ") as caught:
        await device.execute(calls.claim(city.alice.address))
    assert (caught.value.reason or "").startswith("channels: ")
    assert await reader.next_nonce(device.address) == nonce


async def signed(sender: TransactionSender, call: Call) -> SignedTransaction:
    """The call as `execute` signs it, before it is sent."""
    nonce = await sender._reader.next_nonce(sender.address)
    return sender._signed(call, nonce, await sender._gas_limit(call))


async def test_a_transaction_that_reverts_on_the_chain_tells_why(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    _, terms = city.open()
    prepared = await signed(device, calls.start_close(terms))
    await TransactionSender(reader, city.hub_signer).execute(calls.start_close(terms))
    with pytest.raises(TransactionFailed, match=r"start_close.*channels: not open") as caught:
        await device._submit(prepared, 60)
    assert not caught.value.outcome.succeeded
    assert caught.value.outcome.logs == ()


async def test_a_prepared_transaction_survives_a_crash_and_is_sent_once(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    _, terms = city.open()
    prepared = await signed(device, calls.start_close(terms))
    first = await device._submit(prepared, 60)
    # After a restart nobody remembers the outcome, only what was prepared.
    restarted = TransactionSender(reader, city.device_signer)
    again = await restarted._submit(prepared, 60)
    assert again == first
    assert await reader.next_nonce(device.address) == prepared.nonce + 1


async def test_concurrent_calls_take_turns(
    city: City, reader: ChainReader, device: TransactionSender, calls: ContractCalls
) -> None:
    opened = [city.open() for _ in range(3)]
    outcomes: list[Outcome] = []

    async def start(terms: Terms) -> None:
        outcomes.append(await device.execute(calls.start_close(terms)))

    async with trio.open_nursery() as nursery:
        for _, terms in opened:
            nursery.start_soon(start, terms)
    assert len({outcome.transaction_hash for outcome in outcomes}) == 3


async def test_an_unconfirmed_transaction_has_no_outcome_yet(
    city: City, rpc: RpcClient, calls: ContractCalls
) -> None:
    _, terms = city.open()
    patient = ChainReader(rpc, city.deployment, confirmations=2)
    sender = TransactionSender(patient, city.device_signer)
    with pytest.raises(OutcomeUnknown) as caught:
        await sender.execute(calls.start_close(terms), timeout_seconds=1)
    city.ask("anvil_mine", 2)
    outcome = await patient.wait_outcome(caught.value.transaction_hash)
    assert outcome.succeeded
    assert outcome.block == (await patient.head()).block
