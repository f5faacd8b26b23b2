"""What `sealift doctor` looks at beside listings and objects: STS, the endpoint, the bucket's settings, the keys.

Through the SDK, each look one request. Nothing is changed by any of them. Not being permitted to look is an answer like
others (`Unseen`), never an error.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import anyio
from anyio.streams.tls import TLSAttribute

from sealift.arn import region_of
from sealift.config import ConnectionSettings
from sealift.diagnosis.facts import BucketSeen, Caller, Endpoint, Identity, KeySeen, Unseen
from sealift.errors import ConfigError, SourceError
from sealift.s3.environment import proxy_for
from sealift.s3.plainhttp import refuse_plain_http
from sealift.s3.sdkerrors import first_line
from sealift.s3.sdksession import verified_by
from sealift.s3.servicequotas import account_quota
from sealift.s3.tls import tls_context

PATIENCE = 10.0
"""Seconds to a connection, and to an answer: a look that takes longer has told what it can."""

_OF_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".vpce.amazonaws.com", ".api.aws")


class Looks(Protocol):
    """Everything that is looked at."""

    async def identity(self) -> Identity:
        """Tell whose credentials these are. Raises CredentialsError where there are none."""
        ...

    async def endpoint(self, bucket: str) -> Endpoint:
        """Reach the bucket's endpoint. Raises SourceError where that cannot be done, ConfigError."""
        ...

    async def bucket(self, bucket: str, prefix: str, account: str) -> BucketSeen:
        """Look at a bucket, of which `prefix` is meant; `account` is the caller's, if that is known."""
        ...

    async def key(self, arn: str) -> KeySeen:
        """Look at a key."""
        ...

    async def quota(self, region: str) -> float | Unseen:
        """Tell the account's KMS quota of a Region, in requests a second."""
        ...


