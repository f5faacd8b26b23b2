"""What may be told: text without secrets."""

from __future__ import annotations

import os
import re

# Query parameters of presigned URLs, the parts of a SigV4 Authorization header, and headers or fields that carry
# a secret as such (IAM User Guide, "Signature Version 4").
_SECRET = re.compile(
    r"(?P<name>X-Amz-(?:Signature|Credential|Security-Token)|Signature|Credential|"
    r"(?:aws_?)?(?:secret_?access_?key|session_?token)|Authorization)"
    r"(?P<between>['\"]?\s*(?:=|:|%3D)\s*['\"]?(?:AWS4-HMAC-SHA256\s+|Bearer\s+)?)"
    r"(?P<value>[^\s'\"&,]+)",
    re.IGNORECASE,
)

_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
"""Variables that hold secrets (AWS CLI User Guide, "Environment variables")."""


def redacted(text: str) -> str:
    """Return `text` without what looks like a secret and without the secrets of the environment."""
    for name in _VARIABLES:
        if secret := os.environ.get(name):
            text = text.replace(secret, "[secret]")
    return _SECRET.sub(r"\g<name>\g<between>[secret]", text)


def described(error: BaseException) -> str:
    """Return what an error says that is none of ours: `KeyError: 'k'`."""
    return redacted(f"{type(error).__name__}: {error}")
