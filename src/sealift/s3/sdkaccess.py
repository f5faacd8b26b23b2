"""Routes and credentials as the SDK finds them: profiles, SSO, roles, access points, dual-stack, FIPS and all."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from sealift.s3.route import OffTheWireError, Route
from sealift.s3.sdk import SdkStore
from sealift.s3.signing import Credentials

_SIGNED_WITH = "AWS4-HMAC-SHA256"
_PROBE = "k"
"""A key that is spelt the same in any URL."""


class SdkAccess:
    """An `Access` that asks an open SdkStore."""

    def __init__(self, sdk: SdkStore) -> None:
        self._sdk = sdk

    @property
    def ca_bundle(self) -> Path | None:
        """See `Access.ca_bundle`."""
        return self._sdk.ca_bundle

    async def route(self, bucket: str) -> Route:
        """See `Access.route`: the SDK presigns a GET, whose address tells everything."""
        if bucket.endswith("--x-s3"):
            raise OffTheWireError("S3 Express sessions are the SDK's business")
        if bucket.endswith(".mrap"):
            raise OffTheWireError("multi-Region access points want SigV4A")
        url, region = await self._sdk.presigned(bucket, _PROBE)
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        algorithm = query.get("X-Amz-Algorithm", [_SIGNED_WITH])[0]
        if algorithm != _SIGNED_WITH:
            raise OffTheWireError(f"its requests are signed with {algorithm}")
        scope = unquote(query.get("X-Amz-Credential", [""])[0]).split("/")
        if len(scope) == 5:  # ACCESS-KEY/DATE/REGION/SERVICE/aws4_request
            region = scope[2]
            if scope[3] != "s3":
                raise OffTheWireError(f"its requests are signed for {scope[3]}")
        base = url.partition("?")[0].removesuffix(f"/{_PROBE}")
        return Route.to(base, region)

    async def credentials(self) -> Credentials | None:
        """See `Access.credentials`."""
        return await self._sdk.credentials()

    async def renew(self) -> bool:
        """See `Access.renew`."""
        return await self._sdk.renew()
