from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import (
    AccessError,
    Changed,
    CredentialsError,
    ObjectError,
    Permanent,
    Refused,
    SealiftError,
    SourceError,
    Throttled,
    Transient,
)
from sealift.retry import Attempts, RetrySettings, after
from sealift.s3.translate import Refusal, archived, translate
from tests.support.awserrors import (
    ACCESS_KEY,
    AWS_ERRORS,
    KEY_ARN,
    OBJECT_ARN,
    PRINCIPAL,
    SESSION_TOKEN,
    AwsError,
)

BY_NAME = {error.name: error for error in AWS_ERRORS}
BECAUSE = f"User: {PRINCIPAL} is not authorized to perform: kms:Decrypt on resource: {KEY_ARN} "

NOBODY_ALLOWS = (
    "because the resource does not exist in this Region, no resource-based policies allow access, "
    "or a resource-based policy explicitly denies access"
)

KINDS: dict[str, type[SealiftError]] = {
    "kms throttle": Throttled,
    "s3 throttle": Throttled,
    "kms key": Permanent,
    "refused": Refused,
    "archived": Permanent,
    "changed": Changed,
    "credentials": CredentialsError,
    "region": SourceError,
    "server": Transient,
}


def refusal_of(error: AwsError, operation: str = "get") -> Refusal:
    region = re.search("<Region>(.*)</Region>", error.extra_xml)
    assert operation in {"get", "head", "list"}
    return Refusal(
        status=error.status,
        code=error.code,
        message=error.message,
        operation=operation,  # type: ignore[arg-type]
        bucket="amzn-s3-demo-bucket",
        key="" if operation == "list" else "data/object",
        region=region[1] if region else "",
        headers={name.lower(): value for name, value in error.headers.items()},
    )


def refused(message: str, *, status: int = 403, code: str = "AccessDenied", operation: str = "get") -> Refusal:
    return refusal_of(AwsError("", status, code, message, "refused"), operation)


# Every row of the table


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
def test_every_answer_is_of_its_kind_and_keeps_awss_own_code(error: AwsError) -> None:
    ours = translate(refusal_of(error))
    assert isinstance(ours, KINDS[error.meaning])
    assert ours.code == error.code
    if isinstance(ours, ObjectError):
        assert (ours.bucket, ours.key) == ("amzn-s3-demo-bucket", "data/object")


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
@pytest.mark.parametrize("operation", ["get", "head", "list"])
def test_every_message_is_one_line_that_names_what_it_is_about(error: AwsError, operation: str) -> None:
    ours = translate(refusal_of(error, operation))
    assert ours.message
    assert "\n" not in ours.message
    if isinstance(ours, (Permanent, Changed, Transient)) and operation == "get":
        assert "'data/object'" in ours.message
    if operation == "list" and error.meaning not in {"archived", "changed"}:  # no listing is
        assert "''" not in ours.message, "a listing has no key"


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
def test_only_what_another_attempt_may_mend_is_tried_again(error: AwsError) -> None:
    ours = translate(refusal_of(error))
    again = isinstance(ours, ObjectError) and after(ours, Attempts(), RetrySettings(), progressed=False, chance=0.5)
    assert bool(again) == (error.meaning in {"kms throttle", "s3 throttle", "server"})


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
def test_a_throttle_is_laid_at_the_door_of_its_service(error: AwsError) -> None:
    ours = translate(refusal_of(error))
    if isinstance(ours, Throttled):
        assert f"{ours.service} throttle" == error.meaning
        assert ours.service.upper() in ours.message


# What to do about it


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("key_disabled", f"aws kms enable-key --key-id {KEY_ARN}"),
        ("key_pending_deletion", f"aws kms cancel-key-deletion --key-id {KEY_ARN}"),
        ("key_not_found", "restore the object from a copy under another key"),
        ("key_of_the_wrong_kind", "ask the bucket's owner which key was meant"),
        ("archived_in_glacier", "aws s3api restore-object --bucket amzn-s3-demo-bucket --key data/object"),
        ("archived_in_deep_archive", '"Tier":"Bulk"'),
        ("expired_token", "aws sso login"),
        ("invalid_access_key_id", "AWS_ACCESS_KEY_ID"),
        ("request_time_too_skewed", "clock"),
        ("permanent_redirect", "--region eu-central-1"),
        ("authorization_header_malformed", "--region eu-central-1"),
    ],
)
def test_a_message_says_what_to_do(name: str, advice: str) -> None:
    assert advice in translate(refusal_of(BY_NAME[name])).message


