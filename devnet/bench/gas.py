"""What each operation on the chain costs in gas, measured on a devnet in this process.

Rule: a figure is what the receipt says the whole transaction used, intrinsic gas and calldata
included and refunds deducted; and no figure is given for a transaction whose effect was not found
on the chain afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from ...channels.eip712 import close_digest, withdrawal_digest
from ...channels.errors import LocalError
from ...channels.hashing import keccak256
from ...channels.ids import ZERO_WORD, Address, address_to_hex
from ...channels.signing import Signer
from ...channels.state import ChainStatus, ChainView
from ...channels.terms import Side
from ...channels.units import UCENT_PER_CENT
from ...channels.voucher import LaneTotal
from ...contracts.artifacts import NAMES, load
from ...contracts.members import MemberStatus
from ...node.administration import Registration, Role
from ...node.chain import Mined, OpenedChannel, SettleRow
from ..evm import GAS_LIMIT
from .city import (
    CHALLENGE_BLOCKS,
    CHALLENGE_SECONDS,
    CHANNELS,
    DEPOSIT_UCENT,
    FUNDING,
    MINTED_UCENT,
    SIGNATURE_SECONDS,
    City,
    Party,
    open_city,
    words,
)
from .gate import gate_code

FEW = 10
"""Rows of the small batch: what a peer's figure is about."""
SINGLES = 4
"""Channels with alice that the single operations use, each its own."""
DEPOSITED_UCENT = 5 * UCENT_PER_CENT
WITHDRAWN_UCENT = 5 * UCENT_PER_CENT
PAID_UCENT = (7 * UCENT_PER_CENT, UCENT_PER_CENT)
"""What the hub paid alice and alice the hub when their channel closes."""
NONCE_STEP = 300
TOTAL_STEP_UCENT = 1_234_567
"""Between two settlements of a lane: some hundred payments, a little over a cent."""


