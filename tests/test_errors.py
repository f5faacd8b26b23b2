from __future__ import annotations

import inspect

import pytest

from sealift import errors
from sealift.errors import (
    AccessError,
    Changed,
    ConfigError,
    CredentialsError,
    Integrity,
    LocalStorageError,
    ObjectError,
    Permanent,
    Refused,
    RunError,
    SealiftError,
    SourceError,
    Throttled,
    Transient,
    Unreachable,
)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ConfigError, 2),
        (CredentialsError, 3),
        (AccessError, 3),
        (LocalStorageError, 4),
        (SourceError, 5),
        (Permanent, 1),
        (Refused, 1),
        (Transient, 1),
        (Unreachable, 1),
        (Throttled, 1),
        (Changed, 1),
        (Integrity, 1),
    ],
)
def test_every_error_knows_its_exit_status(kind: type[SealiftError], status: int) -> None:
    assert kind.exit_status == status


@pytest.mark.parametrize("kind", [CredentialsError, AccessError, LocalStorageError, SourceError])
def test_what_ends_a_run_is_no_objects_error(kind: type[SealiftError]) -> None:
    assert issubclass(kind, RunError)
    assert not issubclass(kind, ObjectError)


@pytest.mark.parametrize("kind", [Transient, Unreachable, Throttled, Permanent, Refused, Changed, Integrity])
def test_what_ends_an_object_does_not_end_the_run(kind: type[SealiftError]) -> None:
    assert issubclass(kind, ObjectError)
    assert not issubclass(kind, RunError)


def test_a_throttle_is_no_failed_attempt() -> None:
    assert not issubclass(Throttled, Transient)


def test_every_error_of_the_module_belongs_to_the_tree() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, BaseException):
            assert issubclass(kind, SealiftError)


def test_cancellation_is_not_caught_by_catching_ours() -> None:
    assert not issubclass(SealiftError, BaseExceptionGroup)
    assert issubclass(SealiftError, Exception)


def test_the_code_is_the_name_of_the_error_where_nobody_gave_one() -> None:
    assert Integrity("short").code == "Integrity"
    assert Permanent("gone", code="NoSuchKey").code == "NoSuchKey"
    assert SourceError("no bucket", code="").code == "SourceError"


def test_an_objects_error_names_the_object_and_shows_its_message() -> None:
    error = Throttled("slow down", service="kms", bucket="bucket", key="key", code="SlowDown")
    assert (error.bucket, error.key, error.service, error.code) == ("bucket", "key", "kms", "SlowDown")
    assert str(error) == error.message == "slow down"


def test_an_error_of_a_run_has_no_summary_before_a_run_began() -> None:
    assert RunError("over").summary is None
