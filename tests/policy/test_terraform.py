"""The policies in Terraform's language say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hcl2
import pytest

from sealift.policy.documents import EXTRAS, Request, documents
from sealift.policy.principal import Principal
from sealift.policy.statements import Scope
from sealift.policy.terraform import terraform
from tests.policy.test_documents import BUCKET, ONE, ROLE, TWO, key_of, request


def read(lines: list[str]) -> dict[str, Any]:
    """The file by Terraform's grammar; strings come without their quotes."""
    parsed = hcl2.loads("\n".join(lines) + "\n")

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {plain(name): plain(each) for name, each in value.items() if not str(name).startswith("__")}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value[1:-1] if isinstance(value, str) and value[:1] == '"' else value

    return dict(plain(parsed))


def as_iam(statement: Mapping[str, Any]) -> dict[str, Any]:
    """A statement as the data source renders it (Terraform AWS provider, aws_iam_policy_document)."""

    def one_or_more(values: list[str]) -> str | list[str]:
        rendered = [value.replace("&{", "${").replace("%%{", "%{") for value in values]
        return rendered[0] if len(rendered) == 1 else rendered

    made: dict[str, Any] = {"Sid": statement["sid"], "Effect": statement["effect"]}
    for principals in statement.get("principals", []):
        made["Principal"] = {principals["type"]: one_or_more(principals["identifiers"])}
    made |= {"Action": one_or_more(statement["actions"]), "Resource": one_or_more(statement["resources"])}
    for condition in statement.get("condition", []):
        tests = made.setdefault("Condition", {}).setdefault(condition["test"], {})
        tests[condition["variable"]] = one_or_more(condition["values"])
    return made


def wanted() -> Request:
    return request(
        "s3://amzn-s3-demo-bucket/a*b/${c}/%{d}/",
        "s3://amzn-s3-demo-bucket2",
        keys=[key_of(ONE), key_of(TWO), key_of(TWO, 2)],
        bucket_account=TWO,
        strict=True,
        extras=frozenset(EXTRAS),
        principal=f"arn:aws:sts::{ONE}:assumed-role/AWSReservedSSO_Read_0123456789abcdef/ann",
    )


def test_they_render_to_the_same_statements():
    found = documents(wanted())
    sources = read(terraform(found, wanted().principal))["data"]
    rendered = [
        [as_iam(s) for s in source["aws_iam_policy_document"][name]["statement"]]
        for source in sources
        for name in source["aws_iam_policy_document"]
    ]
    assert rendered == [[dict(s) for s in document.statements] for document in found]
    assert any("${*}" in str(statement) for statement in rendered[0])


@pytest.mark.parametrize(
    ("principal", "kind", "to"),
    [
        (ROLE, "aws_iam_role_policy", {"role": "nightly"}),
        (f"arn:aws:iam::{ONE}:user/ann", "aws_iam_user_policy", {"user": "ann"}),
        (f"arn:aws:iam::{ONE}:root", "aws_iam_policy", {}),
    ],
)
def test_the_callers_own_is_attached_to_it(principal, kind, to):
    who = Principal.parse(principal)
    scopes = [Scope.parse(f"s3://{BUCKET.rpartition(':')[2]}/", partition="aws")]
    lines = terraform(documents(Request(principal=who, scopes=scopes, keys={})), who)
    (resource,) = read(lines)["resource"]
    policy = "${data.aws_iam_policy_document.sealift_iam.json}"
    assert resource == {kind: {"sealift": {"name": "sealift", **to, "policy": policy}}}


def test_a_role_that_identity_center_makes_is_attached_to_by_its_permission_set():
    lines = terraform(documents(wanted()), wanted().principal)
    assert "resource" not in read(lines)
    assert any("permission set Read" in line for line in lines)
