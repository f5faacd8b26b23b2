"""The documents say what is so: their examples run, their links lead somewhere, and no option is left out."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sealift import partial
from sealift.cli import main
from sealift.cli.arguments import VERBS
from sealift.cli.options import OPTIONS
from sealift.cli.status import FAILED, IN_PLACE, INTERRUPTED, PIPE_CLOSED, USAGE
from sealift.errors import AccessError, CredentialsError, LocalStorageError, SourceError
from sealift.localpath import local_path
from sealift.s3 import translate
from tests.support.accounts import CASES, THREADS, granted
from tests.support.accountserver import AccountServer
from tests.support.faultserver import FaultServerThread

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
STATUSES = {
    IN_PLACE,
    FAILED,
    USAGE,
    INTERRUPTED,
    PIPE_CLOSED,
    *(kind.exit_status for kind in (AccessError, CredentialsError, LocalStorageError, SourceError)),
}


def anchors(document: Path) -> set[str]:
    """The names of a document's headings, as they stand in links."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        led_to = (document.parent / path).resolve() if path else document
        assert led_to.exists(), target
        assert not anchor or anchor in anchors(led_to), target


def test_the_guide_mentions_every_option_and_every_verb() -> None:
    for option in OPTIONS:
        for name in (option.name, option.negative):
            assert not name or re.search(rf"`--{name}\b(?!-)", GUIDE), name
    for verb in VERBS:
        assert f"`sealift {verb}" in GUIDE, verb


def test_no_document_mentions_an_option_that_there_is_not() -> None:
    known = {name for option in OPTIONS for name in (option.name, option.negative) if name} | {"help", "version"}
    for text in (README, GUIDE):
        assert set(re.findall(r"sealift [^`\n|]*?--([a-z][a-z-]+)", text)) <= known
        assert set(re.findall(r"`--([a-z][a-z-]+)", text)) <= known


def test_readme_and_guide_list_every_exit_status() -> None:
    for text in (README, GUIDE):
        assert {int(number) for number in re.findall(r"^\| (\d+) \| ", text, re.MULTILINE)} == STATUSES


def test_the_guides_table_of_paths_is_what_happens() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", GUIDE, re.MULTILINE)
    assert len(rows) >= 6
    for key, path in rows:
        assert local_path(key, 1).text == path


CODE = re.compile(r"(KMS\.)?[A-Z]\w*[a-z]\w*")
TABLES = {
    *(code for code, _ in (*partial._WHOLE_RUN.values(), *partial._ONE_OBJECT.values())),
    *(translate.RENEWABLE | translate._S3_SLOW | translate._KMS_SLOW | translate._TRY_AGAIN),
    *(translate._CREDENTIALS | translate._SAME_CREDENTIALS | translate._KMS | translate._SAME_KMS),
}


def codes_in(node: ast.AST) -> Iterator[ast.expr]:
    """What is given as an error's code, or compared with one."""
    match node:
        case ast.Call(func=ast.Name("_mismatch"), args=[_, code, _]) | ast.keyword(arg="code", value=code):
            yield code
        case ast.Compare(left=ast.Name("code") | ast.Attribute(attr="code"), comparators=compared):
            yield from compared


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be, or that are among it."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from (*literals(one), *literals(other))
        case ast.BoolOp(values=parts) | ast.Set(elts=parts) | ast.Tuple(elts=parts):
            for part in parts:
                yield from literals(part)


def codes_of_errors() -> set[str]:
    """Every code that the source gives an error of its own, or knows as S3's."""
    codes = set(TABLES)
    for path in (ROOT / "src" / "sealift").rglob("*.py"):
        if "sandbox" in path.parts:  # its servers' errors go to nobody
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for code in codes_in(node):
                codes |= {text for text in literals(code) if CODE.fullmatch(text)}
    return codes


def test_troubleshooting_explains_every_code_of_an_error_and_no_other() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    troubleshooting = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    named = {name for name in re.findall(r"`([^`]+)`", troubleshooting) if CODE.fullmatch(name)}
    codes = codes_of_errors()
    assert {"WorkersDie", "BadAnswer", "Timeout", "ConnectionLost", "RangeMismatch", "NoSuchBucket"} <= codes
    assert codes == named


def test_every_room_of_the_linters_list_is_in_the_design() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = re.findall(r"sealift\.(\w+)", " ".join(contract["layers"]))
    assert [room for room in rooms if f"`{room}`" not in design] == []


def bare_environment(url: str) -> dict[str, str]:
    """Credentials for the servers of the tests, and nothing of the person's who runs them."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
    return inherited | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "example",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md"])
def test_the_python_examples_run(document: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    with FaultServerThread() as server:
        server.put("my-bucket", "reports/2026.csv", b"a,b\n1,2\n")
        server.put("my-bucket", "reports/summary.tmp", b"not yet")
        environment = bare_environment(server.url)
        for block in blocks:
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", block],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert (done.returncode, done.stderr) == (0, ""), block
            assert done.stdout, block
    assert (tmp_path / "mirror" / "2026.csv").read_bytes() == b"a,b\n1,2\n"
    assert (tmp_path / "2026.csv").read_bytes() == b"a,b\n1,2\n"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[str, str], list[str]]:
    """Runs a command of a console session against a server, and returns the lines that it prints."""

    def run(command: str, url: str) -> list[str]:
        for name, value in (bare_environment(url) | {"AWS_REGION": "eu-central-1"}).items():
            monkeypatch.setenv(name, value)
        main(shlex.split(command)[1:])
        said = capfd.readouterr()
        return [*said.out.splitlines(), *said.err.splitlines()]

    return run


@pytest.mark.parametrize("case", CASES)
def test_the_cases_of_permissions_are_what_happens(
    case: str, tmp_path: Path, typed: Callable[[str, str], list[str]]
) -> None:
    document = (ROOT / "docs" / "permissions.md").read_text(encoding="utf-8")
    (told,) = (part for part in document.split("\n## ") if f"accountserver {case} policies/`\n" in part)
    sessions = re.findall(r"```console\n(.*?)```", told, re.DOTALL)
    assert len(sessions) >= 2
    with FaultServerThread(AccountServer(granted(**CASES[case]), tmp_path)) as server:
        for session in sessions:
            for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
                assert typed(command, server.url) == said.splitlines()
            (line,) = typed("sealift doctor --json -q s3://amzn-s3-demo-bucket/data/", server.url)
            for remedy in (each for cure in json.loads(line)["cures"] for each in cure["remedies"]):
                if remedy["act"] == "allow":
                    pasted_into = tmp_path / f"{remedy['policy']}.json"
                    policy = json.loads(pasted_into.read_text(encoding="utf-8"))
                    policy["Statement"] += remedy["statements"]
                    pasted_into.write_text(json.dumps(policy), encoding="utf-8")
    assert sessions[-1].splitlines()[1] == "sealed and lifted"


@pytest.mark.parametrize("thread", THREADS)
def test_refusals_that_nobody_could_read_are_explained_as_troubleshooting_shows(
    thread: str, typed: Callable[[str, str], list[str]]
) -> None:
    document = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    (session,) = re.findall(rf"\*\*{re.escape(thread)}\.\*\*.*?```console\n(.*?)```", document, re.DOTALL)
    command, *shown = session.splitlines()
    with FaultServerThread(AccountServer(granted(**THREADS[thread]))) as server:
        lines = iter(typed(command.removeprefix("$ "), server.url))
    assert all(line == "…" or line in lines for line in shown)
    assert len(shown) >= 3
