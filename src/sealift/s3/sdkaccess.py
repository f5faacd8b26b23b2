"""Routes and credentials as the SDK finds them: profiles, SSO, roles, access points, dual-stack, FIPS and all."""

from __future__ import annotations

from pathlib import Path

from sealift.s3.route import OffTheWireError, Route
from sealift.s3.sdksession import SdkSession
from sealift.s3.signing import Credentials

_SIGNED_WITH = "AWS4-HMAC-SHA256"
_PROBE = "k"
"""A key that is spelt the same in any URL."""


class SdkAccess:
    """An `Access` that asks an open session of the SDK's."""

    def __init__(self, session: SdkSession) -> None:
        self._session = session

    @property
    def ca_bundle(self) -> Path | None:
        """See `Access.ca_bundle`."""
        return self._session.ca_bundle

    async def route(self, bucket: str) -> Route:
        """See `Access.route`: the SDK signs a GET, whose address and signature tell everything.

        It does not presign one: that would go to S3's oldest endpoint, whatever the Region.
        """
        if bucket.endswith(("--x-s3", "--xa-s3")):
            raise OffTheWireError("S3 Express sessions are the SDK's business")
        if bucket.endswith(".mrap"):
            raise OffTheWireError("multi-Region access points want SigV4A")
        url, authorization, region = await self._session.signed(bucket, _PROBE)
        if authorization:
            algorithm, _, rest = authorization.partition(" ")
            if algorithm != _SIGNED_WITH:
                raise OffTheWireError(f"its requests are signed with {algorithm}")
            # Credential=ACCESS-KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=…
            _, _, region, service, _ = rest.partition(",")[0].rsplit("/", 4)
            if service != "s3":
                raise OffTheWireError(f"its requests are signed for {service}")
        return Route.to(url.removesuffix(f"/{_PROBE}"), region)

    async def credentials(self) -> Credentials | None:
        """See `Access.credentials`."""
        return await self._session.credentials()

    async def renew(self) -> bool:
        """See `Access.renew`."""
        return await self._session.renew()
