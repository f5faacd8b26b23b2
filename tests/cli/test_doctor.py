"""`sealift doctor` against the account model on loopback: what it prints is followed, and then the download works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sealift.cli import main
from tests.support.accounts import BODY, BUCKET, KEYS, ONE, PREFIX, THREE, TWO, granted
from tests.support.accountserver import AccountServer
from tests.support.awserrors import AWS_ERRORS
from tests.support.faultserver import FaultServerThread
from tests.support.mending import ROUNDS, SOURCE

CASES: dict[str, dict[str, Any]] = {
    "one account, by IAM": {"decrypt": "absent", "key_policy": "delegated"},
    "one account, by the key policy": {"decrypt": "absent", "key_policy": "absent"},
    "two accounts": {"decrypt": "absent", "key_policy": "absent", "key": TWO},
    "three accounts, nothing explained": {
        "list_": "absent",
        "get": "denied",
        "bucket_policy": "absent",
        "key_policy": "denied",
        "bucket": TWO,
        "key": THREE,
        "explained": False,
    },
    "Bucket Keys": {"list_": "denied", "decrypt": "denied", "key_policy": "delegated", "bucket_key": True},
}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    server = AccountServer(granted(**request.param))
    with FaultServerThread(server):
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.mark.parametrize("model", CASES.values(), ids=CASES, indirect=True)
def test_after_following_what_it_prints_mirror_and_get_work(
    model: AccountServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["mirror", "-q", SOURCE, str(tmp_path / "before")]) == 3
    capsys.readouterr()
    for _ in range(ROUNDS):
        status = main(["doctor", "--json", "-q", SOURCE])
        said = json.loads(capsys.readouterr().out)
        assert status == said["exit_status"]
        if status == 0:
            break
        assert said["cures"]
        for cure in said["cures"]:
            for remedy in cure["remedies"]:
                model.accounts.follow(remedy)
    assert main(["mirror", "-q", SOURCE, str(tmp_path / "mirror")]) == 0
    assert (tmp_path / "mirror" / KEYS[0].removeprefix(PREFIX)).read_bytes() == BODY
    assert main(["get", "-q", f"s3://{BUCKET}/{KEYS[1]}", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one").read_bytes() == BODY


@pytest.mark.parametrize("model", [CASES["two accounts"]], indirect=True)
def test_a_person_reads_each_link_and_what_to_paste_where(
    model: AccountServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", SOURCE]) == 3
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["ok", "credentials"], ["ok", "endpoint"], ["ok", "bucket"]]
    assert f"1. kms:Decrypt on {model.accounts.key_arn}" in lines
    (pasted,) = re.findall(r"add to its statements:\n(\{.*?\n\})", said.out, re.DOTALL)
    assert json.loads(pasted) == {
        "Sid": "SealiftDecrypt",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ONE}:role/nightly"},
        "Action": "kms:Decrypt",
        "Resource": "*",
    }
    assert "a session's ARN does not tell the path of its role" in said.err
    assert "run it again" in said.err


@pytest.mark.parametrize("model", [{}], indirect=True)
def test_what_nothing_is_wrong_with_is_healthy(model: AccountServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", SOURCE, "--sample", "1"]) == 0
    said = capsys.readouterr()
    assert "REFUSED" not in said.out
    assert "1 object looked at" in said.out
    assert "KMS requests for a mirror of it: 2" in said.out
    assert "nothing stands in the way" in said.err


@pytest.mark.parametrize("model", [{}], indirect=True)
def test_json_has_the_fields_that_the_document_shows(model: AccountServer, capsys: pytest.CaptureFixture[str]) -> None:
    model.accounts.key_policy.clear()
    assert main(["doctor", "--json", SOURCE]) == 3
    said = json.loads(capsys.readouterr().out)
    document = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    (shown,) = re.findall("## `doctor`.*?```json\n(.*?)```", document, re.DOTALL)
    example = json.loads(shown)
    assert list(example) == list(said)
    for name in ("links", "cures", "keys"):
        assert list(example[name][0]) == list(said[name][0])
    assert list(example["cures"][0]["remedies"][0]) == list(said["cures"][0]["remedies"][0])
    assert list(example["kms"]) == list(said["kms"])


@pytest.mark.parametrize("model", [{}], indirect=True)
def test_a_bucket_that_there_is_not_is_the_sources_fault(
    model: AccountServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "s3://nowhere/data/"]) == 5
    assert "there is no bucket 'nowhere'" in capsys.readouterr().out


@pytest.mark.parametrize("model", [{}], indirect=True)
def test_nothing_secret_is_printed(
    model: AccountServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "FwoGZXIvYXdz")
    model.accounts.key_policy.clear()
    for more in ([], ["--json"], ["-v"]):
        assert main(["doctor", SOURCE, *more]) == 3
        said = capsys.readouterr()
        for secret in ("wJalrXUtnFEMI", "FwoGZXIvYXdz", "AKIDEXAMPLE"):
            assert secret not in said.out + said.err


@pytest.mark.parametrize("model", [{}], indirect=True)
def test_credentials_that_are_refused_end_it(
    model: AccountServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.require_access_key = {"AKIDOTHER"}
    model.access_key_refusal = "InvalidAccessKeyId"
    assert main(["doctor", SOURCE]) == 3
    assert "REFUSED   credentials" in capsys.readouterr().out


@pytest.mark.parametrize("model", [{}], indirect=True)
def test_a_bucket_in_another_region_is_the_sources_fault_and_the_region_is_named(
    model: AccountServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (moved,) = (error for error in AWS_ERRORS if error.name == "authorization_header_malformed")
    model.fault(op="list", do=moved.answer(), times=None)
    assert main(["doctor", SOURCE]) == 5
    assert "it is in eu-central-1: run with --region eu-central-1" in capsys.readouterr().out
