"""Whose fault it is: the base of every error that Farthing raises on purpose.

Rule: the bases cannot be raised; there is one class per reason, it carries the values that
disagree, and its text tells the reader what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class FarthingError(Exception):
    """An error with a reason code, a text and a remedy; `retryable` says whether to try again."""

    code: ClassVar[str] = ""
    remedy: ClassVar[str] = ""
    retryable: ClassVar[bool] = False

    def __init__(self, text: str, *, remedy: str | None = None) -> None:
        if not self.code:
            kind = type(self).__name__
            raise TypeError(f"{kind} is a base class: raise the class that names the reason")
        super().__init__(text)
        self.text = text
        self.what_to_do = self.remedy if remedy is None else remedy

    def __str__(self) -> str:
        return f"{self.text}: {self.what_to_do}" if self.what_to_do else self.text


class LocalError(FarthingError):
    """Our own side asked for something that is not allowed or not possible; nothing changed."""


class PeerError(FarthingError):
    """The peer sent something it must not send; the connection ends, the state stays."""


class ChainError(FarthingError):
    """The chain or its RPC endpoint gave no answer, or one that cannot be used."""


class InvariantBroken(FarthingError):
    """A state that must be impossible; the channel stops and nothing more is signed on it."""

    code = "invariant-broken"
    remedy = "stop, keep the database, and report it: the channel must be looked at by a person"
