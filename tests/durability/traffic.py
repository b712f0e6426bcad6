"""What alice and the hub do while they are traced: payments both ways, offers, two channels."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from farthing.channels.client.control import RemoteRefusal, RemoteUncertainty
from farthing.channels.senml import Record, encode_json
from farthing.devnet.processes import Process, ProcessFailed

from ..agency import Agency, _taken, running_agency
from ..hub_world import City, reading
from .said import Mouth
from .traced import Traced
from .verdict import Judge, Verdict

PAY_UCENT = 100
MANY = 500
PAUSE_SECONDS = 3
FOLDERS = {"hub": "hub", "wallet": "alice"}
DATABASES = {"hub": "data/hub.sqlite", "wallet": "ledger.sqlite"}
SYNC_FAILS = "inject=fsync,fdatasync:error=EIO:when={}+"
KILLED = "is killed where a commit fails"
DISK_FULL = "inject=pwrite64:error=ENOSPC:when={}+"


@contextmanager
def traced_agency(
    city: City,
    folder: Path,
    behaviours: Mapping[str, str] | None = None,
    inject: Mapping[str, str] | None = None,
) -> Iterator[Agency]:
    """Both under strace, with the behaviours and the failing calls named for each."""

    def make(name: str, arguments: list[str], log: Path) -> Process:
        process = Traced(name, arguments, log, root=folder / FOLDERS[name])
        process.behaviour = (behaviours or {}).get(name, process.behaviour)
        process.inject = (inject or {}).get(name, "")
        return process

    with running_agency(city, folder, make) as agency:
        yield agency


def traced(agency: Agency, name: str) -> Traced:
    process = {"hub": agency.hub, "wallet": agency.wallet}[name]
    assert isinstance(process, Traced)
    return process


def start(agency: Agency, name: str, inject: str = "", *, behaviour: str = "as it is") -> None:
    """The next life of a process that has ended; both can be used when this returns."""
    process = traced(agency, name)
    process.inject, process.behaviour = inject, behaviour
    process.start()
    process.wait_ready()
    agency.wallet.ask("join", timeout_seconds=20)
    agency.until(agency.is_live)


def verdicts(agency: Agency, name: str, scratch: Path, *, torn_images: int = 0) -> list[Verdict]:
    """What is to be said of each life of a process, all of them on the same disk."""
    process = traced(agency, name)
    ports = agency.hub.ready["port"], int(agency.city.rpc_url.rsplit(":", 1)[1])
    judge = Judge(process.disk, DATABASES[name], scratch, torn_images=torn_images)
    return [judge.judge(trace, Mouth(*ports)) for trace in process.traces()]


def fresh_reading() -> Record:
    """A reading of a moment that no other has."""
    return reading(taken=next(_taken))


def submit(agency: Agency, records: int) -> str:
    """Queue a pack of readings; its id, given once it is durable."""
    pack = encode_json([fresh_reading() for _ in range(records)])
    return str(agency.wallet.ask("submit", senml=pack.decode())["id"])


def pay(agency: Agency) -> None:
    """Pay the hub, and wait for its acknowledgement."""
    agency.wallet.ask("pay", amount_ucent=PAY_UCENT, purpose="parking")


def pay_until_no_answer(agency: Agency) -> int:
    """Pay until the hub's process ends; how many payments it acknowledged before."""
    for count in range(MANY):
        paid = agency.wallet.ask(
            "pay", amount_ucent=PAY_UCENT, purpose="parking", timeout_seconds=PAUSE_SECONDS
        )
        if "text" in paid:
            return count
    raise AssertionError(f"{MANY} payments were acknowledged")


def pay_until_it_ends(agency: Agency) -> int:
    """Pay until the wallet's process ends; how many payments it told of before."""
    for count in range(MANY):
        try:
            pay(agency)
        except (ProcessFailed, RemoteUncertainty):
            return count
        except RemoteRefusal as refusal:
            assert refusal.code == "ledger-unusable", refusal  # noqa: PT017 - or it has ended
            return count
    raise AssertionError(f"{MANY} payments were made")


def at_once(*tasks: tuple[int, Callable[[], object]]) -> None:
    """Do each task so many times, all tasks beside each other."""
    failures: list[BaseException] = []

    def repeat(times: int, task: Callable[[], object]) -> None:
        try:
            for _ in range(times):
                task()
        except BaseException as error:  # raised in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def withdraw(agency: Agency, amount_ucent: int) -> None:
    agency.pass_time(1)
    agency.wallet.ask("withdraw", amount_ucent=amount_ucent)


def close_and_join(agency: Agency) -> None:
    """End the channel in agreement, and get another one."""
    agency.pass_time(1)
    agency.wallet.ask("close")
    agency.pass_time(1)
    agency.wallet.ask("join")


def exchange(agency: Agency, *, packs: int, records: int, payments: int) -> None:
    """Rewards one way and payments the other, from several commands at once."""
    submit(agency, 2)
    agency.wallet.ask("wait_queue_empty", timeout_seconds=20)
    at_once(
        (packs, lambda: submit(agency, records)),
        *[(payments // 3, lambda: pay(agency))] * 3,
    )
    agency.wallet.ask("wait_queue_empty", timeout_seconds=60)
