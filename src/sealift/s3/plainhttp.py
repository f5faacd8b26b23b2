"""Plain HTTP is for the loopback interface only, unless it is asked for."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from sealift.errors import ConfigError


def refuse_plain_http(endpoint_url: str, *, allowed: bool) -> None:
    """Raise ConfigError for an endpoint that would send requests, and get bodies, in the clear over a network."""
    parts = urlsplit(endpoint_url)
    if parts.scheme == "https" or allowed:
        return
    host = parts.hostname or ""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761: always the loopback interface
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} is not encrypted on the way: "
            "use an https:// endpoint, or --allow-http if you mean it"
        )
