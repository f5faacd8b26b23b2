"""Where an ordinary bucket is reached, by the rules of S3's own endpoint ruleset: no SDK is needed for that. Pure."""

from __future__ import annotations

import re

_VIRTUAL_HOST = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""A bucket that can be a host's first label: no dots, which a wildcard certificate does not cover."""

_REGION = re.compile(r"(?:af|ap|ca|eu|il|me|mx|sa|us|cn)-(?:gov-)?[a-z]+-[0-9]+")
_ORDINARY = re.compile(r"[A-Za-z0-9._-]{3,255}")
_SPECIAL = ("--x-s3", "--xa-s3", "-s3alias", ".mrap", "--ol-s3", "--op-s3", "--table-s3")


def bucket_url(bucket: str, region: str, endpoint_url: str | None) -> str | None:
    """Return the URL below which a bucket's objects lie; None for what only the SDK knows.

    At an endpoint of one's own the bucket is the first segment of the path (as the SDK has it), at AWS's it is in the
    host name where it can be. ARNs, aliases of access points, directory buckets and further partitions are left out.
    """
    if not _ORDINARY.fullmatch(bucket) or bucket.endswith(_SPECIAL) or bucket.startswith("arn:"):
        return None
    if endpoint_url is not None:
        return f"{endpoint_url.rstrip('/')}/{bucket}"
    if not _REGION.fullmatch(region):
        return None
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    # The SDK's default, "legacy", keeps us-east-1 at the oldest name of all.
    host = f"s3.{suffix}" if region == "us-east-1" else f"s3.{region}.{suffix}"
    if _VIRTUAL_HOST.fullmatch(bucket):
        return f"https://{bucket}.{host}"
    return f"https://{host}/{bucket}"
