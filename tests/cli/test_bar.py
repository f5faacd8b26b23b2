"""What tqdm draws for us on terminals of all kinds."""

from __future__ import annotations

import io
import re
import threading

import pytest

from sealift.cli.bar import LEAST, Bar, fitting
from sealift.cli.console import Unbreakable
from tests.support.terminal import Terminal


def shown(terminal: Terminal, done: int, total: int, *, scaled: bool = True) -> str:
    """Return what is on the terminal's line after drawing."""
    bar = Bar(Unbreakable(terminal.stream), scaled=scaled)
    bar.show(done, total, ["sentence"])
    drawn = terminal.written()
    bar.close()
    return drawn.rsplit("\r", 1)[-1]


@pytest.mark.parametrize(
    ("done", "total", "percentage"),
    [
        (0, 0, "  0%"),  # nothing was listed yet
        (0, 100, "  0%"),
        (50, 100, " 50%"),
        (100, 100, "100%"),
        (150, 100, "100%"),  # bytes that came twice
        (-5, 100, "  0%"),  # an object that was started over
    ],
)
def test_the_bar_tells_how_much_of_it_is_done(terminal: Terminal, done: int, total: int, percentage: str) -> None:
    assert re.fullmatch(rf"{percentage} \|.*\| sentence *", shown(terminal, done, total))


def test_a_sentence_may_stand_alone(terminal: Terminal) -> None:
    assert shown(terminal, 50, 100, scaled=False).strip() == "sentence"


@pytest.mark.parametrize("columns", [5, 10, 20, 40, 200])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    terminal = Terminal(columns)
    try:
        bar = Bar(Unbreakable(terminal.stream), scaled=True)
        bar.show(50, 100, ["a fact that is longer", "than some terminals are wide", "or two"])
        drawn = terminal.written()
        bar.close()
        assert drawn
        assert all(len(line) <= columns for line in drawn.split("\r"))
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (140, "31,680 of 65,536 files, 495.0 MiB of 1.0 GiB, 91.6 MiB/s, 5.8 s left"),
        (70, "495.0 MiB of 1.0 GiB, 91.6 MiB/s, 5.8 s left"),
        (40, "91.6 MiB/s, 5.8 s left"),
        (30, "5.8 s left"),
        (20, ""),
    ],
)
def test_on_a_narrow_terminal_the_longest_facts_are_left_out_and_none_is_cut(columns: int, told: str) -> None:
    terminal = Terminal(columns)
    facts = ["31,680 of 65,536 files", "495.0 MiB of 1.0 GiB", "91.6 MiB/s", "5.8 s left"]
    bar = Bar(Unbreakable(terminal.stream), scaled=True)
    bar.show(48, 100, facts)
    drawn = terminal.written().rsplit("\r", 1)[-1]
    bar.close()
    terminal.close()
    line = re.fullmatch(r" 48% \|(.*)\| (.*)", drawn)
    assert line
    assert line[2].rstrip() == told
    assert len(line[1]) >= LEAST


def test_facts_keep_their_order() -> None:
    facts = ["one", "three", "two", "three"]
    assert [fitting(facts, columns) for columns in (30, 17, 10, 8, 3, 2)] == [
        "one, three, two, three",
        "one, two, three",
        "one, two",
        "one, two",
        "two",
        "",
    ]


def test_a_terminal_without_the_blocks_gets_a_bar_of_ascii() -> None:
    terminal = Terminal(encoding="ascii")
    try:
        assert re.search(r" 50% \|#+\d? *\|", shown(terminal, 50, 100))
    finally:
        terminal.close()


def test_it_steps_aside_comes_back_and_leaves_nothing(terminal: Terminal) -> None:
    bar = Bar(Unbreakable(terminal.stream), scaled=True)
    bar.show(50, 100, ["sentence"])
    terminal.written()
    bar.clear()
    assert terminal.written().strip("\r ") == ""
    bar.refresh()
    assert "50%" in terminal.written()
    bar.close()
    assert terminal.written().strip("\r ") == ""


@pytest.mark.parametrize("columns", [20, 100])
def test_what_ctrl_c_leaves_behind_it_goes_with_it(columns: int) -> None:
    """A terminal echoes it where the cursor is, which must be on the same line still."""
    terminal = Terminal(columns)
    try:
        bar = Bar(Unbreakable(terminal.stream), scaled=True)
        bar.show(50, 100, ["a fact of more columns than 20"])
        drawn = terminal.written().rsplit("\r", 1)[-1]
        assert len(f"{drawn}^C") < columns
        bar.close()
        assert terminal.written().endswith(f"\r{' ' * (columns - 1)}\r")
    finally:
        terminal.close()


def test_a_terminal_that_is_gone_does_not_matter() -> None:
    stream = io.StringIO()
    bar = Bar(Unbreakable(stream), scaled=True)
    stream.close()
    bar.show(1, 2, ["sentence"])
    bar.clear()
    bar.refresh()
    bar.close()


def test_no_thread_watches_over_it(terminal: Terminal) -> None:
    before = threading.active_count()
    shown(terminal, 1, 2)
    assert threading.active_count() == before