class EffectMissing(LocalError):
    """A transaction succeeded and the chain does not show what it was for."""

    code = "bench-effect-missing"
    remedy = "trust no figure of this run; check that contracts and artifacts belong together"

    def __init__(self, name: str, what: str, found: object, expected: object) -> None:
        super().__init__(f"{name}: {what} is {found}, not {expected}")
        self.name = name
        self.found = found
        self.expected = expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure: gas for each of the `per` things that one transaction does, rounded up."""

    name: str
    gas: int
    per: int
    conditions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GasReport:
    """All figures and the chain that they were measured on."""

    rows: tuple[Row, ...]
    chain: dict[str, object]

    def record(self) -> dict[str, Any]:
        """The report as one JSON object: figures by name, then everything."""
        return {
            "gas": {row.name: row.gas for row in self.rows},
            "rows": [asdict(row) for row in self.rows],
            "chain": self.chain,
        }


def measure_gas() -> GasReport:
    """Deploy, do every operation once and say what each used; takes some seconds.

    The figures are the same in each run. Raises `EffectMissing`, `ChainError`.
    """
    with open_city() as city:
        bench = _GasBench(city)
        bench.deployments()
        bench.members()
        bench.credit()
        bench.openings()
        bench.deposits()
        bench.reward_lanes()
        bench.usage_lanes()
        bench.withdrawal()
        bench.cooperative_close()
        bench.unilateral_closes()
        bench.claim()
        chain: dict[str, object] = {
            "engine": f"py-evm {version('py-evm')}",
            "rules": "Prague",
            "compiler": f"vyper {load('payment_channels').compiler}",
            "chain_id": city.deployment.chain_id,
            "block_gas_limit": GAS_LIMIT,
        }
    return GasReport(rows=tuple(bench.rows), chain=chain)


def _expect(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise EffectMissing(name, what, found, expected)


class _GasBench:
    """The operations, in an order in which each finds what it needs; they fill `rows`."""

    def __init__(self, city: City) -> None:
        self.rows: list[Row] = []
        self._city = city
        self._hub = city.port(city.hub.account)
        self._singles: tuple[OpenedChannel, ...] = ()
        self._many: tuple[OpenedChannel, ...] = ()

    def _add(self, name: str, gas_used: int, conditions: str, *, per: int = 1) -> None:
        gas = -(-gas_used // per)
        self.rows.append(Row(name=name, gas=gas, per=per, conditions=conditions))

    def _view(self, opened: OpenedChannel) -> ChainView:
        return self._hub.view(opened.channel, self._hub.head())

    def _send(self, account: Signer, call: Any) -> int:
        return int(self._city.send(account, call)["gasUsed"])

    # The city

    def deployments(self) -> None:
        """What `farthing deploy` sends."""
        self._hub.check_identity()  # the code at the three addresses is the artifacts'
        record = self._city.deployment
        used = self._city.creations()
        for name in NAMES:
            at: Address = getattr(record, name)
            size = len(load(name).runtime_bytecode) + load(name).immutables_bytes
            self._add(f"deploy_{name}", used[at], f"{size:,} bytes of code; once for a city")

    def members(self) -> None:
        """One member alone, then 50 in a call."""
        city = self._city
        registrar = city.administrator(city.registrar)
        row = (city.treasury.address, Role.TREASURY, MemberStatus.ACTIVE, 0, ZERO_WORD, ZERO_WORD)
        gas_used = self._send(city.registrar, city.registry.set_member(row))
        found = registrar.member(city.treasury.address)
        _expect("set_member", "the role", found and found.role, Role.TREASURY)
        self._add("set_member", gas_used, "a new member, no commitment, no end")

        name = "set_members_50_per_member"
        devices = [
            Registration(account=wallet.signer.address, role=Role.DEVICE) for wallet in city.wallets
        ]
        (block,) = registrar.set_members(devices)
        for device in devices:
            _expect(name, "a member", registrar.member(device.account), device)
        self._add(name, city.gas_in(block), "new members, no commitment, no end", per=len(devices))

        residents = [wallet.account for wallet in (*city.wallets, city.alice)]
        agencies = [city.hub.account, city.hub.signer]
        registrar.set_members(
            [
                *(Registration(account=key.address, role=Role.RESIDENT) for key in residents),
                *(Registration(account=key.address, role=Role.HUB) for key in agencies),
                Registration(account=city.alice.signer.address, role=Role.DEVICE),
            ]
        )

    def credit(self) -> None:
        """Minting, moving, allowing and burning City Credit."""
        city = self._city
        hub, alice = city.hub.account, city.alice.account
        treasury = city.administrator(city.treasury)
        treasury.mint(hub.address, MINTED_UCENT, FUNDING[0])
        block = treasury.mint(alice.address, UCENT_PER_CENT, FUNDING[1])
        _expect("mint", "the balance", city.balance_ucent(alice), UCENT_PER_CENT)
        self._add("mint", city.gas_in(block), "to an account that holds none yet")

        gas_used = self._send(hub, city.credit.transfer(alice.address, 3))
        _expect("transfer", "the balance", city.balance_ucent(alice), UCENT_PER_CENT + 3)
        self._add("transfer", gas_used, "to an account that holds tokens")

        approved = self._hub.approve(DEPOSIT_UCENT)
        again = self._hub.approve(MINTED_UCENT)
        gas_used = 0 if approved is None else approved.gas_used
        _expect("approve", "it needed, and needed again", (gas_used > 0, again), (True, None))
        self._add("approve", gas_used, "once for an account that deposits")

        gas_used = self._send(alice, city.credit.burn(3, FUNDING[0]))
        _expect("burn", "the balance", city.balance_ucent(alice), UCENT_PER_CENT)
        self._add("burn", gas_used, "part of what an account holds")

    # Money in

    def openings(self) -> None:
        """One channel with `open`, then 50 with `open_many`; the first channel is not counted."""
        city = self._city
        _, self._singles = city.open_channels((city.alice,) * SINGLES)
        hub, alice = city.hub, city.alice
        people = (hub.account, hub.signer, alice.account, alice.signer)
        addresses = (person.address for person in people)
        row = (*addresses, CHALLENGE_SECONDS, CHALLENGE_BLOCKS, DEPOSIT_UCENT)
        sequence = city.channels.next_sequence().call()
        gas_used = self._send(hub.account, city.channels.open(row))
        terms = replace(self._singles[0].terms, sequence=sequence)
        opened = replace(self._singles[0], channel=city.deployment.channel_id(terms), terms=terms)
        self._expect_open("open", (opened,))
        own = "ERC-20 deposit by the hub; each party's account and signer are two members"
        self._add("open", gas_used, own)

        name = "open_many_50_per_channel"
        gas_used, self._many = city.open_channels(city.wallets)
        _expect(name, "the number of channels", len(self._many), CHANNELS)
        self._expect_open(name, self._many)
        self._add(name, gas_used, own, per=CHANNELS)

    def _expect_open(self, name: str, channels: Sequence[OpenedChannel]) -> None:
        for opened in channels:
            view = self._view(opened)
            found = (view.status, view.deposit_ucent)
            _expect(name, "status and deposits", found, (ChainStatus.OPEN, (DEPOSIT_UCENT, 0)))

    def deposits(self) -> None:
        """One more deposit, then 50 in a call."""
        city = self._city
        hub = city.hub.account
        opened = self._singles[0]
        call = city.channels.deposit(words(opened.terms), hub.address, DEPOSITED_UCENT)
        gas_used = self._send(hub, call)
        expected = (DEPOSIT_UCENT + DEPOSITED_UCENT, 0)
        _expect("deposit", "the deposits", self._view(opened).deposit_ucent, expected)
        self._add("deposit", gas_used, "more for the hub's side of an open channel")

        name = "deposit_many_50_per_channel"
        rows = [(words(each.terms), hub.address, DEPOSITED_UCENT) for each in self._many]
        gas_used = self._send(hub, city.channels.deposit_many(rows))
        for each in self._many:
            _expect(name, "the deposits", self._view(each).deposit_ucent, expected)
        self._add(name, gas_used, "more for the hub's side of open channels", per=CHANNELS)

    # Settlements

    def _total(self, step: int) -> LaneTotal:
        return LaneTotal(
            nonce=NONCE_STEP * step,
            transferred_ucent=TOTAL_STEP_UCENT * step,
            history=keccak256(b"history %d" % step),
        )

    def _rows(
        self, channels: Sequence[OpenedChannel], lane: Side, step: int, *, signed: bool = True
    ) -> list[SettleRow]:
        total = self._total(step)
        return [self._city.row(each.terms, lane, total, signed=signed) for each in channels]

    def _settled(
        self, name: str, channels: Sequence[OpenedChannel], lane: Side, mined: Mined, step: int
    ) -> int:
        found = (mined.settled, mined.skipped)
        _expect(name, "rows settled and skipped", found, (len(channels), 0))
        for each in channels:
            settled = self._view(each).settled_ucent[lane]
            _expect(name, "the lane's total", settled, self._total(step).transferred_ucent)
        return mined.gas_used

    def reward_lanes(self) -> None:
        """Lanes on which the hub pays: with its signature by anybody, and by the hub itself."""
        anybody = self._city.port(self._city.anybody)
        how = "settle_many; reward lanes, cold storage, one call;"
        for step, count in ((1, 1), (2, FEW), (3, CHANNELS)):
            name = "settle_1_signed" if count == 1 else f"settle_{count}_signed_per_channel"
            channels = self._many[:count]
            mined = anybody.settle(self._rows(channels, Side.A, step))
            gas_used = self._settled(name, channels, Side.A, mined, step)
            self._add(name, gas_used, f"{how} sent by a stranger", per=count)

        name = "settle_50_own_per_channel"
        mined = self._hub.settle(self._rows(self._many, Side.A, 4, signed=False))
        gas_used = self._settled(name, self._many, Side.A, mined, 4)
        self._add(name, gas_used, f"{how} sent by their payer, the hub", per=CHANNELS)

    def usage_lanes(self) -> None:
        """Lanes on which wallets pay: the hub settles them, the first time at a higher price."""
        for step, name, lanes in (
            (1, "settle_50_usage_first_per_channel", "usage lanes, their words still zero"),
            (2, "settle_50_usage_per_channel", "usage lanes settled before"),
        ):
            mined = self._hub.settle(self._rows(self._many, Side.B, step))
            gas_used = self._settled(name, self._many, Side.B, mined, step)
            conditions = f"settle_many; {lanes}, cold storage, one call; sent by the hub"
            self._add(name, gas_used, conditions, per=CHANNELS)

    # Money out

    def withdrawal(self) -> None:
        """Alice takes money out of an open channel."""
        city = self._city
        opened, alice = self._singles[0], city.alice.account
        expires = city.now() + SIGNATURE_SECONDS
        digest = withdrawal_digest(
            city.deployment.domain().separator(),
            channel=opened.channel,
            account=alice.address,
            total_ucent=WITHDRAWN_UCENT,
            expires=expires,
        )
        signatures = city.both_sign(opened.terms, digest)
        before = city.balance_ucent(alice)
        call = city.channels.withdraw(
            words(opened.terms), alice.address, WITHDRAWN_UCENT, expires, *signatures
        )
        gas_used = self._send(alice, call)
        _expect("withdraw", "what was paid", city.balance_ucent(alice) - before, WITHDRAWN_UCENT)
        _expect("withdraw", "the word", self._view(opened).withdrawn_ucent, (0, WITHDRAWN_UCENT))
        self._add("withdraw", gas_used, "two signatures; to an account that holds tokens")

    def _agreed_close(self, city: City, opened: OpenedChannel) -> int:
        paid, paid_back = PAID_UCENT
        expires = city.now() + SIGNATURE_SECONDS
        digest = close_digest(
            city.deployment.domain().separator(),
            channel=opened.channel,
            transferred_a_ucent=paid,
            transferred_b_ucent=paid_back,
            expires=expires,
        )
        mined = city.port(city.hub.account).close(
            opened.terms,
            totals_ucent=PAID_UCENT,
            expires=expires,
            signatures=city.both_sign(opened.terms, digest),
        )
        return mined.gas_used

    def _balances(self) -> tuple[int, int]:
        parties: tuple[Party, ...] = (self._city.hub, self._city.alice)
        hub, alice = (self._city.balance_ucent(party.account) for party in parties)
        return hub, alice

    def _closed(self, name: str, opened: OpenedChannel, before: tuple[int, int], net: int) -> None:
        after = self._balances()
        payouts = (after[0] - before[0], after[1] - before[1])
        _expect(name, "status", self._view(opened).status, ChainStatus.CLOSED)
        _expect(name, "payouts", payouts, (DEPOSIT_UCENT - net, net))

    def cooperative_close(self) -> None:
        """Both agree on the totals and the channel ends at once."""
        opened, before = self._singles[1], self._balances()
        gas_used = self._agreed_close(self._city, opened)
        self._closed("cooperative_close", opened, before, PAID_UCENT[0] - PAID_UCENT[1])
        conditions = "two signatures, two payouts, to accounts that hold tokens"
        self._add("cooperative_close", gas_used, conditions)

    def unilateral_closes(self) -> None:
        """Alice alone, her newest voucher settled in packed rows, then as her wallet does it."""
        many, plain = self._singles[2:4]
        started, _, finished = spent = self._alone("unilateral_close_total", many, self._packed)
        self._add("start_close", started, "sent by a signer of a party")
        self._add("finish_close", finished, "two payouts, to accounts that hold tokens")
        three = "start_close + {} of one signed row, as settle_1{} + finish_close"
        self._add("unilateral_close_total", sum(spent), three.format("settle_many", "_signed"))

        name = "unilateral_close_by_wallet_total"
        _, settled, _ = spent = self._alone(name, plain, self._plain)
        self._add("settle_1_by_wallet", settled, "settle; a reward lane, signed, cold storage")
        self._add(name, sum(spent), three.format("settle", "_by_wallet"))

    def _alone(
        self, name: str, opened: OpenedChannel, settle: Callable[[SettleRow], int]
    ) -> tuple[int, int, int]:
        """Start the close, settle one voucher, finish after the window; what each used."""
        city = self._city
        before = self._balances()
        call = city.channels.start_close(words(opened.terms), 0, b"")
        started = self._send(city.alice.signer, call)
        view = self._view(opened)
        found = (view.status, view.deadline_seconds - city.now())
        _expect(name, "status and window", found, (ChainStatus.CLOSING, CHALLENGE_SECONDS))

        (row,) = self._rows([opened], Side.A, 1)
        settled = settle(row)
        totals = self._view(opened).settled_ucent
        _expect(name, "the totals", totals, (row.transferred_ucent, 0))

        city.pass_window()
        finished = self._hub.finish_close(opened.terms).gas_used
        self._closed(name, opened, before, row.transferred_ucent)
        return started, settled, finished

    def _packed(self, row: SettleRow) -> int:
        return self._city.port(self._city.alice.signer).settle([row]).gas_used

    def _plain(self, row: SettleRow) -> int:
        fields = (row.nonce, row.transferred_ucent, row.history, row.conditions, row.signature)
        call = self._city.channels.settle([(words(row.terms), row.lane, *fields)])
        return self._send(self._city.alice.signer, call)

    def claim(self) -> None:
        """A payout that the token refused, fetched later; City Credit itself never refuses."""
        city = self._city
        alice = city.alice.account
        until = city.now() + CHALLENGE_SECONDS
        gated = self._gated(until)
        treasury = gated.administrator(city.treasury)
        treasury.mint(city.hub.account.address, MINTED_UCENT, FUNDING[0])
        treasury.mint(alice.address, UCENT_PER_CENT, FUNDING[1])
        _, (opened,) = gated.open_channels((city.alice,))
        self._agreed_close(gated, opened)
        owed = PAID_UCENT[0] - PAID_UCENT[1]
        claimable = gated.channels.claimable
        _expect("claim", "what is claimable", claimable(alice.address).call(), owed)
        city.pass_window()
        gas_used = int(gated.send(city.anybody, gated.channels.claim(alice.address))["gasUsed"])
        paid = gated.balance_ucent(alice) - UCENT_PER_CENT
        left = claimable(alice.address).call()
        _expect("claim", "what was paid and what is left", (paid, left), (owed, 0))
        gate = "a token that refused before: City Credit behind a gate, whose own gas is included"
        self._add("claim", gas_used, gate)

    def _gated(self, until: int) -> City:
        """The city again, with a token that pays nothing out up to the second `until`."""
        city, record = self._city, self._city.deployment
        gate = city.create([], gate_code(record.city_credit, until))
        artifact = load("payment_channels")
        addresses = (address_to_hex(gate), address_to_hex(record.member_registry))
        channels = city.create(artifact.abi, artifact.bytecode, *addresses)
        gated = city.beside(replace(record, city_credit=gate, payment_channels=channels))
        deployment_id = bytes(gated.channels.DEPLOYMENT().call())
        return city.beside(replace(gated.deployment, deployment=deployment_id))
