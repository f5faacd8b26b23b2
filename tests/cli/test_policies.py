"""`sealift policy`, from its argv to what is pasted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sealift.cli import main
from tests.support.faultserver import FaultServer

ROLE = "arn:aws:iam::111122223333:role/nightly"
KEY = "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
GIVEN = ["policy", "s3://bucket/p/", "--principal", ROLE, "--key", KEY]


def test_each_policy_comes_with_where_it_belongs_and_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GIVEN, "--bucket-account", "777788889999"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    iam, key, bucket = said.out.split("\n\n")
    assert iam.startswith(f"# IAM policy of {ROLE}\n# in account 111122223333: ")
    assert key.startswith(f"# key policy of {KEY}\n# in account 444455556666: the key is another account's")
    assert bucket.startswith("# bucket policy of arn:aws:s3:::bucket\n# in account 777788889999: ")
    whole, of_key, of_bucket = (
        "\n".join(line for line in text.splitlines() if not line.startswith("#")) for text in (iam, key, bucket)
    )
    assert json.loads(whole)["Version"] == "2012-10-17"
    assert json.loads(of_key)["Principal"] == {"AWS": ROLE}
    assert [statement["Action"] for statement in json.loads(f"[{of_bucket}]")] == ["s3:ListBucket", "s3:GetObject"]


def test_json_is_one_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GIVEN, "--format", "json"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    written = json.loads(said.out)
    assert written["principal"] == ROLE
    document = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    (shown,) = re.findall("## `policy`.*?```json\n(.*?)```", document, re.DOTALL)
    assert list(json.loads(shown)) == list(written)
    assert list(json.loads(shown)["documents"][0]) == list(written["documents"][0])
    assert [(each["kind"], each["required"]) for each in written["documents"]] == [("iam", True), ("key", True)]
    assert written["documents"][1]["policy"]["Statement"][0]["Action"] == "kms:Decrypt"
    assert "sealift: the bucket is taken to be 111122223333's" in said.err


def test_terraform_is_terraform(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GIVEN, "--format=terraform", "-q"]) == 0
    said = capsys.readouterr()
    assert said.out.count('data "aws_iam_policy_document"') == 2
    assert said.err == ""


def test_options_may_be_given_several_times(capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--key", KEY.replace("444455556666", "111122223333"), "--for", "as-of", "--for", "kms-share", "--strict"]
    assert main([*GIVEN, *more, "--bucket-keys", "off", "--format", "json"]) == 0
    documents = json.loads(capsys.readouterr().out)["documents"]
    assert [(each["kind"], each["account"]) for each in documents] == [
        ("iam", "111122223333"),
        ("key", "444455556666"),
        ("key", "111122223333"),
    ]
    written = json.dumps(documents[0])
    assert all(action in written for action in ("s3:GetObjectVersion", "GetServiceQuota", "kms:ViaService"))
    assert '"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::bucket/p/*"' in written


def test_the_keys_are_found_out_where_none_is_named(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.put("bucket", "p/x", b"x", kms_key=KEY)
    assert main(["policy", "s3://bucket/p", "--principal", ROLE, "--format", "json", "--sample", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"][1]["resources"] == [KEY]
    assert main(["policy", "s3://nowhere/p/", "--principal", ROLE]) == 5
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["policy", "s3://bucket/p/"], "--principal"),
        (["policy", "--principal", ROLE], "write sealift policy SOURCE... --principal ARN"),
        (["policy", "s3://bucket/p/", "--principal", "nobody"], "'nobody' is nobody's ARN"),
        ([*GIVEN, "--key", "alias/x"], "--key: 'alias/x' is no key's ARN"),
        ([*GIVEN, "--bucket-account", "1"], "--bucket-account: '1' is no account"),
        ([*GIVEN, "--format", "yaml"], "--format: 'yaml' is not one of text, json and terraform"),
        ([*GIVEN, "--for", "fun"], "--for: 'fun' is not one of"),
        ([*GIVEN, "--memory", "1MB"], "sealift policy takes no --memory"),
        (["policy", "s3://bucket/p\n/", "--principal", ROLE, "--key", KEY], "cannot be written in a policy"),
    ],
)
def test_what_cannot_be_meant_is_said_and_nothing_printed(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
