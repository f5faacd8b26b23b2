"""What may be shown: text without a terminal's control characters, and without secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

# C0, DEL and C1 command a terminal; U+2028 and U+2029 break lines; the bidi embeddings, overrides and isolates
# (Unicode UAX #9) make text read as what it is not; surrogates cannot be encoded at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Query parameters of presigned URLs, the parts of a SigV4 Authorization header, and headers or fields that carry
# a secret as such (IAM User Guide, "Signature Version 4").
_SECRET = re.compile(
    r"(?P<name>X-Amz-(?:Signature|Credential|Security-Token)|Signature|Credential|"
    r"(?:aws_?)?(?:secret_?access_?key|session_?token)|Authorization)"
    r"(?P<between>['\"]?\s*(?:=|:|%3D)\s*['\"]?(?:AWS4-HMAC-SHA256\s+|Bearer\s+)?)"
    r"(?P<value>[^\s'\"&,]+)",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """Return `text` with everything escaped that could command a terminal, break a line or pretend to be other text."""
    return _UNSAFE.sub(_escaped, text)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without what looks like a secret and without the given `secrets`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return _SECRET.sub(r"\g<name>\g<between>[secret]", text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
