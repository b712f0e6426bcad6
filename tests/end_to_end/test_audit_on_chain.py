"""The auditor as a process of its own against a real chain, on honest and on tampered books."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from web3 import HTTPProvider, Web3
from web3.middleware import ExtraDataToPOAMiddleware

from farthing.channels.deployment import Deployment
from farthing.channels.eip712 import close_digest, withdrawal_digest
from farthing.channels.ids import Address, ChannelId, address_to_hex, to_hex
from farthing.channels.receipt import ReceiptType, make_receipt
from farthing.channels.signing import Signer, sign_voucher
from farthing.channels.terms import Side, Terms
from farthing.channels.voucher import LaneTotal, Payment
from farthing.cli.main import root
from farthing.contracts.artifacts import load
from farthing.devnet.accounts import dev_accounts

CENT = 1_000_000
WINDOW_SECONDS, WINDOW_BLOCKS = 600, 10
ACTIVE, REMOVED = 1, 3
REGISTRAR, TREASURY, HUB, RESIDENT = 1, 2, 3, 4
CLI = (sys.executable, "-c", "from farthing.cli.main import main; main()")

Line = dict[str, Any]


@dataclass
class Wallet:
    """One of the devnet's accounts; it signs its own vouchers."""

    signer: Signer
    key: bytes

    @property
    def account(self) -> Address:
        return self.signer.address

    @property
    def hex(self) -> str:
        return address_to_hex(self.signer.address)


@dataclass
class Chain:
    """Transactions and time of one devnet."""

    url: str
    web3: Web3
    contracts: dict[str, Any] = field(default_factory=dict)

    def deploy(self, name: str, sender: Wallet, *arguments: Any) -> str:
        artifact = load(name)
        factory: Any = self.web3.eth.contract(abi=list(artifact.abi), bytecode=artifact.bytecode)
        receipt = self._send(sender, factory.constructor(*arguments))
        address = str(receipt["contractAddress"])
        self.contracts[name] = self.web3.eth.contract(address=address, abi=list(artifact.abi))  # type: ignore[call-overload]  # the ABI is plain JSON
        return address

    def send(self, sender: Wallet, contract: str, method: str, *arguments: Any) -> None:
        function = getattr(self.contracts[contract].functions, method)
        receipt = self._send(sender, function(*arguments))
        assert receipt["status"] == 1, f"{method} reverted"

    def _send(self, sender: Wallet, call: Any) -> Any:
        nonce = self.web3.eth.get_transaction_count(sender.hex)  # type: ignore[arg-type]  # a checksum address
        transaction = call.build_transaction({"from": sender.hex, "nonce": nonce, "gasPrice": 0})
        signed = self.web3.eth.account.sign_transaction(transaction, sender.key)
        sent = self.web3.eth.send_raw_transaction(signed.raw_transaction)
        return self.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.01)

    def ask(self, method: str, *params: Any) -> Any:
        return self.web3.provider.make_request(method, params)["result"]  # type: ignore[arg-type]  # the devnet's own methods

    def head(self) -> tuple[int, int]:
        block = self.web3.eth.get_block("latest")
        return block["number"], block["timestamp"]


