"""On which line of a TOML file something stands. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line, counted from 1, where the value at `path` begins; of what is not there, of what it would be in.

    The first so many lines of a file are a file, too, unless they end within a value: the first of these in which
    the value is there ends with it. That takes the square of the lines, and is done once, when something is wrong.
    """
    lines = text.splitlines(keepends=True)
    after_last = 0
    for stop in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("".join(lines[:stop]))
        except tomllib.TOMLDecodeError:
            continue
        if _holds(document, path):
            return _first(lines, after_last)
        after_last = stop
    return line_of(text, path[:-1]) if len(path) > 1 else 1


def _first(lines: Sequence[str], start: int) -> int:
    """Return the number of the first line from `start` on that says something."""
    while lines[start].strip() == "" or lines[start].lstrip().startswith("#"):
        start += 1
    return start + 1


def _holds(document: object, path: Sequence[str | int]) -> bool:
    for step in path:
        match document, step:
            case dict(), str() if step in document:
                document = document[step]
            case list(), int() if step < len(document):
                document = document[step]
            case _:
                return False
    return True