@pytest.mark.parametrize("name", ["key_disabled", "key_pending_deletion", "key_not_found", "key_of_the_wrong_kind"])
def test_an_unusable_key_is_named(name: str) -> None:
    assert KEY_ARN in translate(refusal_of(BY_NAME[name])).message


def test_an_unusable_key_that_s3_does_not_name_leaves_a_place_for_it() -> None:
    ours = translate(refused("", status=400, code="KMS.DisabledException"))
    assert "--key-id KEY-ARN" in ours.message
    assert "KMS.DisabledException" in ours.message


@pytest.mark.parametrize(
    "code", ["KMS.KMSInternalException", "KMS.DependencyTimeoutException", "KMS.KeyUnavailableException"]
)
@pytest.mark.parametrize("status", [400, 500, 503])
def test_what_kms_says_can_be_retried_is_retried(code: str, status: int) -> None:
    assert isinstance(translate(refused("Please try again.", status=status, code=code)), Transient)


# Who lacks what


@pytest.mark.parametrize(
    ("why", "policy"),
    [
        (
            "because no identity-based policy allows the kms:Decrypt action",
            f"allow kms:Decrypt on {KEY_ARN} in an IAM policy of {PRINCIPAL}",
        ),
        (
            "because no resource-based policy allows the kms:Decrypt action",
            f"allow kms:Decrypt for {PRINCIPAL} in the key policy of {KEY_ARN}",
        ),
        (
            "because no service control policy allows the kms:Decrypt action",
            f"allow kms:Decrypt on {KEY_ARN} in a service control policy of the organization of {PRINCIPAL}",
        ),
        (
            "because no resource control policy allows the kms:Decrypt action",
            f"in a resource control policy of the organization that owns {KEY_ARN}",
        ),
        (
            "because no permissions boundary allows the kms:Decrypt action",
            f"allow kms:Decrypt on {KEY_ARN} in a permissions boundary of {PRINCIPAL}",
        ),
        (
            "because no session policy allows the kms:Decrypt action",
            f"allow kms:Decrypt on {KEY_ARN} in a session policy of {PRINCIPAL}",
        ),
        (
            "because no VPC endpoint policy allows the kms:Decrypt action",
            f"allow kms:Decrypt on {KEY_ARN} in the policy of the VPC endpoint",
        ),
        (
            "with an explicit deny in an identity-based policy",
            f"explicit Deny in an identity-based policy of {PRINCIPAL}",
        ),
        ("with an explicit deny in a resource-based policy", f"explicit Deny in the key policy of {KEY_ARN}"),
        (
            "with an explicit deny in a service control policy",
            f"explicit Deny in a service control policy of the organization of {PRINCIPAL}",
        ),
        (
            "with an explicit deny in a resource control policy",
            f"explicit Deny in a resource control policy of the organization that owns {KEY_ARN}",
        ),
        ("with an explicit deny in a permissions boundary", f"explicit Deny in a permissions boundary of {PRINCIPAL}"),
        ("with an explicit deny in a session policy", f"explicit Deny in a session policy of {PRINCIPAL}"),
        ("with an explicit deny in a VPC endpoint policy", "explicit Deny in the policy of the VPC endpoint"),
        ("with an explicit deny", f"explicit Deny in a policy that applies of {PRINCIPAL}"),
        (
            NOBODY_ALLOWS,
            f"in the key policy of {KEY_ARN} (or lift a Deny there)",
        ),
        ("", f"in an IAM policy of {PRINCIPAL}, and in the key policy of {KEY_ARN}"),
    ],
)
def test_a_refused_decrypt_names_principal_action_key_and_the_policy_to_change(why: str, policy: str) -> None:
    ours = translate(refused(BECAUSE + why))
    assert isinstance(ours, Refused)
    assert f"{PRINCIPAL} lacks kms:Decrypt on {KEY_ARN}: " in ours.message
    assert policy in ours.message


