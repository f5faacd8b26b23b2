"""What is said of an error: one line that helps; a traceback only of bugs, and only when asked for."""

from __future__ import annotations

import traceback

from sealift.cli.console import Console, StandardOutputClosed
from sealift.errors import SealiftError
from sealift.secrecy import described, redacted


def say(error: BaseException, console: Console, *, verbose: bool, told: str = "") -> None:
    """Write what is to be said of `error` to standard error, but for what was `told` already."""
    if isinstance(error, StandardOutputClosed):
        return
    if isinstance(error, SealiftError):
        message = error.message.removesuffix(told).removesuffix(": ") if told else error.message
        if message:
            console.err(f"sealift: {message}", "error", error=error.code or type(error).__name__)
        return
    if verbose:
        for line in redacted("".join(traceback.format_exception(error))).splitlines():
            console.err(line, "error")
    how = "the traceback above" if verbose else "the traceback that -v shows"
    what = described(error)
    console.err(f"sealift: {what} (a bug in Sealift: please report it to its maintainers, with {how})", "error")
