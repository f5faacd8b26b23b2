"""How a bucket is reached, and as whom: what the wire has to know, whoever finds it out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from sealift.s3.pool import Origin
from sealift.s3.signing import Credentials

_PORTS = {"http": 80, "https": 443}
# Not those of acceleration, which are the same for all Regions.
_AWS_HOST = re.compile(
    r"(?P<before>(?:.+\.)?s3(?:-fips)?(?:\.dualstack)?)(?!-accelerate)[.-]"
    r"(?:(?P<region>[a-z0-9-]+)\.)?(?P<suffix>amazonaws\.com(?:\.cn)?)"
)


class OffTheWireError(Exception):
    """The bucket is reached in a way that the wire does not serve; the message says which."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a bucket's requests go.

    `host` is as the Host header says it, `base_path` is encoded and has no slash at its end.
    """

    origin: Origin
    host: str
    base_path: str
    region: str

    @classmethod
    def to(cls, url: str, region: str) -> Route:
        """Return the route to a bucket whose objects lie below `url`."""
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        host = parts.hostname or ""
        written = f"[{host}]" if ":" in host else host
        if port != _PORTS[parts.scheme]:
            written = f"{written}:{port}"
        return cls(Origin(parts.scheme, host, port), written, parts.path.rstrip("/"), region)

    def moved(self, region: str) -> Route:
        """Return the same route in the Region that the bucket turned out to be in."""
        match = _AWS_HOST.fullmatch(self.host)
        if match is None:  # an endpoint of one's own: only the signature names the Region
            return replace(self, region=region)
        host = f"{match['before']}.{region}.{match['suffix']}"
        return replace(self, origin=replace(self.origin, host=host), host=host, region=region)


class Access(Protocol):
    """Routes and credentials, as someone who knows AWS's configuration finds them."""

    @property
    def ca_bundle(self) -> Path | None:
        """The certificates that are trusted; None for the system's."""
        ...

    async def route(self, bucket: str) -> Route:
        """Find out how a bucket is reached. Raises OffTheWireError, ConfigError."""
        ...

    async def credentials(self) -> Credentials | None:
        """Return credentials that hold for minutes to come; None signs nothing. Raises CredentialsError."""
        ...

    async def renew(self) -> bool:
        """Look for fresher credentials; say whether there were any."""
        ...