def test_an_explicit_deny_is_not_answered_with_another_allow() -> None:
    ours = translate(refused(BECAUSE + "with an explicit deny in a service control policy"))
    assert "no Allow overrides it" in ours.message
    assert "allow kms:Decrypt" not in ours.message


def test_a_refused_decrypt_of_a_key_that_is_not_named_still_names_the_rest() -> None:
    ours = translate(refusal_of(BY_NAME["decrypt_of_an_unnamed_key"]))
    assert isinstance(ours, Refused)
    assert f"{PRINCIPAL} lacks kms:Decrypt on the object's KMS key: " in ours.message
    assert "the key policy of the object's KMS key" in ours.message


def test_a_quoted_resource_is_named_without_its_quotes() -> None:
    ours = translate(refusal_of(BY_NAME["get_not_in_identity_policy"]))
    assert f"lacks s3:GetObject on {OBJECT_ARN}: " in ours.message
    assert f"allow s3:GetObject on {OBJECT_ARN} in an IAM policy of {PRINCIPAL}" in ours.message
    assert "key policy" not in ours.message


def test_a_refusal_of_the_bucket_policy_names_the_bucket_policy() -> None:
    message = (
        f"User: {PRINCIPAL} is not authorized to perform: s3:GetObject on resource: {OBJECT_ARN} "
        "with an explicit deny in a resource-based policy"
    )
    assert "explicit Deny in the bucket policy" in translate(refused(message)).message


def test_the_end_of_a_sentence_is_no_part_of_the_key() -> None:
    message = f"User: {PRINCIPAL} is not authorized to perform: kms:Decrypt on resource: {KEY_ARN}."
    assert f"on {KEY_ARN}: " in translate(refused(message)).message


@pytest.mark.parametrize(
    ("code", "message"), [("AccessDenied", "Access Denied"), ("403", "Forbidden"), ("AccessDenied", "")]
)
def test_a_plain_refusal_lists_everything_it_can_mean(code: str, message: str) -> None:
    ours = translate(refused(message, code=code))
    assert isinstance(ours, Refused)
    assert ours.code == "AccessDenied"
    for candidate in ("s3:GetObject on arn:aws:s3:::amzn-s3-demo-bucket/*", "kms:Decrypt", "key policy"):
        assert candidate in ours.message
    assert "s3:ListBucket" in ours.message, "a missing key is refused as well"


def test_a_refused_listing_is_about_the_bucket_and_ends_its_source() -> None:
    plain = translate(refused("Access Denied", operation="list"))
    assert isinstance(plain, AccessError)
    assert "allow s3:ListBucket on arn:aws:s3:::amzn-s3-demo-bucket" in plain.message
    told = translate(
        refused(
            f"User: {PRINCIPAL} is not authorized to perform: s3:ListBucket on resource: "
            '"arn:aws:s3:::amzn-s3-demo-bucket" because no identity-based policy allows the s3:ListBucket action',
            operation="list",
        )
    )
    assert isinstance(told, AccessError)
    assert f"in an IAM policy of {PRINCIPAL}" in told.message


# Sources, and the rest


@pytest.mark.parametrize(
    ("code", "status"), [("NoSuchBucket", 404), ("InvalidBucketName", 400), ("NoSuchAccessPoint", 404)]
)
@pytest.mark.parametrize("operation", ["get", "list"])
def test_a_missing_bucket_is_an_error_of_the_source(code: str, status: int, operation: str) -> None:
    ours = translate(refused("It does not exist", code=code, status=status, operation=operation))
    assert isinstance(ours, SourceError)
    assert ours.code == code
    assert "amzn-s3-demo-bucket" in ours.message


def test_what_answers_404_to_a_listing_has_no_such_bucket() -> None:
    ours = translate(refused("Not Found", code="404", status=404, operation="list"))
    assert isinstance(ours, SourceError)
    assert "the endpoint" in ours.message


