"""The wallet for device code without an event loop: the same methods, blocking, from any thread.

with Wallet(Path("alice"), password) as wallet:
    wallet.join()
    submission = wallet.submit([record])
    print(wallet.wait_outcome(submission, timeout_seconds=10))
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import trio

from ..errors import FarthingError, LocalError
from ..ids import Address, ChannelId
from ..senml import PackFormat, Record
from ..state import Channel
from .balance import Balance
from .payments import IncomingPayment, PaymentAsk
from .receiving import Receiving
from .results import SentPayment
from .submissions import SubmissionOutcome
from .taking_out import Withdrawn
from .wallet import Wallet as AsyncWallet
from .wallet import open_wallet

STOP_SECONDS: Final = 30.0
"""For the last commit and the end of everything that runs."""

Result = TypeVar("Result")


class WalletStopped(LocalError):
    """The wallet does not run: it was not started, was closed, or failed."""

    code = "wallet-stopped"
    remedy = "open it again (`with Wallet(...)`); what was acknowledged is kept"


class Wallet:
    """A wallet running in a thread of its own while the `with` block lasts.

    Every method raises what its namesake of the asynchronous wallet raises, and `WalletStopped`.
    """

    def __init__(self, folder: Path, password: str, **ports: Any) -> None:
        """Start nothing yet; `ports` are those of `open_wallet`."""
        self._open = partial(open_wallet, folder, password, **ports)
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._wallet: AsyncWallet | None = None
        self._stop: trio.Event | None = None

    def __enter__(self) -> Self:
        """Start; raises what `open_wallet` raises."""
        if self._thread is not None:
            raise WalletStopped("this object was used before; make another one")
        # A daemon, so that a program that never leaves the block can still end.
        self._thread = threading.Thread(target=self._run, name="farthing-wallet", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._wallet is None:
            self._thread.join()
            raise self._failure or WalletStopped("the wallet did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        """Stop, and return when everything has ended; raises what ended the wallet before."""
        if self._token is not None and self._stop is not None and self._thread is not None:
            with suppress(trio.RunFinishedError):  # it may have ended by itself
                self._token.run_sync_soon(self._stop.set)
            self._thread.join(STOP_SECONDS)
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # handed to the thread that asks
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        async with self._open() as wallet:
            self._token = trio.lowlevel.current_trio_token()
            self._stop = trio.Event()
            self._wallet = wallet
            self._started.set()
            await self._stop.wait()

    def _call(self, method: Callable[[AsyncWallet], Awaitable[Result]]) -> Result:
        if self._wallet is None or self._token is None:
            raise WalletStopped("the wallet is used outside of its `with` block")
        try:
            return trio.from_thread.run(method, self._wallet, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            cause = self._failure if isinstance(self._failure, FarthingError) else None
            text = "the wallet has stopped" if cause is None else f"the wallet stopped: {cause}"
            raise WalletStopped(text) from cause

    def _look(self, method: Callable[[AsyncWallet], Result]) -> Result:
        async def look(wallet: AsyncWallet) -> Result:
            return method(wallet)

        return self._call(look)

    @property
    def account(self) -> Address:
        """The address that owns this wallet's money."""
        return self._look(lambda wallet: wallet.account)

    def join(self, *, timeout_seconds: float | None = None) -> ChannelId:
        """See `wallet.Wallet.join`."""
        return self._call(lambda wallet: wallet.join(timeout_seconds=timeout_seconds))

    def submit(
        self,
        readings: Sequence[Record] | bytes,
        submission: bytes | None = None,
        *,
        pack_format: PackFormat = PackFormat.JSON,
    ) -> bytes:
        """See `wallet.Wallet.submit`; returns when the readings are on disk."""
        return self._call(
            lambda wallet: wallet.submit(readings, submission, pack_format=pack_format)
        )

    def outcome(self, submission: bytes) -> SubmissionOutcome:
        """See `wallet.Wallet.outcome`."""
        return self._look(lambda wallet: wallet.outcome(submission))

    def wait_outcome(
        self, submission: bytes, *, timeout_seconds: float = float("inf")
    ) -> SubmissionOutcome:
        """See `wallet.Wallet.wait_outcome`."""
        return self._call(
            lambda wallet: wallet.wait_outcome(submission, timeout_seconds=timeout_seconds)
        )

    def wait_queue_empty(self, *, timeout_seconds: float = float("inf")) -> None:
        """See `wallet.Wallet.wait_queue_empty`."""
        self._call(lambda wallet: wallet.wait_queue_empty(timeout_seconds=timeout_seconds))

    def pay(
        self,
        amount_ucent: int,
        purpose: str,
        payment_id: bytes | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> SentPayment:
        """See `wallet.Wallet.pay`."""
        return self._call(
            lambda wallet: wallet.pay(
                amount_ucent, purpose, payment_id, timeout_seconds=timeout_seconds
            )
        )

    def pay_many(
        self, orders: Sequence[tuple[int, str]], *, timeout_seconds: float | None = None
    ) -> list[SentPayment]:
        """See `wallet.Wallet.pay_many`."""
        return self._call(lambda wallet: wallet.pay_many(orders, timeout_seconds=timeout_seconds))

    def request(self, amount_ucent: int, purpose: str) -> PaymentAsk:
        """See `wallet.Wallet.request`."""
        return self._call(lambda wallet: wallet.request(amount_ucent, purpose))

    def requests(self) -> list[PaymentAsk]:
        """See `wallet.Wallet.requests`."""
        return self._look(lambda wallet: wallet.requests())

    def answer(self, request: bytes, *, timeout_seconds: float | None = None) -> SentPayment:
        """See `wallet.Wallet.answer`."""
        return self._call(lambda wallet: wallet.answer(request, timeout_seconds=timeout_seconds))

    def refuse(self, request: bytes) -> None:
        """See `wallet.Wallet.refuse`."""
        self._call(lambda wallet: wallet.refuse(request))

    def receive(
        self, *, from_start: bool = False, timeout_seconds: float = float("inf")
    ) -> Iterator[IncomingPayment]:
        """Payments as they come in; ends when none came for `timeout_seconds`."""
        receiving = self._look(lambda wallet: wallet.receive(from_start=from_start))

        def next_one() -> IncomingPayment | None:
            return self._call(lambda _: _next(receiving, timeout_seconds))

        return iter(next_one, None)

    def balance(self) -> Balance:
        """See `wallet.Wallet.balance`."""
        return self._look(lambda wallet: wallet.balance())

    def channels(self) -> list[Channel]:
        """See `wallet.Wallet.channels`."""
        return self._look(lambda wallet: wallet.channels())

    def status(self) -> dict[str, Any]:
        """See `wallet.Wallet.status`."""
        return self._look(lambda wallet: wallet.status())

    def receipts(self) -> list[str]:
        """See `wallet.Wallet.receipts`; all lines at once."""
        return self._look(lambda wallet: list(wallet.receipts()))

    def withdraw(
        self,
        amount_ucent: int,
        channel: ChannelId | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Withdrawn:
        """See `wallet.Wallet.withdraw`."""
        return self._call(
            lambda wallet: wallet.withdraw(amount_ucent, channel, timeout_seconds=timeout_seconds)
        )

    def claim(self, *, timeout_seconds: float | None = None) -> int:
        """See `wallet.Wallet.claim`."""
        return self._call(lambda wallet: wallet.claim(timeout_seconds=timeout_seconds))

    def close(
        self, channel: ChannelId | None = None, *, timeout_seconds: float | None = None
    ) -> ChannelId:
        """See `wallet.Wallet.close`."""
        return self._call(lambda wallet: wallet.close(channel, timeout_seconds=timeout_seconds))

    def start_close(
        self, channel: ChannelId | None = None, *, timeout_seconds: float | None = None
    ) -> ChannelId:
        """See `wallet.Wallet.start_close`."""
        return self._call(
            lambda wallet: wallet.start_close(channel, timeout_seconds=timeout_seconds)
        )

    def finish_close(
        self, channel: ChannelId | None = None, *, timeout_seconds: float | None = None
    ) -> ChannelId:
        """See `wallet.Wallet.finish_close`."""
        return self._call(
            lambda wallet: wallet.finish_close(channel, timeout_seconds=timeout_seconds)
        )


async def _next(receiving: Receiving, timeout_seconds: float) -> IncomingPayment | None:
    with trio.move_on_after(timeout_seconds):
        return await anext(receiving)
    return None