class SdkLooks:
    """`Looks` through the SDK, as an async context manager."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._session: Any = None
        self._ca_bundle: str | Path | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._regions: dict[str, str] = {}
        """Where refusals say that buckets are."""

    async def __aenter__(self) -> Self:
        import aioboto3
        from aiobotocore.session import AioSession
        from botocore.exceptions import BotoCoreError

        settings, core = self._settings, AioSession()
        try:
            self._session = aioboto3.Session(
                botocore_session=core, profile_name=settings.profile, region_name=settings.region
            )
            self._ca_bundle = settings.ca_bundle or core.get_config_variable("ca_bundle") or None
        except BotoCoreError as error:
            raise ConfigError(f"the AWS settings cannot be used: {first_line(error)}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    async def identity(self) -> Identity:
        """See `Looks.identity`."""
        if not self._settings.sign:
            unsigned = Unseen("NotSigned", "requests are not signed: there is no caller")
            return Identity(provider="", expires=None, caller=unsigned, skew=None)
        from botocore.exceptions import BotoCoreError

        try:
            credentials = await self._session.get_credentials()
            if credentials is not None:
                await credentials.get_frozen_credentials()
        except (BotoCoreError, OSError) as error:
            return Identity(provider="", expires=None, caller=Unseen("NoCredentials", first_line(error)), skew=None)
        if credentials is None:
            none = Unseen("NoCredentials", "no AWS credentials are found")
            return Identity(provider="", expires=None, caller=none, skew=None)
        caller: Caller | Unseen
        skew = None
        before = datetime.now(UTC)
        answer = await self._asked("sts", "", "get_caller_identity")
        if isinstance(answer, Unseen):
            caller = answer
        elif not answer.get("Arn") or not answer.get("Account"):
            caller = Unseen("BadAnswer", "what answers at the endpoint of STS is no STS")
        else:
            caller = Caller(answer["Arn"], answer["Account"])
            skew = _skew(answer, before)
        return Identity(
            provider=credentials.method or "",
            # The SDK tells it nowhere else; credentials that do not expire have none.
            expires=getattr(credentials, "_expiry_time", None),
            caller=caller,
            skew=skew,
        )

    async def endpoint(self, bucket: str) -> Endpoint:
        """See `Looks.endpoint`."""
        client = await self._client("s3", "")
        url = str(client.meta.endpoint_url)
        refuse_plain_http(url, allowed=self._settings.allow_http)
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if bucket and not bucket.startswith("arn:") and "." not in bucket and _is_awss(host):
            host = f"{bucket}.{host}"
        if proxy_for(url, os.environ) is not None:
            return Endpoint(host=host, addresses=0, tls="", proxy=True)
        try:
            with anyio.fail_after(PATIENCE):
                found = await anyio.getaddrinfo(host, port, type=1)
                version = "" if parts.scheme != "https" else await self._handshake(host, port)
        except ssl.SSLError as error:
            raise SourceError(
                f"TLS to {host} failed ({first_line(error)}): if it uses a certificate of its own, name the "
                "authority's with --ca-bundle",
                code="TLSError",
            ) from error
        except (OSError, TimeoutError) as error:
            raise SourceError(
                f"{host} cannot be reached ({first_line(error)}): check --region, --endpoint-url or AWS_ENDPOINT_URL, "
                "the network and its name server",
                code="EndpointUnreachable",
            ) from error
        return Endpoint(host=host, addresses=len({address for *_, address in found}), tls=version)

    async def bucket(self, bucket: str, prefix: str, account: str) -> BucketSeen:
        """See `Looks.bucket`."""
        reached = await self._asked("s3", "", "head_bucket", Bucket=bucket)
        refused = reached if isinstance(reached, Unseen) else None
        region = "" if isinstance(reached, Unseen) else str(reached.get("BucketRegion", ""))
        if isinstance(reached, Unseen):
            region = self._regions.get(bucket, "")
        mine = await self._owned(bucket, prefix, region, account) if account else None
        encryption = await self._asked("s3", region, "get_bucket_encryption", Bucket=bucket)
        payment = await self._asked("s3", region, "get_bucket_request_payment", Bucket=bucket)
        policy = _document(await self._asked("s3", region, "get_bucket_policy", Bucket=bucket))
        return BucketSeen(
            reached=refused,
            region=region,
            mine=mine,
            encryption=encryption if isinstance(encryption, Unseen) else _default_encryption(encryption),
            requester_pays=payment if isinstance(payment, Unseen) else payment.get("Payer") == "Requester",
            policy=_NO_POLICY if isinstance(policy, Unseen) and policy.code == _WITHOUT_POLICY else policy,
        )

    async def _owned(self, bucket: str, prefix: str, region: str, account: str) -> bool | None:
        """Return whether a bucket is an account's; None where nothing may be asked of it.

        S3 refuses whatever names an owner that is none (S3 User Guide, "Verifying bucket ownership").
        """
        owner = {"ExpectedBucketOwner": account}
        ways: list[tuple[str, dict[str, Any]]] = [
            ("head_bucket", {"Bucket": bucket}),
            # Who may list one prefix only, may not do that.
            ("list_objects_v2", {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1}),
        ]
        for operation, request in ways:
            if not isinstance(await self._asked("s3", region, operation, **request, **owner), Unseen):
                return True
            if not isinstance(await self._asked("s3", region, operation, **request), Unseen):
                return False
        return None

    async def key(self, arn: str) -> KeySeen:
        """See `Looks.key`."""
        region = region_of(arn)
        described = await self._asked("kms", region, "describe_key", KeyId=arn)
        policy = await self._asked("kms", region, "get_key_policy", KeyId=arn, PolicyName="default")
        grants = await self._asked("kms", region, "list_grants", KeyId=arn)
        return KeySeen(
            described=described if isinstance(described, Unseen) else described.get("KeyMetadata", {}),
            policy=_document(policy),
            grants=grants if isinstance(grants, Unseen) else grants.get("Grants", []),
        )

    async def quota(self, region: str) -> float | Unseen:
        """See `Looks.quota`."""
        if self._elsewhere("service-quotas"):
            return _NOT_AWS
        try:
            return await account_quota(self._settings, region)
        except SourceError as error:
            return Unseen("Unseen", error.message)

    async def _asked(self, service: str, region: str, operation: str, **request: Any) -> Any:
        """Return a service's answer, or why there is none."""
        from aiohttp import ClientError as AiohttpError
        from botocore.exceptions import BotoCoreError, ClientError

        if service != "s3" and self._elsewhere(service):
            return _NOT_AWS
        try:
            client = await self._client(service, region)
            ask: Callable[..., Awaitable[Any]] = getattr(client, operation)
            return await ask(**request)
        except ClientError as error:
            said = error.response.get("Error", {})
            if found := error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region"):
                self._regions[str(request.get("Bucket", ""))] = found
            return Unseen(str(said.get("Code", "")), " ".join(str(said.get("Message", "")).split()))
        except (BotoCoreError, AiohttpError, OSError, ValueError) as error:
            return Unseen(type(error).__name__, first_line(error))

    async def _client(self, service: str, region: str) -> Any:
        from aiobotocore.config import AioConfig
        from botocore import UNSIGNED

        settings = self._settings
        if (service, region) not in self._clients:
            config: dict[str, Any] = {
                "connect_timeout": PATIENCE,
                "read_timeout": PATIENCE,
                "retries": {"mode": "standard", "total_max_attempts": 2},
            }
            if not settings.sign:
                config["signature_version"] = UNSIGNED
            bundle = self._ca_bundle
            client = await self._stack.enter_async_context(
                self._session.client(
                    service,
                    region_name=region or None,
                    endpoint_url=settings.endpoint_url if service == "s3" else None,
                    verify=verified_by(bundle),
                    config=AioConfig(**config),
                )
            )
            refuse_plain_http(client.meta.endpoint_url, allowed=settings.allow_http)
            self._clients[service, region] = client
        return self._clients[service, region]

    def _elsewhere(self, service: str) -> bool:
        """Whether S3 is somebody else's than AWS's, whose credentials AWS's other services have no business with."""
        environment = os.environ
        own = environment.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}") or environment.get(
            "AWS_ENDPOINT_URL"
        )
        s3 = self._settings.endpoint_url or environment.get("AWS_ENDPOINT_URL_S3")
        return not own and s3 is not None and not _is_awss(urlsplit(s3).hostname or "")

    async def _handshake(self, host: str, port: int) -> str:
        context = tls_context(None if self._ca_bundle is None else Path(self._ca_bundle))
        async with await anyio.connect_tcp(host, port, ssl_context=context, tls_standard_compatible=False) as stream:
            return str(stream.extra(TLSAttribute.tls_version))  # noqa: S610 (not Django's)


