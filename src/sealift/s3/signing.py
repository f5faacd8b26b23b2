"""AWS Signature Version 4 of requests without a body, with the signing key kept.

"Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)", Amazon S3 API Reference. What is
the same for all requests of a day, or of a second, is made once; what is left is one SHA-256 and one HMAC.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, quote_from_bytes

EMPTY_BODY = hashlib.sha256(b"").hexdigest()
"""The hash of no body, which every GET and HEAD has."""

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose signature it is; a `token` comes with temporary ones. Never shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Signer:
    """Writes the heads of requests, signed for one Region. Without credentials it signs nothing."""

    def __init__(self, credentials: Credentials | None, region: str, *, service: str = "s3") -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._second = -1
        self._day = ""
        self._moment = ""
        self._scope = ""
        self._key = b""

    def head(
        self, method: str, host: str, path: str, query: str, headers: Sequence[tuple[str, str]], now: float
    ) -> bytes:
        """Return a request's whole head, ready to be sent.

        `path` and `query` are encoded already (`encoded_path`, `encoded_query`). `headers` have lower-case names and
        values without spaces at their ends; all of them are signed. `now` is in seconds since the epoch.
        """
        target = f"{path}?{query}" if query else path
        credentials = self._credentials
        if credentials is None:
            lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
            return f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n".encode("latin-1")
        second = int(now)
        if second != self._second:
            self._roll(second, credentials)
        signed = [("host", host), ("x-amz-content-sha256", EMPTY_BODY), ("x-amz-date", self._moment), *headers]
        if credentials.token is not None:
            signed.append(("x-amz-security-token", credentials.token))
        signed.sort()
        names = ";".join([name for name, _ in signed])
        canonical = "".join([f"{name}:{value}\n" for name, value in signed])
        digest = hashlib.sha256(
            f"{method}\n{path}\n{query}\n{canonical}\n{names}\n{EMPTY_BODY}".encode("latin-1")
        ).hexdigest()
        text = f"{ALGORITHM}\n{self._moment}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed])
        return (
            f"{method} {target} HTTP/1.1\r\n{lines}authorization: {ALGORITHM} Credential={credentials.access_key}/"
            f"{self._scope}, SignedHeaders={names}, Signature={signature}\r\n\r\n"
        ).encode("latin-1")

    def _roll(self, second: int, credentials: Credentials) -> None:
        """Go on to another second, and to another day's key if it is one."""
        self._second = second
        self._moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day = self._moment[:8]
        if day != self._day:
            self._day = day
            self._scope = f"{day}/{self._region}/{self._service}/aws4_request"
            key = f"AWS4{credentials.secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = key


def encoded_path(path: str) -> str:
    """Percent-encode a key as S3 wants it in a path: slashes stay, however many, and nothing is normalized."""
    try:
        return quote(path, safe="/~")
    except UnicodeEncodeError:  # bytes that are not UTF-8, kept as surrogates
        return quote_from_bytes(path.encode("utf-8", "surrogateescape"), safe="/~")


def encoded_query(parameters: Sequence[tuple[str, str]]) -> str:
    """Return a query string that is its own canonical form: sorted, spaces as %20."""
    encoded = sorted((_component(name), _component(value)) for name, value in parameters)
    return "&".join([f"{name}={value}" for name, value in encoded])


def _component(text: str) -> str:
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="~")
