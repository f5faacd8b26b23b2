"""What is said of an error, and what is not."""

from __future__ import annotations

import io

import pytest

from sealift.cli.console import Console, StandardOutputClosed
from sealift.cli.failure import say
from sealift.errors import Permanent, SourceError


def said(error: BaseException, *, verbose: bool = False) -> list[str]:
    err = io.StringIO()
    say(error, Console(None, err), verbose=verbose)
    return err.getvalue().splitlines()


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return `error` with the traceback that it gets on its way."""
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("error", [SourceError("no bucket \x1b[2J'b'"), Permanent("no bucket \x1b[2J'b'", key="k")])
def test_an_error_of_ours_is_its_message_and_nothing_else(error: Exception, verbose: bool) -> None:
    assert said(raised(error, OSError("cause")), verbose=verbose) == ["sealift: no bucket \\x1b[2J'b'"]


def test_a_reader_that_left_is_not_spoken_of() -> None:
    assert said(StandardOutputClosed(), verbose=True) == []


def test_a_bug_is_one_line_whatever_its_text() -> None:
    [line] = said(raised(ValueError("two\nlines")))
    assert line.startswith("sealift: ValueError: two\\x0alines (a bug in Sealift: please report it")
    assert line.endswith("with the traceback that -v shows)")


def test_the_traceback_of_a_bug_has_its_causes_and_comes_before_the_line() -> None:
    bundle = ExceptionGroup("tasks", [raised(KeyError("k"), OSError("the cause"))])
    *trace, line = said(raised(bundle), verbose=True)
    assert any("OSError: the cause" in each for each in trace)
    assert any("KeyError: 'k'" in each for each in trace)
    assert line.startswith("sealift: ExceptionGroup: tasks")
    assert line.endswith("with the traceback above)")


@pytest.mark.parametrize(
    "variable", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"]
)
@pytest.mark.parametrize("verbose", [False, True])
def test_no_secret_of_the_environment_is_in_it(monkeypatch: pytest.MonkeyPatch, variable: str, verbose: bool) -> None:
    monkeypatch.setenv(variable, "hunter2")
    lines = said(raised(RuntimeError("seen: hunter2"), OSError("as well: hunter2")), verbose=verbose)
    assert "hunter2" not in "".join(lines)
    assert "RuntimeError: seen: [secret]" in lines[-1]


def test_an_empty_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "")
    [line] = said(raised(RuntimeError("odd")))
    assert "[secret]" not in line
