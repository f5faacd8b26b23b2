"""What the settings and the environment say about reaching S3, where they say it all: the SDK is not needed then.

Importing the SDK and opening a client take most of a second. With keys in the environment its answer is a matter of a
few rules, and those are kept here as the SDK has them (botocore: credentials.EnvProvider, configprovider). Whatever
could change the answer in another way, known by name or not, is left to the SDK: None. Pure but for two small files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sealift.config import ConnectionSettings
from sealift.s3.signing import Credentials

DECIDING = frozenset(
    {
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CREDENTIAL_EXPIRATION",  # a sign that something renews the keys
        "AWS_DATA_PATH",
        "AWS_DEFAULTS_MODE",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_SIGV4A_SIGNING_REGION_SET",
        "AWS_AUTH_SCHEME_PREFERENCE",
        "AWS_DISABLE_HOST_PREFIX_INJECTION",
        "AWS_CSM_ENABLED",
        "AWS_S3_USE_ARN_REGION",
        "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
        "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
        "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS",
        "BOTOCORE_EXPERIMENTAL__PLUGINS",
    }
)
"""Variables that leave the answer to the SDK, whatever they say."""

UNDERSTOOD = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
)
"""Variables that are read here as the SDK reads them."""

HARMLESS_KEYS = frozenset(
    {
        "region",
        "output",
        "cli_auto_prompt",
        "cli_binary_format",
        "cli_pager",
        "cli_timestamp_format",
        # Sealift has its own.
        "max_attempts",
        "retry_mode",
        # The environment's keys come before all of these.
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "credential_process",
        "credential_source",
        "duration_seconds",
        "external_id",
        "mfa_serial",
        "role_arn",
        "role_session_name",
        "source_profile",
        "sso_account_id",
        "sso_region",
        "sso_role_name",
        "sso_start_url",
    }
)
"""What a profile may say without a bearing on the answer, its region aside. No setting of a bucket's is among them."""

# The partitions aws, aws-us-gov and aws-cn (botocore, data/partitions.json), whose endpoints `s3/endpoints.py` knows.
_AWS_REGION = re.compile(r"(?:us|eu|ap|sa|ca|me|af|il|mx|cn|us-gov)-[a-z]+-[0-9]")
# Any other S3's: a host label. The SDK gives a meaning of its own to "fips" and to "global".
_OTHER_REGION = re.compile(r"(?!.*fips|.*global|s3-external)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_ENDPOINT = re.compile(rf"https?://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?/?")
_PROFILE = re.compile(r"""profile\S*\s+["'\\]*default["']*\s*""")  # [profile default], however it is quoted
_HEADER_VALUE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Environment:
    """As whom and where S3 is asked.

    `credentials` None: unsigned; `endpoint_url` None: AWS's own endpoints; `ca_bundle` None: the certificates
    that are trusted anyway.
    """

    credentials: Credentials | None
    region: str
    endpoint_url: str | None
    ca_bundle: Path | None


def environment_access(settings: ConnectionSettings, environ: Mapping[str, str]) -> Environment | None:
    """Return how S3 is reached where `settings` and `environ` say it all; None where the SDK has to tell."""
    if settings.profile is not None or not DECIDING.isdisjoint(environ):
        return None
    profile = _default_profile(environ)
    if profile is None or not profile.keys() <= HARMLESS_KEYS:
        return None
    credentials = _credentials(environ)
    if settings.sign and credentials is None:
        return None
    endpoint_url = settings.endpoint_url
    if endpoint_url is None and environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        endpoint_url = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
    if endpoint_url is not None and not _plain_endpoint(endpoint_url):
        return None
    region = settings.region
    if region is None:
        region = environ.get("AWS_DEFAULT_REGION", profile.get("region", "us-east-1"))
    known = _AWS_REGION if endpoint_url is None else _OTHER_REGION
    if known.fullmatch(region) is None:
        return None
    bundle = settings.ca_bundle or environ.get("AWS_CA_BUNDLE")
    return Environment(
        credentials=credentials if settings.sign else None,
        region=region,
        endpoint_url=endpoint_url,
        ca_bundle=Path(bundle) if bundle else None,
    )


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy that the SDK would send requests for `url` through, None where it would not use any.

    It asks urllib, which reads the variables (the lower-case ones first) and, on macOS and Windows where there are
    none, the system's settings. Importing urllib.request takes 80 ms: without a proxy that is saved.
    """
    parts = urlsplit(url)
    proxies = _proxies(environ)
    if not proxies and sys.platform in {"darwin", "win32"}:
        from urllib.request import getproxies, proxy_bypass

        return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    proxy = proxies.get(parts.scheme)
    if proxy is None:
        return None
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

    return None if proxy_bypass_environment(parts.netloc, proxies) else proxy


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Read HTTP_PROXY and its like, as urllib.request.getproxies_environment does from os.environ."""
    named = {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}
    proxies = {name[:-6].lower(): value for name, value in named.items() if value}
    if "REQUEST_METHOD" in environ:  # of CGI's: the request's own header named Proxy, not a setting (httpoxy)
        proxies.pop("http", None)
    for name, value in named.items():
        if name.endswith("_proxy"):
            if value:
                proxies[name[:-6].lower()] = value
            else:
                proxies.pop(name[:-6].lower(), None)
    return proxies


def _credentials(environ: Mapping[str, str]) -> Credentials | None:
    access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
    token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
    if not secret_key or not _HEADER_VALUE.fullmatch(access_key) or (token and not _HEADER_VALUE.fullmatch(token)):
        return None
    return Credentials(access_key, secret_key, token)


def _plain_endpoint(url: str) -> bool:
    """Whether `url` is scheme, host and port: of anything more the SDK says what it means, or that it is wrong."""
    match = _ENDPOINT.fullmatch(url)
    # AWS's own names have meanings: acceleration, dual stack, FIPS, access points, another partition.
    return (
        match is not None
        and int(match["port"] or 0) <= 65535
        and not match["host"].lower().endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    )


def _default_profile(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return what AWS's two files say of the default profile, the second over the first; None if they are unclear."""
    profile: dict[str, str] = {}
    for variable, usual in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        path = environ.get(variable, f"~/.aws/{usual}")
        if "$" in path or (path.startswith("~") and not path.startswith("~/")):
            return None
        file = Path(environ.get("HOME") or Path.home(), path[2:]) if path.startswith("~/") else Path(path)
        if file.is_file():
            sections = _sections(file)
            if sections is None:
                return None
            found = [name for name in sections if name == "default" or (usual == "config" and _PROFILE.fullmatch(name))]
            if len(found) > 1:
                return None
            for name in found:
                profile |= sections[name]
    return profile


def _sections(path: Path) -> dict[str, dict[str, str]] | None:
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read([path])
        return {section: dict(parser.items(section)) for section in parser.sections()}
    except (configparser.Error, UnicodeDecodeError):
        return None
