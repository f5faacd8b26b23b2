from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.cli import main
from sealift.cli.arguments import VERBS, help_text, parse
from sealift.cli.options import OPTIONS
from sealift.errors import ConfigError
from sealift.selection import Filter

MIB = 1024 * 1024


def values(*argv: str) -> dict[str, object]:
    return dict(parse(argv).layer.values)


def refusal(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(argv)
    return caught.value.message


def test_words_and_options_may_come_in_any_order() -> None:
    expected = parse(["mirror", "s3://b/p", "d", "--memory", "1MiB", "-v"])
    assert parse(["mirror", "--memory=1MiB", "s3://b/p", "-v", "d"]) == expected
    assert parse(["--memory", "1MiB", "-v", "mirror", "s3://b/p", "d"]) == expected
    assert expected.verb == "mirror"
    assert expected.words == ("s3://b/p", "d")
    assert expected.layer.values == {"memory": MIB, "verbose": True}


@given(st.permutations([["--region", "r"], ["--json"], ["--include=a"], ["mirror"], ["-q"], ["--no-sign-request"]]))
def test_no_order_of_options_changes_what_was_asked_for(order: list[list[str]]) -> None:
    argv = [word for words in order for word in words]
    command = parse([*argv, "s3://b", "d"])
    assert (command.verb, command.words) == ("mirror", ("s3://b", "d"))
    assert command.layer.values == {"region": "r", "json": True, "quiet": True, "no-sign-request": False}
    assert command.layer.filters == (Filter("include", "a"),)


def test_filters_keep_the_order_they_were_written_in() -> None:
    command = parse(["mirror", "--exclude", "*", "s3://b", "--include=*.gz", "d", "--exclude", "a*"])
    assert command.layer.filters == (Filter("exclude", "*"), Filter("include", "*.gz"), Filter("exclude", "a*"))


def test_request_payer_does_not_swallow_the_source_that_follows() -> None:
    for argv in (
        ["mirror", "--request-payer", "s3://b", "d"],
        ["mirror", "--request-payer", "requester", "s3://b", "d"],
        ["mirror", "s3://b", "--request-payer=requester", "d"],
    ):
        command = parse(argv)
        assert command.words == ("s3://b", "d")
        assert command.layer.values == {"request-payer": True}
    assert "write requester" in refusal("mirror", "--request-payer=owner", "s3://b", "d")


def test_a_flag_can_be_taken_back() -> None:
    assert values("mirror", "--allow-http=false", "s3://b", "d") == {"allow-http": False}
    assert values("mirror", "--no-sign-request=no", "s3://b", "d") == {"no-sign-request": True}
    assert values("mirror", "--progress", "--no-progress", "s3://b", "d") == {"progress": False}


def test_what_follows_a_double_dash_is_no_option() -> None:
    assert parse(["mirror", "--json", "--", "s3://b", "--json"]).words == ("s3://b", "--json")


def test_a_dash_is_a_word() -> None:
    assert parse(["get", "s3://b/k", "-"]).words == ("s3://b/k", "-")


def test_short_flags_cluster() -> None:
    assert values("mirror", "-vq", "s3://b", "d") == {"verbose": True, "quiet": True}


def test_what_is_wrong_is_said_with_what_to_write() -> None:
    assert refusal("mirror", "--memory", "5x", "s3://b", "d") == (
        "--memory: '5x' is not a size: write for example 8MiB or 64MB"
    )
    assert refusal("mirror", "--memroy=5", "s3://b", "d") == "there is no option --memroy, did you mean --memory?"
    assert refusal("mirror", "--mem=5", "s3://b", "d").startswith("there is no option --mem")  # no abbreviations
    assert "did you mean mirror?" in refusal("mirorr", "s3://b", "d")
    assert "--region" in refusal("mirror", "s3://b", "d", "--region")
    assert refusal("mirror", "s3://b").startswith("write sealift mirror SOURCE... DEST")
    assert "only downloads" in refusal("mirror", "s3://a", "s3://b")
    assert refusal("get", "--include", "x", "s3://b/k") == "sealift get takes no --include"
    assert refusal("plan", "--dry-run", "s3://b", "d") == "sealift plan takes no --dry-run"
    assert "https://HOST" in refusal("mirror", "--endpoint-url", "localhost:80", "s3://b", "d")
    assert "no file" in refusal("mirror", "--ca-bundle", "/nowhere/ca.pem", "s3://b", "d")
    assert "--concurrency" in refusal("mirror", "--concurrency", "0", "s3://b", "d")
    assert "is not a size" in refusal("mirror", "--memory", "9" * 400, "s3://b", "d")


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0"), max_size=12), max_size=5))
def test_any_command_line_is_understood_or_refused(argv: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(argv).verb in {"", *VERBS}


def test_each_verb_explains_its_options_with_variable_and_default() -> None:
    for option in OPTIONS:
        for verb in option.verbs:
            text = " ".join(help_text(verb).split())
            assert f"--{option.name}" in text
            assert option.variable in text
            assert option.default in text


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, verb: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert all(len(line) <= columns for line in help_text(verb).splitlines())
    monkeypatch.setenv("COLUMNS", "1")
    assert help_text(verb).startswith("usage: sealift")


def test_help_and_version_are_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "sealift VERB --help" in capsys.readouterr().out
    assert main(["get", "--help", "--nonsense"]) == 0
    assert "s3://BUCKET/KEY [PATH|-]" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sealift ")


def test_without_a_verb_help_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sealift VERB --help" in captured.err


def test_a_wrong_value_ends_in_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mirror", "--part-size", "0\x1b[2J", "s3://b", "d"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sealift: --part-size: ")
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err


def test_a_source_that_is_none_ends_in_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["mirror", "--json", "bucket/prefix", str(tmp_path / "d")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "sealift: 'bucket/prefix' is not an S3 location: write s3://BUCKET/PREFIX/\n"


def test_an_object_and_json_do_not_share_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "--json", "s3://b/k", "-"]) == 2
    assert "--json" in capsys.readouterr().err
