"""The commands that are told how a job ended."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

import anyio

LINUX = sys.platform == "linux"

STANDARD_ERROR = 2
"""Its descriptor."""


async def tell(command: Sequence[str], what: str, environ: Mapping[str, str]) -> str:
    """Run `command` with the text `what` on standard input, and return what went wrong, or nothing.

    What it writes goes to standard error: standard output is for the run's own result. Cancelling kills it.
    """
    try:
        with _hidden_file() as stdin:  # not a pipe: who does not read it shall not fail for that
            stdin.write(f"{what}\n".encode("ascii"))
            stdin.seek(0)
            done = await anyio.run_process(
                command, stdin=stdin, stdout=STANDARD_ERROR, stderr=None, check=False, env=environ
            )
    except OSError as error:
        return f"{command[0]} cannot be run: {error.strerror or error}"
    return f"{command[0]} ended with status {done.returncode}" if done.returncode else ""


def _hidden_file() -> IO[bytes]:
    """Return a file without a name: in memory, where there are such, as a full disk may be what is to be told."""
    return os.fdopen(os.memfd_create("sealift"), "w+b") if LINUX else tempfile.TemporaryFile()