@dataclass
class City:
    """A deployment, a hub's channels and what the hub writes into its receipts file."""

    chain: Chain
    record: Deployment
    people: dict[str, Wallet]
    terms: dict[str, Terms] = field(default_factory=dict)
    lanes: dict[tuple[str, Side], LaneTotal] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def channel(self, name: str) -> ChannelId:
        return self.record.channel_id(self.terms[name])

    def register(self, name: str, role: int, status: int = ACTIVE) -> None:
        row = (self.people[name].hex, role, status, 0, bytes(32), bytes(32))
        self.chain.send(self.people["registrar"], "member_registry", "set_member", row)

    def open(self, names: tuple[str, ...], deposit: int) -> None:
        hub = self.people["hub"]
        rows, first = [], len(self.terms) + 1
        for sequence, name in enumerate(names, start=first):
            other = self.people[name].account
            terms = Terms(
                account_a=hub.account,
                signer_a=hub.account,
                account_b=other,
                signer_b=other,
                challenge_seconds=WINDOW_SECONDS,
                challenge_blocks=WINDOW_BLOCKS,
                sequence=sequence,
            )
            self.terms[name] = terms
            self.lanes[name, Side.A] = self.lanes[name, Side.B] = LaneTotal()
            rows.append((*_words(terms)[:-1], deposit))
        self.chain.send(hub, "payment_channels", "open_many", rows)

    def payer(self, name: str, side: Side) -> Wallet:
        return self.people["hub"] if side is Side.A else self.people[name]

    def pay(self, name: str, side: Side, *amounts: int) -> None:
        block, at = self.chain.head()
        for amount in amounts:
            fields = {"amount": amount, "block": block, "at": at, "purpose": "parking"}
            salt = hashlib.sha256(b"salt %d" % len(self.lines)).digest()
            receipt = make_receipt(ReceiptType.USAGE, fields, salt=salt)
            lane = self.lanes[name, side].after(Payment(amount_ucent=amount, receipt=receipt))
            self.lanes[name, side] = lane
            payee = self.payer(name, side.other)
            self.lines.append(
                {
                    "v": 1,
                    "channel": to_hex(self.channel(name)),
                    "payer": self.payer(name, side).hex,
                    "payee": payee.hex,
                    "nonce": lane.nonce,
                    "amount_ucent": amount,
                    "type": 2,
                    "receipt": to_hex(receipt.cbor),
                    "salt": to_hex(salt),
                }
            )

    def settle(self, *lanes: tuple[str, Side]) -> None:
        rows = []
        for name, side in lanes:
            payer, total = self.payer(name, side), self.lanes[name, side]
            voucher = sign_voucher(
                self.record.domain().separator(),
                payer.signer,
                channel=self.channel(name),
                payer=payer.account,
                total=total,
            )
            numbers = (int(side), total.nonce, total.transferred_ucent)
            words = (total.history, bytes(32), voucher.signature)
            rows.append((_words(self.terms[name]), *numbers, *words))
        self.chain.send(self.people["hub"], "payment_channels", "settle", rows)

    def withdraw(self, name: str, side: Side, total: int) -> None:
        expires = self.chain.head()[1] + 120
        account = self.payer(name, side)
        digest = withdrawal_digest(
            self.record.domain().separator(),
            channel=self.channel(name),
            account=account.account,
            total_ucent=total,
            expires=expires,
        )
        signatures = [self.payer(name, party).signer.sign_digest(digest) for party in Side]
        arguments = (_words(self.terms[name]), account.hex, total, expires, *signatures)
        self.chain.send(self.people["hub"], "payment_channels", "withdraw", *arguments)

    def close(self, name: str) -> None:
        expires = self.chain.head()[1] + 120
        totals = [self.lanes[name, side].transferred_ucent for side in Side]
        digest = close_digest(
            self.record.domain().separator(),
            channel=self.channel(name),
            transferred_a_ucent=totals[0],
            transferred_b_ucent=totals[1],
            expires=expires,
        )
        signatures = [self.payer(name, side).signer.sign_digest(digest) for side in Side]
        arguments = (_words(self.terms[name]), *totals, expires, *signatures)
        self.chain.send(self.people["hub"], "payment_channels", "close", *arguments)

    def close_by_window(self, name: str) -> None:
        terms = _words(self.terms[name])
        wallet = self.people[name]
        self.chain.send(wallet, "payment_channels", "start_close", terms, 0, b"")
        self.settle((name, Side.A))
        self.chain.ask("evm_setNextBlockTimestamp", self.chain.head()[1] + WINDOW_SECONDS + 1)
        self.chain.ask("anvil_mine", WINDOW_BLOCKS + 1)
        self.chain.send(wallet, "payment_channels", "finish_close", terms)


