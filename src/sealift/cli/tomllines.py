"""On which lines of a TOML file things stand. Pure."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: names of tables and keys, and numbers of an array's items."""


def lines_of(text: str) -> dict[Place, int]:
    """Return the line, counted from 1, on which each value of a TOML document begins; of the document itself, 1.

    What stands in an array or in an inline table is on the line of the statement. One statement is read at a time: it
    ends with the first line with which it is a document, too.
    """
    found: dict[Place, int] = {(): 1}
    tables: Counter[Place] = Counter()
    table: Place = ()
    statement: list[str] = []
    begin = 1
    for number, line in enumerate(text.split("\n"), 1):
        statement.append(line)
        try:
            document = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        if statement[0].lstrip(" \t").startswith("["):
            table = _table(document, tables)
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], begin)
        else:
            _enter(found, table, document, begin)
        statement, begin = [], number + 1
    return found


def line_of(lines: Mapping[Place, int], place: Sequence[str | int]) -> int:
    """Return the line of a value; of what is not there, of what it would be in."""
    within = tuple(place)
    while within not in lines:
        within = within[:-1]
    return lines[within]


def _table(document: object, tables: Counter[Place]) -> Place:
    """Return the way to the table that a header opens; of an array of tables, to the last one of those so far."""
    way: Place = ()
    while isinstance(document, dict) and document:
        ((name, document),) = document.items()
        way = (*way, name)
        if isinstance(document, list):  # [[name]]
            tables[way] += 1
            return (*way, tables[way] - 1)
        if tables[way]:
            way = (*way, tables[way] - 1)
    return way


def _enter(found: dict[Place, int], place: Place, value: object, line: int) -> None:
    found.setdefault(place, line)
    match value:
        case dict():
            items: list[tuple[str | int, object]] = list(value.items())
        case list():
            items = list(enumerate(value))
        case _:
            items = []
    for step, item in items:
        _enter(found, (*place, step), item, line)
