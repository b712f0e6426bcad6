"""Finds the line of each key in a TOML text, which the standard parser does not tell.

Rule: the text has been parsed before, so it is well-formed; this only walks over it.
Keys inside inline tables are not looked for: they stand on the line of the key that holds them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the top, with the number of the element in arrays of tables: ("tariff", 0, "unit")."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:(?P<bare>[A-Za-z0-9_-]+)|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"""[^"'#\[\]{}\n]+|#[^\n]*""")


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """Return the line (from 1) of each key and table header of a well-formed TOML text."""
    return _Walk(text).run()


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of a key, or of the nearest key around it; None for the whole file."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


class _Walk:
    """A position in the text, the table it is in, and what has been found."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._counted = (0, 1)
        self._table: KeyPath = ()
        self._elements: dict[KeyPath, int] = {}
        self._lines: dict[KeyPath, int] = {}

    def run(self) -> Mapping[KeyPath, int]:
        self._skip(_BLANK)
        while self._position < len(self._text):
            line = self._line()
            if self._text[self._position] == "[":
                self._header(line)
            else:
                self._note((*self._table, *self._key()), line)
                self._value()
            self._skip(_BLANK)
        return self._lines

    def _line(self) -> int:
        position, line = self._counted
        line += self._text.count("\n", position, self._position)
        self._counted = (self._position, line)
        return line

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._position)
        if match is None:
            return False
        self._position = match.end()
        return True

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _header(self, line: int) -> None:
        is_element = self._text.startswith("[[", self._position)
        self._position += 2 if is_element else 1
        keys = self._key()
        self._position += 2 if is_element else 1
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self._inside((*path, key))
        path = (*path, keys[-1])
        if is_element:
            self._elements[path] = self._elements.get(path, -1) + 1
        self._table = self._inside(path)
        self._note(self._table, line)

    def _inside(self, path: KeyPath) -> KeyPath:
        """Return the path, or its newest element if it is an array of tables."""
        return (*path, self._elements[path]) if path in self._elements else path

    def _key(self) -> list[str]:
        """Read a dotted key; what stands after it is not touched, but for one equals sign."""
        keys = []
        while match := _PART.match(self._text, self._position):
            self._position = match.end()
            keys.append(match["bare"] or _unquoted(match[0].strip()))
            if self._text[self._position : self._position + 1] != ".":
                break
            self._position += 1
        return keys

    def _value(self) -> None:
        """Go past the equals sign and the value, to the end of its last line."""
        depth = 0
        while self._position < len(self._text):
            if self._skip(_STRING) or self._skip(_PLAIN):
                continue
            character = self._text[self._position]
            if character == "\n" and depth == 0:
                return
            depth += (character in "[{") - (character in "]}")
            self._position += 1


def _unquoted(part: str) -> str:
    return next(iter(tomllib.loads(f"{part} = 0")))
