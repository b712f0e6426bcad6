"""A served devnet with something to see: three channels that were opened, settled and closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from tests.chains import served_devnet
from web3.logs import DISCARD

from farthing.channels.units import UCENT_PER_CENT
from farthing.cli.devnet import devnet
from farthing.devnet.accounts import dev_accounts
from farthing.devnet.console import Workbench

HUB, HUB_SIGNER = 2, 3
WALLETS = (4, 5, 6)
RESIDENT, HUB_ROLE = 4, 3
ACTIVE = 1
WORD = b"\0" * 32
DEPOSIT_UCENT = 100 * UCENT_PER_CENT
REWARD_UCENT = 40 * UCENT_PER_CENT
PAID_UCENT = 15 * UCENT_PER_CENT
ADDRESSES = [account.checksum_address for account in dev_accounts(8)]


@dataclass
class Lively:
    """The devnet's URL, its deployment's record, and the transactions that were made on it."""

    rpc_url: str
    record: Path
    bench: Workbench
    opened: str = ""
    settled: str = ""
    transferred: str = ""
    reverted: str = ""
    channels: tuple[str, ...] = ()

    @property
    def w3(self) -> Any:
        """web3.py at the devnet; its own types are stricter than what a test writes."""
        return self.bench.w3

    def run(self, *arguments: str) -> Result:
        """A devnet command in this process."""
        return CliRunner().invoke(devnet, [*arguments, "--rpc", self.rpc_url])

    def send(self, call: Any, sender: int) -> str:
        """A transaction of a development account; its hash."""
        sent = call.transact({"from": ADDRESSES[sender]})
        self.w3.eth.wait_for_transaction_receipt(sent)
        return str(sent.to_0x_hex())


@contextmanager
def lively(folder: Path) -> Iterator[Lively]:
    """Serve and fill one: hub to accounts 4 to 6, each with a reward and a payment."""
    with served_devnet() as rpc_url:
        record = folder / "deployment.json"
        done = CliRunner().invoke(devnet, ["deploy", "--out", str(record), "--rpc", rpc_url])
        assert done.exit_code == 0, done.output
        with Workbench(rpc_url, record) as bench:
            world = Lively(rpc_url=rpc_url, record=record, bench=bench)
            _fill(world)
            yield world


def _fill(world: Lively) -> None:
    contracts = world.bench.names["contracts"]
    roles = {HUB: HUB_ROLE, HUB_SIGNER: HUB_ROLE, **dict.fromkeys(WALLETS, RESIDENT)}
    members = [(ADDRESSES[n], role, ACTIVE, 0, WORD, WORD) for n, role in roles.items()]
    world.send(contracts.member_registry.functions.set_members(members), 0)
    credit, channels = contracts.city_credit.functions, contracts.payment_channels.functions
    world.send(credit.mint(ADDRESSES[HUB], 10**14, b"\x01" * 32), 1)
    world.send(credit.approve(contracts.payment_channels.address, 10**14), HUB)
    rows = [(*_parties(n), 600, 10, DEPOSIT_UCENT) for n in WALLETS]
    world.opened = world.send(channels.open_many(rows), HUB)
    receipt = world.w3.eth.get_transaction_receipt(world.opened)
    events = contracts.payment_channels.events.Opened().process_receipt(receipt, errors=DISCARD)
    world.channels = tuple("0x" + event["args"]["channel"].hex() for event in events)
    terms = [
        (*_parties(n), 600, 10, event["args"]["sequence"])
        for n, event in zip(WALLETS, events, strict=True)
    ]
    settling = [(each, 0, 3, REWARD_UCENT, WORD, WORD, b"") for each in terms]
    world.settled = world.send(channels.settle(settling), HUB)
    world.send(channels.settle([(terms[0], 1, 1, PAID_UCENT, WORD, WORD, b"")]), WALLETS[0])
    world.send(channels.start_close(terms[1], 2**63, b""), HUB)
    world.transferred = world.send(credit.transfer(ADDRESSES[7], 5), HUB)
    call = credit.transfer(ADDRESSES[0], 10**15)
    data = {"from": ADDRESSES[7], "to": contracts.city_credit.address, "gas": 100_000}
    sent = world.w3.eth.send_transaction({**data, "data": call._encode_transaction_data()})
    world.reverted = str(sent.to_0x_hex())


def _parties(wallet: int) -> tuple[str, str, str, str]:
    return ADDRESSES[HUB], ADDRESSES[HUB_SIGNER], ADDRESSES[wallet], ADDRESSES[wallet]
