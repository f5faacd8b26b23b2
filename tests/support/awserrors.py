"""What AWS answers to a GetObject that it does not serve: status, code, message.

Where a thread shows AWS's own words, it is named beside them. Nobody seems to have published the words of
TooManyRequests (S3's SlowDown lends them) and of InvalidKeyUsageException for Decrypt (Encrypt's, adapted).
Accounts and key ids are those of AWS's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.support.faultserver import Answer

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PRINCIPAL = "arn:aws:sts::444455556666:assumed-role/nightly-pull/i-0123456789abcdef0"
OBJECT_ARN = "arn:aws:s3:::amzn-s3-demo-bucket/data/object"
ACCESS_KEY = "ASIAIOSFODNN7EXAMPLE"
SESSION_TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN"
"""S3 repeats the expired token in its answer: it must not get into a message of ours."""

Meaning = Literal[
    "kms throttle", "s3 throttle", "kms key", "refused", "archived", "changed", "credentials", "region", "server"
]
"""kms key: nobody can use the key; refused: somebody has to grant something; server: another attempt may do."""


@dataclass(frozen=True, slots=True)
class AwsError:
    """One answer. `name` is a test id."""

    name: str
    status: int
    code: str
    message: str
    meaning: Meaning
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_xml: str = ""

    def answer(self) -> Answer:
        """The fault that answers with it."""
        return Answer(self.status, self.code, self.message, self.headers, self.extra_xml)


_NOT_AUTHORIZED = f"User: {PRINCIPAL} is not authorized to perform: kms:Decrypt"
_NOBODY_ALLOWS = (
    "because the resource does not exist in this Region, no resource-based policies allow access, "
    "or a resource-based policy explicitly denies access"
)
_ARCHIVED = "The operation is not valid for the object's storage class"


def _denied(name: str, message: str) -> AwsError:
    return AwsError(name, 403, "AccessDenied", message, "refused")


def _archived(name: str, storage_class: str) -> AwsError:
    return AwsError(
        name,
        403,
        "InvalidObjectState",
        _ARCHIVED,
        "archived",
        {"x-amz-storage-class": storage_class},
        f"<StorageClass>{storage_class}</StorageClass>",
    )


AWS_ERRORS: tuple[AwsError, ...] = (
    # aws-samples/cql-replicator#92
    AwsError(
        "kms_slow_down",
        503,
        "SlowDown",
        "Please reduce your request rate for operations involving AWS KMS.",
        "kms throttle",
    ),
    AwsError(
        "kms_throttling_exception_with_prefix",
        400,
        "KMS.ThrottlingException",
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
        "kms throttle",
    ),
    AwsError(
        "kms_throttling_exception",
        400,
        "ThrottlingException",
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
        "kms throttle",
    ),
    # KMS Developer Guide, "Monitoring external key stores", which quotes the middle of it
    AwsError(
        "kms_key_store_too_busy",
        400,
        "KMS.KMSInvalidStateException",
        "AWS KMS rejected the request to the external key store proxy due to a very high request rate.",
        "kms throttle",
    ),
    # KMS Developer Guide, "Troubleshooting external key stores"
    AwsError(
        "kms_key_store_silent",
        400,
        "KMS.KMSInvalidStateException",
        "AWS KMS rejected the request because the external key store proxy did not respond in time. Retry the request. "
        "If you see this error repeatedly, report it to your external key store proxy administrator.",
        "server",
    ),
    AwsError("s3_slow_down", 503, "SlowDown", "Please reduce your request rate.", "s3 throttle"),
    AwsError("too_many_requests", 429, "TooManyRequests", "Please reduce your request rate.", "s3 throttle"),
    AwsError("key_disabled", 400, "KMS.DisabledException", f"{KEY_ARN} is disabled.", "kms key"),
    AwsError("key_pending_deletion", 400, "KMS.KMSInvalidStateException", f"{KEY_ARN} is pending deletion.", "kms key"),
    AwsError("key_not_found", 400, "KMS.NotFoundException", f"Key '{KEY_ARN}' does not exist", "kms key"),
    # jonathankeebler/jwt-kms#4
    AwsError(
        "key_of_the_wrong_kind",
        400,
        "KMS.InvalidKeyUsageException",
        f"{KEY_ARN} key usage is SIGN_VERIFY which is not valid for Decrypt.",
        "kms key",
    ),
    _denied(
        "decrypt_not_in_identity_policy",
        f"{_NOT_AUTHORIZED} on resource: {KEY_ARN} because no identity-based policy allows the kms:Decrypt action",
    ),
    _denied(
        "decrypt_not_in_key_policy",
        f"{_NOT_AUTHORIZED} on resource: {KEY_ARN} because no resource-based policy allows the kms:Decrypt action",
    ),
    _denied(
        "decrypt_denied_by_identity_policy",
        f"{_NOT_AUTHORIZED} on resource: {KEY_ARN} with an explicit deny in an identity-based policy",
    ),
    _denied(
        "decrypt_denied_by_key_policy",
        f"{_NOT_AUTHORIZED} on resource: {KEY_ARN} with an explicit deny in a resource-based policy",
    ),
    _denied(
        "decrypt_denied_by_service_control_policy",
        f"{_NOT_AUTHORIZED} on resource: {KEY_ARN} with an explicit deny in a service control policy",
    ),
    _denied("decrypt_of_a_key_elsewhere", f"{_NOT_AUTHORIZED} on resource: {KEY_ARN} {_NOBODY_ALLOWS}"),
    # onnela-lab/beiwe-backend#363: no key is named to a caller who may not know it.
    _denied(
        "decrypt_of_an_unnamed_key",
        f"{_NOT_AUTHORIZED} on the resource associated with this ciphertext {_NOBODY_ALLOWS}",
    ),
    # ministryofjustice/modernisation-platform#3468
    _denied(
        "decrypt_in_older_words",
        "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are "
        "not allowed to access.",
    ),
    _denied(
        "get_not_in_identity_policy",
        f'User: {PRINCIPAL} is not authorized to perform: s3:GetObject on resource: "{OBJECT_ARN}" '
        "because no identity-based policy allows the s3:GetObject action",
    ),
    # boto/boto3#2952: outside the organization, in older days, or a missing key without s3:ListBucket.
    _denied("plain_access_denied", "Access Denied"),
    _archived("archived_in_glacier", "GLACIER"),
    _archived("archived_in_deep_archive", "DEEP_ARCHIVE"),
    AwsError(
        "precondition_failed",
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        "changed",
        extra_xml="<Condition>If-Match</Condition>",
    ),
    AwsError(
        "expired_token",
        400,
        "ExpiredToken",
        "The provided token has expired.",
        "credentials",
        extra_xml=f"<Token-0>{SESSION_TOKEN}</Token-0>",
    ),
    AwsError(
        "invalid_access_key_id",
        403,
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
        "credentials",
        extra_xml=f"<AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId>",
    ),
    AwsError(
        "request_time_too_skewed",
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        "credentials",
        extra_xml="<RequestTime>20240517T083000Z</RequestTime><ServerTime>2024-05-17T09:30:00Z</ServerTime>"
        "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>",
    ),
    AwsError(
        "permanent_redirect",
        301,
        "PermanentRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint. "
        "Please send all future requests to this endpoint.",
        "region",
        {"x-amz-bucket-region": "eu-central-1"},
        "<Endpoint>amzn-s3-demo-bucket.s3.eu-central-1.amazonaws.com</Endpoint><Bucket>amzn-s3-demo-bucket</Bucket>",
    ),
    # jsoma/flatware#10, JuliaServices/CloudStore.jl#52: the connection is closed
    AwsError(
        "authorization_header_malformed",
        400,
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'",
        "region",
        {"Connection": "close"},
        "<Region>eu-central-1</Region>",
    ),
    AwsError("internal_error", 500, "InternalError", "We encountered an internal error. Please try again.", "server"),
    AwsError("service_unavailable", 503, "ServiceUnavailable", "Service is unable to handle request.", "server"),
    AwsError(
        "request_timeout",
        400,
        "RequestTimeout",
        "Your socket connection to the server was not read from or written to within the timeout period. "
        "Idle connections will be closed.",
        "server",
        {"Connection": "close"},
    ),
)