def _words(terms: Terms) -> tuple[str | int, ...]:
    return (
        address_to_hex(terms.account_a),
        address_to_hex(terms.signer_a),
        address_to_hex(terms.account_b),
        address_to_hex(terms.signer_b),
        terms.challenge_seconds,
        terms.challenge_blocks,
        terms.sequence,
    )


@dataclass
class Outcome:
    code: int
    output: str

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.output)
        return record

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [f for f in self.record["findings"] if f["severity"] == "failure"]


@dataclass
class Books:
    """What an auditor is given: an endpoint, a deployment record and receipts."""

    url: str
    folder: Path
    block: int
    lines: list[Line]
    after_lines: list[Line] = field(default_factory=list)
    honest: Outcome = field(default_factory=lambda: Outcome(-1, ""))

    @property
    def deployment(self) -> Path:
        return self.folder / "deployment.json"

    def arguments(self, *files: Path, **options: Any) -> list[str]:
        """The command's arguments; keyword arguments replace its options."""
        options = {"rpc": self.url, "deployment": self.deployment, **options}
        flags = [flag for name, value in options.items() for flag in (f"--{name}", str(value))]
        for file in files:
            flags += ["--receipts", str(file)]
        return ["audit", "check", *flags, "--json"]

    def audit(self, *files: Path, **options: Any) -> Outcome:
        """Run the command as a process of its own."""
        done = subprocess.run(
            [*CLI, *self.arguments(*files, **options)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not done.stderr, done.stderr
        return Outcome(done.returncode, done.stdout)

    def audit_here(self, *files: Path, **options: Any) -> Outcome:
        """Run the command in this process, which is sooner done."""
        result = CliRunner().invoke(root, self.arguments(*files, **options))
        return Outcome(result.exit_code, result.stdout)

    def write(self, folder: Path, lines: list[Line], name: str = "receipts.jsonl") -> Path:
        path = folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path


@pytest.fixture(scope="module")
def chain(own_chain: str) -> Iterator[Chain]:
    provider = HTTPProvider(own_chain)
    web3 = Web3(provider)
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)  # as QBFT's blocks need
    yield Chain(url=own_chain, web3=web3)
    for session in provider._request_session_manager.session_cache._data.values():
        session.close()


@pytest.fixture(scope="module")
def books(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Books:
    """An honest city up to `block`; after it, bob is removed and paid all the same."""
    city = _founded(chain)
    city.open(("alice", "bob", "carol"), 100 * CENT)
    hub = city.people["hub"]
    terms = _words(city.terms["alice"])
    alice = city.people["alice"]
    chain.send(hub, "payment_channels", "deposit", terms, alice.hex, 5 * CENT)
    for amount in (1_250, 700, 333):
        for name in ("alice", "bob", "carol"):
            city.pay(name, Side.A, amount, amount + 1, amount + 2)
            city.pay(name, Side.B, amount // 3)
        city.settle(("alice", Side.A), ("bob", Side.A), ("alice", Side.B))
    city.withdraw("alice", Side.B, 2 * CENT)
    city.pay("carol", Side.A, 10, 20)
    city.close("carol")
    city.pay("bob", Side.A, 40)
    city.settle(("bob", Side.B))
    chain.send(hub, "city_credit", "transfer", address_to_hex(city.record.payment_channels), 17)
    city.pay("alice", Side.A, 5)

    folder = tmp_path_factory.mktemp("books")
    (folder / "deployment.json").write_text(city.record.to_json())
    books = Books(url=chain.url, folder=folder, block=chain.head()[0], lines=list(city.lines))
    books.honest = books.audit(books.write(folder, books.lines))

    city.register("bob", RESIDENT, REMOVED)
    city.pay("bob", Side.A, 70, 71)
    city.close_by_window("bob")
    books.after_lines = city.lines
    return books


def _founded(chain: Chain) -> City:
    """Contracts deployed, everybody registered, the hub funded."""
    names = ("registrar", "treasury", "hub", "alice", "bob", "carol")
    people = {
        name: Wallet(signer=Signer(account.private_key), key=account.private_key)
        for name, account in zip(names, dev_accounts(len(names)), strict=True)
    }
    registrar, treasury, hub = (people[name] for name in names[:3])
    block = chain.head()[0] + 1
    registry = chain.deploy("member_registry", registrar, registrar.hex)
    credit = chain.deploy("city_credit", registrar, registry)
    channels = chain.deploy("payment_channels", registrar, credit, registry)
    record = Deployment(
        chain_id=chain.web3.eth.chain_id,
        genesis_hash=bytes(chain.web3.eth.get_block(0)["hash"]),
        block=block,
        city_credit=Address(bytes.fromhex(credit[2:])),
        member_registry=Address(bytes.fromhex(registry[2:])),
        payment_channels=Address(bytes.fromhex(channels[2:])),
        deployment=chain.contracts["payment_channels"].functions.DEPLOYMENT().call(),
    )
    city = City(chain=chain, record=record, people=people)
    roles = (TREASURY, HUB, RESIDENT, RESIDENT, RESIDENT)
    for name, role in zip(names[1:], roles, strict=True):
        city.register(name, role)
    chain.send(treasury, "city_credit", "mint", hub.hex, 1_000 * CENT, b"budget".ljust(32))
    chain.send(hub, "city_credit", "approve", channels, 1_000 * CENT)
    return city


def test_honest_books_tie_out_at_the_newest_block(books: Books) -> None:
    outcome = books.honest
    assert outcome.code == 0, outcome.output
    record = outcome.record
    assert record["ok"] is True
    assert record["inconclusive"] is False
    assert record["difference_ucent"] == 0
    assert record["block"] == books.block
    assert record["channels"] == 3
    assert record["receipts"] == len(books.lines)
    assert record["paid_ucent"] == sum(line["amount_ucent"] for line in books.lines)
    assert record["paid_ucent"] == record["settled_ucent"] + record["unsettled_ucent"]
    assert record["deposits_ucent"] == 305 * CENT
    assert record["withdrawals_ucent"] == 2 * CENT
    assert record["payouts_ucent"] == 100 * CENT
    assert record["locked_ucent"] == 203 * CENT
    assert record["donation_ucent"] == 17
    assert {finding["code"] for finding in record["findings"]} == {"unsettled", "donation"}


def test_the_same_books_tie_out_later_at_the_same_block_and_from_two_files(
    books: Books, tmp_path: Path
) -> None:
    hub = books.write(tmp_path, books.lines, "hub.jsonl")
    alice = books.write(tmp_path, books.lines[::2], "alice.jsonl")
    outcome = books.audit(hub, alice, block=books.block)
    assert outcome.code == 0
    assert outcome.record["receipts"] == len(books.lines)


def test_a_deleted_receipt_is_named(books: Books, tmp_path: Path) -> None:
    lines = [dict(line) for line in books.lines]
    gone = lines.pop(5)
    outcome = books.audit(books.write(tmp_path, lines), block=books.block)
    assert outcome.code == 1
    (finding,) = outcome.failures
    assert finding["code"] == "missing-receipt"
    assert finding["channel"] == gone["channel"]
    assert finding["payer"] == gone["payer"]
    assert finding["nonce"] == gone["nonce"]
    assert outcome.record["difference_ucent"] == gone["amount_ucent"]


def test_a_changed_amount_is_named(books: Books, tmp_path: Path) -> None:
    lines = [dict(line) for line in books.lines]
    lines[5]["amount_ucent"] += 1
    path = books.write(tmp_path, lines)
    outcome = books.audit(path, block=books.block)
    assert outcome.code == 1
    (finding,) = outcome.failures
    assert finding["code"] == "amount-differs"
    assert finding["subject"] == f"{path}:6"
    assert finding["nonce"] == lines[5]["nonce"]
    assert outcome.record["difference_ucent"] == 1


def test_an_amount_changed_in_line_and_receipt_alike_is_named(books: Books, tmp_path: Path) -> None:
    lines = [dict(line) for line in books.lines]
    lines[0]["amount_ucent"] = 1_350
    assert "1904e2" in lines[0]["receipt"]  # 1,250 in CBOR
    lines[0]["receipt"] = lines[0]["receipt"].replace("1904e2", "190546")
    outcome = books.audit(books.write(tmp_path, lines), block=books.block)
    assert outcome.code == 1
    (finding,) = outcome.failures
    assert finding["code"] == "settlement-differs"
    assert finding["nonce"] == 1
    assert "with 1250 µ¢ the receipts give the settled history" in finding["text"]
    assert outcome.record["difference_ucent"] == 100


def test_a_payee_removed_before_its_payments_is_named(books: Books, tmp_path: Path) -> None:
    outcome = books.audit(books.write(tmp_path, books.after_lines))
    assert outcome.code == 1
    (finding,) = outcome.failures
    assert finding["code"] == "payee-not-member"
    paid = books.after_lines[-2:]
    assert finding["channel"] == paid[0]["channel"]
    assert finding["nonce"] == paid[0]["nonce"]
    assert paid[0]["payee"] in finding["text"]
    assert "removed" in finding["text"]
    assert outcome.record["difference_ucent"] == 0


def _renamed(key: str) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        record["payment_channels"] = record[key]

    return change


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("wrong-chain", lambda record: record.update(chain_id=1)),
        ("wrong-chain", lambda record: record.update(genesis_hash="0x" + "12" * 32)),
        ("wrong-contract", lambda record: record.update(deployment="0x" + "12" * 32)),
        ("wrong-contract", _renamed("city_credit")),
        ("wrong-contract", lambda record: record.update(payment_channels="0x" + "12" * 20)),
        ("block-unavailable", lambda record: record.update(block=10**6)),
        ("malformed-deployment", lambda record: record.pop("chain_id")),
    ],
)
def test_another_chain_or_contract_than_the_deployments_is_inconclusive(
    books: Books, tmp_path: Path, reason: str, change: Callable[[dict[str, Any]], None]
) -> None:
    record = json.loads(books.deployment.read_text())
    change(record)
    wrong = tmp_path / "deployment.json"
    wrong.write_text(json.dumps(record))
    outcome = books.audit_here(books.folder / "receipts.jsonl", deployment=wrong)
    assert outcome.code == 2
    assert outcome.record["inconclusive"] is True
    assert outcome.record["ok"] is False
    assert outcome.record["reason"] == reason


def test_a_deployment_recorded_too_late_is_inconclusive_and_does_not_differ(
    books: Books, tmp_path: Path
) -> None:
    record = json.loads(books.deployment.read_text())
    record["block"] = books.block
    wrong = tmp_path / "deployment.json"
    wrong.write_text(json.dumps(record))
    outcome = books.audit_here(books.folder / "receipts.jsonl", deployment=wrong)
    assert outcome.code == 2
    assert outcome.record["reason"] == "logs-incomplete"


def test_a_process_of_its_own_ends_with_2_where_nothing_answers(books: Books) -> None:
    outcome = books.audit(books.folder / "receipts.jsonl", rpc="http://127.0.0.1:1")
    assert outcome.code == 2
    assert outcome.record["inconclusive"] is True


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nothing", "ftp://127.0.0.1"])
def test_an_endpoint_that_does_not_answer_is_inconclusive(books: Books, url: str) -> None:
    outcome = books.audit_here(books.folder / "receipts.jsonl", rpc=url)
    assert outcome.code == 2
    assert outcome.record["reason"] == "rpc-unreachable"
    assert url in outcome.record["text"]


def test_receipts_that_cannot_be_read_are_inconclusive(books: Books, tmp_path: Path) -> None:
    outcome = books.audit_here(tmp_path / "nowhere.jsonl")
    assert outcome.code == 2
    assert outcome.record["reason"] == "unreadable-file"


def test_a_block_that_does_not_exist_is_inconclusive(books: Books) -> None:
    outcome = books.audit_here(books.folder / "receipts.jsonl", block=10**6)
    assert outcome.code == 2
    assert outcome.record["reason"] == "block-unavailable"
