"""The exit status. Pure."""

from __future__ import annotations

from sealift.errors import SealiftError
from sealift.model import Forecast, Summary, Verification

IN_PLACE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""
PIPE_CLOSED = 141
"""128 + SIGPIPE, as a shell reports it."""


def exit_status(
    result: Summary | Forecast | Verification | None,
    error: BaseException | None = None,
    *,
    interrupted: bool = False,
    pipe_closed: bool = False,
) -> int:
    """Return the exit status of a run that ended with `result` or `error`, or was stopped."""
    if pipe_closed:
        return PIPE_CLOSED
    if interrupted:
        return INTERRUPTED
    if error is not None:
        return error.exit_status if isinstance(error, SealiftError) else FAILED
    if result is None:
        return IN_PLACE
    if isinstance(result, Verification):
        return IN_PLACE if result.complete and not _unmended(result) else FAILED
    left = result.pending if isinstance(result, Summary) else 0
    return FAILED if result.failed or left or not result.complete else IN_PLACE


def _unmended(result: Verification) -> int:
    """Return how many files are still not right."""
    if result.repair is None:
        return result.missing + result.changed + result.damaged
    return result.repair.failed + result.repair.pending