_NOT_AWS = Unseen("NotAws", "S3 is reached at an endpoint that is not AWS's, which has no such service")
_WITHOUT_POLICY = "NoSuchBucketPolicy"
_NO_POLICY: Mapping[str, Any] = {"Statement": []}


def _is_awss(host: str) -> bool:
    return f".{host}".endswith(_OF_AWS)


def _default_encryption(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    first = rules[0] if rules else {}
    return {
        **first.get("ApplyServerSideEncryptionByDefault", {}),
        "BucketKeyEnabled": first.get("BucketKeyEnabled", False),
    }


def _document(answer: Any) -> Mapping[str, Any] | Unseen:
    """Return the policy that an answer holds, as text."""
    if isinstance(answer, Unseen):
        return answer
    try:
        policy = json.loads(answer.get("Policy", ""))
    except ValueError:
        return Unseen("BadAnswer", "the policy is no JSON")
    return policy if isinstance(policy, Mapping) else Unseen("BadAnswer", "the policy is no policy")


def _skew(answer: Mapping[str, Any], before: datetime) -> float | None:
    """Return by how much this clock is ahead: the answer was written between `before` and now."""
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        theirs = parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return None
    now = datetime.now(UTC)
    return ((before - theirs) + (now - theirs)).total_seconds() / 2
