"""Whatever standard output and standard error are, a line goes through or its loss is told in the right way."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import pytest

from sealift.cli.console import Console, StandardOutputClosed, Unbreakable
from sealift.errors import LocalStorageError
from tests.support.terminal import Terminal


@contextmanager
def unread_pipe() -> Iterator[TextIO]:
    """A stream whose reader is gone. Closing it must not raise."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


class Drawing:
    """Writes down when it steps aside and comes back, on the same stream as everything else."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream

    def clear(self) -> None:
        self.stream.write("<clear>")

    def refresh(self) -> None:
        self.stream.write("<refresh>")


class OnTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_drawing_steps_aside_for_lines_on_the_same_terminal_and_for_no_others() -> None:
    terminal, pipe = OnTerminal(), io.StringIO()
    for stream in (terminal, pipe):
        console = Console(stream, None)
        console.drawing = Drawing(stream)
        console.out_above("line")
        console.flush()
    assert terminal.getvalue() == "<clear>line\n<refresh>"
    assert pipe.getvalue() == "line\n"


def test_lines_are_made_printable_and_go_where_they_belong() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err)
    console.out("a\x1b[2J\nb")
    console.err("c\rd")
    console.flush()
    assert out.getvalue() == "a\\x1b[2J\\x0ab\n"
    assert err.getvalue() == "c\\x0dd\n"


def test_what_is_drawn_steps_aside_for_a_line() -> None:
    err = io.StringIO()
    console = Console(None, err)
    console.drawing = Drawing(err)
    console.err("line")
    assert err.getvalue() == "<clear>line\n<refresh>"


def test_lines_may_be_json() -> None:
    err = io.StringIO()
    console = Console(None, err)
    console.as_json = True
    console.err("sealift: a key\x1b[2J: 🦭", "error", key="k\n")
    console.err("warning: look")
    first, second = map(json.loads, err.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is UTC
    assert first == {"level": "error", "message": "a key\x1b[2J: 🦭", "key": "k\n"}
    assert (second["level"], second["message"]) == ("info", "look")
    assert err.getvalue().isascii()


def test_a_locale_without_the_character_is_no_reason_to_stop() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    console = Console(io.TextIOWrapper(out, "ascii"), io.TextIOWrapper(err, "latin-1"))
    console.out("a seal: 🦭")
    console.flush()
    console.err("a seal: 🦭 ä")
    assert out.getvalue() == b"a seal: \\U0001f9ad\n"
    assert err.getvalue() == b"a seal: \\U0001f9ad \xe4\n"


def test_streams_may_be_missing() -> None:
    console = Console(None, None)
    console.out("nobody")
    console.err("nobody")
    console.flush()
    console.leave_line()
    assert not console.on_terminal
    assert not console.stderr.isatty()
    assert console.stderr.encoding == "ascii"
    with pytest.raises(OSError, match="fileno"):
        console.stderr.fileno()


def test_a_terminal_is_told_from_a_file(terminal: Terminal) -> None:
    assert Console(terminal.stream, None).on_terminal
    assert not Console(io.StringIO(), None).on_terminal
    assert Console(None, terminal.stream).stderr.isatty()


def test_a_reader_that_left_is_told_once_and_leaves_nothing_to_fail_on() -> None:
    with unread_pipe() as stream:
        console = Console(stream, None)
        console.out("lines wait in a buffer")
        with pytest.raises(StandardOutputClosed):
            console.flush()
        console.out("and these go nowhere")
        console.flush()
        stream.write("not even what the interpreter flushes when it ends")
        stream.flush()


INTERRUPTED = """
import signal, sys
from sealift.cli.console import Console
signal.signal(signal.SIGUSR1, lambda *_: None)
console = Console(sys.stdout, sys.stderr)
console.out("x" * 300_000)
console.flush()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_that_a_slow_reader_takes_in_pieces_comes_whole(unbuffered: str) -> None:
    reader, writer = os.pipe()
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=writer, env=environment) as process:
        while select.select([], [writer], [], 0)[1]:
            os.sched_yield()
        process.send_signal(signal.SIGUSR1)  # it is in the middle of its write, as the pipe is full
        os.close(writer)
        with open(reader, "rb") as read:  # noqa: PTH123 - a descriptor
            assert len(read.read()) == 300_001
        assert process.wait(60) == 0


def test_a_full_disk_is_an_error_that_names_itself() -> None:
    with Path("/dev/full").open("w") as stream:
        console = Console(stream, None)
        console.out("line")
        with pytest.raises(LocalStorageError, match="standard output cannot be written: No space left on device"):
            console.flush()
        console.flush()


class Unwritable(io.StringIO):
    """A stream that has no descriptor and takes nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def test_a_stream_without_a_descriptor_is_given_up_as_well() -> None:
    console = Console(Unwritable(BrokenPipeError()), None)
    with pytest.raises(StandardOutputClosed):
        console.out("line")
    console.out("line")


def test_standard_error_that_broke_is_silent_from_then_on() -> None:
    with unread_pipe() as stream:
        console = Console(None, stream)
        for _ in range(3):
            console.err("nobody hears it")
        assert not console.stderr.isatty()
        assert console.stderr.write("four") == 4
        nowhere = os.open(os.devnull, os.O_WRONLY)  # for what is still buffered when it is closed
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def test_standard_error_that_was_closed_is_silent_as_well() -> None:
    stream = io.StringIO()
    unbreakable = Unbreakable(stream)
    assert unbreakable.write("before") == 6
    stream.close()
    assert unbreakable.write("after") == 5
    unbreakable.flush()


def test_the_last_line_is_left_only_if_something_is_drawn_there(terminal: Terminal) -> None:
    console = Console(None, terminal.stream)
    console.leave_line()
    assert terminal.written() == ""
    console.drawing = Drawing(io.StringIO())
    console.leave_line()
    assert terminal.written() == "\r\n"


def test_leaving_a_line_never_fails() -> None:
    console = Console(None, io.StringIO())  # has no descriptor
    console.drawing = Drawing(io.StringIO())
    console.leave_line()