@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("NoSuchVersion", 404), ("404", 404)])
def test_a_missing_key_fails_alone(code: str, status: int) -> None:
    ours = translate(refused("Not Found", code=code, status=status))
    assert isinstance(ours, Permanent)
    assert ours.code == "NoSuchKey"
    assert "if a listing named it, it was deleted since" in ours.message


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("503 Slow Down", 429),
        ("429", 429),
        ("RequestLimitExceeded", 503),
        ("TooManyRequests", 429),
        ("BandwidthLimitExceeded", 509),
    ],
)
def test_whatever_asks_for_fewer_requests_is_a_throttle(code: str, status: int) -> None:
    ours = translate(refused("Please reduce your request rate.", code=code, status=status))
    assert isinstance(ours, Throttled)
    assert ours.service == "s3"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InternalError", 500),
        ("502", 502),
        ("ServiceUnavailable", 503),
        ("504", 504),
        ("", 500),
        ("408", 408),
        ("RequestTimeout", 400),
        ("InternalError", 200),
    ],
)
def test_a_server_that_fails_may_do_better_next_time(code: str, status: int) -> None:
    assert isinstance(translate(refused("Oops", code=code, status=status)), Transient)


@pytest.mark.parametrize(("code", "status"), [("PreconditionFailed", 412), ("412", 412), ("InvalidRange", 416)])
def test_an_object_that_no_longer_fits_its_listing_was_overwritten(code: str, status: int) -> None:
    assert isinstance(translate(refused("", code=code, status=status)), Changed)


@pytest.mark.parametrize(("code", "status"), [("InvalidRequest", 400), ("MethodNotAllowed", 405), ("Novel", 400)])
def test_an_answer_nobody_knows_fails_the_object_with_awss_words(code: str, status: int) -> None:
    ours = translate(refused("So it is.", code=code, status=status))
    assert isinstance(ours, Permanent)
    assert f"{status} {code}: So it is" in ours.message


@pytest.mark.parametrize(
    "code", ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "SignatureDoesNotMatch"]
)
def test_credentials_that_are_not_accepted_end_the_run(code: str) -> None:
    for operation in ("list", "head", "get"):
        ours = translate(refused("No.", code=code, status=400, operation=operation))
        assert isinstance(ours, CredentialsError)
        assert ours.code == code


def test_a_redirect_without_a_region_still_says_what_to_do() -> None:
    ours = translate(refused("Moved", code="PermanentRedirect", status=301))
    assert isinstance(ours, SourceError)
    assert "--region" in ours.message


@pytest.mark.parametrize("key", ["a b'c\"d", "-rf", "$(x)", "ü\n", "a/\udcff"])
def test_the_restore_command_can_be_pasted_into_a_shell(key: str) -> None:
    ours = archived("bucket", key, "GLACIER")
    words = shlex.split(ours.message.partition("run again: ")[2])
    assert words[:3] == ["aws", "s3api", "restore-object"]
    assert words[words.index("--key") + 1] == key
    assert words[-1] == '{"Days":7,"GlacierJobParameters":{"Tier":"Standard"}}'


def test_intelligent_tiering_is_restored_without_a_number_of_days() -> None:
    tiered = {"x-amz-storage-class": "INTELLIGENT_TIERING"}
    ours = translate(refusal_of(AwsError("", 403, "InvalidObjectState", "", "archived", tiered)))
    assert "INTELLIGENT_TIERING" in ours.message
    assert "Days" not in ours.message


# Any answer at all


@pytest.mark.parametrize("error", AWS_ERRORS, ids=lambda error: error.name)
def test_nothing_secret_that_the_answer_repeats_gets_into_the_message(error: AwsError) -> None:
    ours = translate(refusal_of(error))
    for secret in (ACCESS_KEY, SESSION_TOKEN):
        assert secret not in f"{ours.message} {ours!r} {vars(ours)}"


@given(
    status=st.integers(200, 599),
    code=st.one_of(st.text(max_size=20), st.sampled_from(sorted({error.code for error in AWS_ERRORS}))),
    message=st.one_of(
        st.text(max_size=60),
        st.text(max_size=600),
        st.builds((BECAUSE + "{}").format, st.text(max_size=40)),
        st.sampled_from([error.message for error in AWS_ERRORS]),
    ),
    operation=st.sampled_from(["get", "head", "list"]),
)
def test_any_answer_becomes_an_error_with_a_message_of_bounded_length(
    status: int, code: str, message: str, operation: str
) -> None:
    ours = translate(refused(message, status=status, code=code, operation=operation))
    assert ours.message
    assert len(ours.message) < 2500
