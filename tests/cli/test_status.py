from __future__ import annotations

import pytest

from sealift.cli.status import exit_status
from sealift.errors import AccessError, ConfigError, CredentialsError, LocalStorageError, SourceError
from sealift.model import Forecast, Summary, Verification


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Summary(complete=True), 0),
        (Summary(listed=3, downloaded=1, up_to_date=1, skipped=1, complete=True), 0),
        (Summary(listed=1, failed=1, complete=True), 1),
        (Summary(listed=1, pending=1, complete=True), 1),
        (Summary(listed=1, downloaded=1, complete=False), 1),
        (Forecast(listed=1, to_download=1, complete=True), 0),
        (Forecast(listed=1, failed=1, complete=True), 1),
        (Forecast(complete=False), 1),
        (Verification(intact=1, unchecked=1, unknown=1, complete=True), 0),
        (Verification(missing=1, complete=True), 1),
        (Verification(changed=1, complete=True), 1),
        (Verification(damaged=1, complete=True), 1),
        (Verification(complete=False), 1),
        (Verification(damaged=1, complete=True, repair=Summary(downloaded=1)), 0),
        (Verification(damaged=1, complete=True, repair=Summary(failed=1)), 1),
        (Verification(damaged=1, complete=True, repair=Summary(pending=1)), 1),
        (None, 0),
    ],
)
def test_the_status_says_whether_everything_is_in_place(
    result: Summary | Forecast | Verification | None, status: int
) -> None:
    assert exit_status(result) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x"), 2),
        (CredentialsError("x"), 3),
        (AccessError("x"), 3),
        (LocalStorageError("x"), 4),
        (SourceError("x"), 5),
        (RuntimeError("a bug"), 1),
    ],
)
def test_an_error_that_ends_the_run_has_its_own_status(error: Exception, status: int) -> None:
    assert exit_status(Summary(), error) == status
    assert exit_status(Summary(listed=1, failed=1), error) == status


def test_being_stopped_goes_before_what_came_of_it() -> None:
    assert exit_status(Summary(), SourceError("x"), interrupted=True) == 130
    assert exit_status(Summary(), None, interrupted=True, pipe_closed=True) == 141
