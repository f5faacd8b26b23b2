"""What tqdm draws for us on terminals of all kinds."""

from __future__ import annotations

import io
import re
import threading

import pytest

from sealift.cli.bar import Bar
from sealift.cli.console import Unbreakable
from tests.support.terminal import Terminal


def shown(terminal: Terminal, done: int, total: int, *, scaled: bool = True) -> str:
    """Return what is on the terminal's line after drawing."""
    bar = Bar(Unbreakable(terminal.stream), scaled=scaled)
    bar.show(done, total, "sentence")
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
        bar.show(50, 100, "a sentence that is longer than some terminals are wide")
        drawn = terminal.written()
        bar.close()
        assert drawn
        assert all(len(line) <= columns for line in drawn.split("\r"))
    finally:
        terminal.close()


def test_a_terminal_without_the_blocks_gets_a_bar_of_ascii() -> None:
    terminal = Terminal(encoding="ascii")
    try:
        assert re.search(r" 50% \|#+\d? *\|", shown(terminal, 50, 100))
    finally:
        terminal.close()


def test_it_steps_aside_comes_back_and_leaves_nothing(terminal: Terminal) -> None:
    bar = Bar(Unbreakable(terminal.stream), scaled=True)
    bar.show(50, 100, "sentence")
    terminal.written()
    bar.clear()
    assert terminal.written().strip("\r ") == ""
    bar.refresh()
    assert "50%" in terminal.written()
    bar.close()
    assert terminal.written().strip("\r ") == ""


def test_a_terminal_that_is_gone_does_not_matter() -> None:
    stream = io.StringIO()
    bar = Bar(Unbreakable(stream), scaled=True)
    stream.close()
    bar.show(1, 2, "sentence")
    bar.clear()
    bar.refresh()
    bar.close()


def test_no_thread_watches_over_it(terminal: Terminal) -> None:
    before = threading.active_count()
    shown(terminal, 1, 2)
    assert threading.active_count() == before
