"""What a policy says to somebody who may look at it; it is never taken to say more than it does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.policy.reading import Reading, read_policy
from tests.support.iam import Ask, Policies, decide

ROLE = "arn:aws:iam::111122223333:role/nightly"
KEY = "arn:aws:kms:eu-central-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BUCKET = "arn:aws:s3:::amzn-s3-demo-bucket"
CONTEXT = {"kms:encryptioncontext:aws:s3:arn": f"{BUCKET}/data/x", "kms:viaservice": "s3.eu-central-1.amazonaws.com"}


def said(**statement: Any) -> Reading:
    whole = {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Decrypt", "Resource": "*"} | statement
    whole = {name: value for name, value in whole.items() if value is not None}
    policy = {"Statement": [whole]}
    return read_policy(policy, principal=ROLE, action="kms:Decrypt", resource=KEY, context=CONTEXT)


@pytest.mark.parametrize(
    ("statement", "reading"),
    [
        ({}, Reading("yes", itself=True)),
        ({"Principal": "*"}, Reading("yes", itself=True)),
        ({"Principal": {"AWS": "111122223333"}}, Reading("yes")),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:root"}}, Reading("yes")),
        ({"Principal": {"AWS": "arn:aws:iam::444455556666:root"}}, Reading("no")),
        ({"Principal": {"Service": "s3.amazonaws.com"}}, Reading("no")),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:role/team/nightly"}}, Reading("perhaps")),
        ({"Principal": None, "NotPrincipal": {"AWS": ROLE}}, Reading("perhaps")),
        ({"Action": ["kms:DescribeKey", "kms:De*"]}, Reading("yes", itself=True)),
        ({"Action": "KMS:DECRYPT"}, Reading("yes", itself=True)),
        ({"Action": "kms:Encrypt"}, Reading("no")),
        ({"Action": None, "NotAction": "kms:Decrypt"}, Reading("no")),
        ({"Effect": "Deny"}, Reading("no", "yes")),
        ({"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}, Reading("no", "perhaps")),
        (
            {"Condition": {"StringLike": {"kms:EncryptionContext:aws:s3:arn": f"{BUCKET}/*"}}},
            Reading("yes", itself=True),
        ),
        ({"Condition": {"StringLike": {"kms:EncryptionContext:aws:s3:arn": BUCKET}}}, Reading("no")),
        ({"Condition": {"StringNotEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}}}, Reading("no")),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}, Reading("perhaps")),
        ({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}, Reading("perhaps")),
    ],
)
def test_a_statement_is_read_as_far_as_it_can_be(statement, reading):
    assert said(**statement) == reading


def deny(sid: str, **more: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"} | more


ANYBODY, ELSEWHERE = deny("Anybody"), deny("Elsewhere", Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})
ENCRYPTING, ALLOWED = deny("Encrypting", Action="kms:Encrypt"), deny("Allowed", Effect="Allow")


@pytest.mark.parametrize(
    ("statements", "denying"),
    [
        ([ENCRYPTING, ANYBODY, ALLOWED], [ANYBODY]),
        ([ELSEWHERE, ENCRYPTING, ELSEWHERE], [ELSEWHERE, ELSEWHERE]),
        ([ELSEWHERE, ANYBODY], [ANYBODY]),
        ([ENCRYPTING, ALLOWED], []),
    ],
    ids=["one is sure", "two may", "a sure one counts", "none"],
)
def test_the_statements_that_deny_are_told_as_they_stand(statements, denying):
    reading = read_policy(
        {"Statement": statements}, principal=ROLE, action="kms:Decrypt", resource=KEY, context=CONTEXT
    )
    assert list(reading.denying) == denying


@pytest.mark.parametrize("policy", [{}, {"Statement": "?"}, {"Statement": [7]}, {"Statement": {"Effect": "Allow"}}])
def test_what_is_no_policy_says_nothing(policy):
    assert read_policy(policy, principal=ROLE, action="kms:Decrypt", resource=KEY, context={}) == Reading()


PRINCIPALS = st.sampled_from(["*", {"AWS": ROLE}, {"AWS": "arn:aws:iam::111122223333:root"}, {"AWS": f"{ROLE}2"}])
STATEMENTS = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]),
        "Principal": PRINCIPALS,
        "Action": st.sampled_from(["kms:Decrypt", "kms:*", ["kms:Encrypt"], "*"]),
        "Resource": st.sampled_from(["*", KEY, BUCKET]),
        "Condition": st.sampled_from(
            [{}, *({"StringLike": {"kms:EncryptionContext:aws:s3:arn": each}} for each in (BUCKET, f"{BUCKET}/data/*"))]
        ),
    }
)


@given(st.lists(STATEMENTS, max_size=4))
def test_it_agrees_with_the_evaluation_where_it_is_sure(statements):
    policy = {"Statement": statements}
    reading = read_policy(policy, principal=ROLE, action="kms:Decrypt", resource=KEY, context=CONTEXT)
    every = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    ask = Ask(ROLE, "kms:Decrypt", KEY, CONTEXT)
    decision = decide(ask, Policies(identity=[every], resource=policy), "444455556666", by_resource=True)
    assert "perhaps" not in (reading.allows, reading.denies)
    assert (reading.denies == "yes") == decision.explicit
    if reading.denies == "no":
        assert (reading.allows == "yes") == decision.allowed
