"""What settings and environment tell completely, so that the SDK need not be asked, nor even imported. Pure.

Nothing is guessed: where a profile, a configuration file or a variable that is not known here could change the
answer, there is none, and the SDK decides.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib import request
from urllib.parse import urlsplit

from sealift.config import ConnectionSettings
from sealift.s3.signing import Credentials

_DECISIVE = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_S3_USE_ARN_REGION",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
    "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS",
    "AWS_SIGV4A_SIGNING_REGION_SET",
    "AWS_DEFAULTS_MODE",
)
"""Variables with which the SDK might come to another answer."""

# The standard library's own reading of NO_PROXY, which the SDK uses as well; its type stubs leave it out.
_bypassed: Callable[[str, dict[str, str]], bool] = getattr(request, "proxy_bypass_environment")  # noqa: B009

_HARMLESS = frozenset(
    {"region", "output", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "cli_pager", "cli_history"}
)
"""Keys of a default profile that the environment overrules, or that are about other things."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that the wire has to know."""

    credentials: Credentials | None
    region: str
    endpoint_url: str | None
    ca_bundle: Path | None


def environment_access(settings: ConnectionSettings, environ: Mapping[str, str]) -> Environment | None:
    """Return what settings and environment tell, if that is everything; None where the SDK has to be asked."""
    if settings.profile is not None or any(environ.get(name) for name in _DECISIVE):
        return None
    if not _plain_profile(environ):
        return None
    endpoint_url = settings.endpoint_url
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    if endpoint_url is None and not ignored:
        endpoint_url = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
    region = settings.region or environ.get("AWS_DEFAULT_REGION")
    if not region:
        return None
    credentials = None
    if settings.sign:
        access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if not access_key or not secret_key:
            return None
        token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN") or None
        credentials = Credentials(access_key, secret_key, token)
    bundle = settings.ca_bundle or environ.get("AWS_CA_BUNDLE") or None
    return Environment(credentials, region, endpoint_url, Path(bundle) if bundle else None)


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the HTTP proxy that the SDK would go through to reach `url`, by the usual variables."""
    parts = urlsplit(url)
    proxies = {
        name.lower().removesuffix("_proxy"): value
        for name, value in sorted(environ.items())  # the lower-case ones come last, and win
        if name.lower().endswith("_proxy") and value
    }
    proxy = proxies.get(parts.scheme)
    if proxy is None or _bypassed(parts.netloc, {"no": proxies.get("no", "")}):
        return None
    return proxy


def _plain_profile(environ: Mapping[str, str]) -> bool:
    """Whether no configuration file says anything of the default profile that matters."""
    home = Path(environ.get("HOME", "~")).expanduser()
    for variable, name in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        path = Path(environ.get(variable) or home / ".aws" / name).expanduser()
        parser = configparser.RawConfigParser(default_section="\0")
        try:
            if not parser.read(path, encoding="utf-8") and path.exists():
                return False
        except (configparser.Error, OSError, ValueError):
            return False
        for section in parser.sections():
            if section in {"default", "profile default"} and not _HARMLESS.issuperset(parser.options(section)):
                return False
    return True
