"""AWS Signature Version 4 for requests without a body: a request's head, signed and ready to send. Pure.

The rules are those of the S3 API reference, "Authenticating Requests: Using the Authorization Header". What is the
same for many requests is made once: the signing key (a day), the time stamp and the scope (a second), and the layout
of a head (each combination of header names). What is left are two templates, a SHA-256 and an HMAC.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from urllib.parse import quote

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""What x-amz-content-sha256, which S3 requires, says of a request without a body."""

_OWN = frozenset({"host", "authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_UNRESERVED = re.compile(r"[A-Za-z0-9/._~-]*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks; never shown. `token` comes with temporary credentials only."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a head with certain headers looks: templates, and which values go into them in which order."""

    canonical: str
    signed: Callable[[tuple[str, ...]], tuple[str, ...]]
    sent: str


class Signer:
    """Makes the heads of one service's requests in one Region. `credentials` None: they are not signed.

    `unsigned` headers go with every request outside of the signature, as a user-agent should: proxies rewrite it.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        region: str,
        *,
        service: str = "s3",
        unsigned: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._unsigned = "".join(f"{name}: {_value(value)}\r\n" for name, value in unsigned)
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._second = self._day = -1
        self._stamp = self._scope = self._prefix = ""
        self._inner, self._outer = _keyed(b"")

    def head(
        self, method: str, host: str, path: str, query: str, headers: Sequence[tuple[str, str]], now: float
    ) -> bytes:
        """Return the whole head, from the request line to the empty line.

        `path` and `query` are encoded already, `headers` have lower-case names and are all signed, `now` is in
        seconds since the epoch. Raises ValueError for a header that is the signer's own, repeated or no header.
        """
        second = int(now)
        if second != self._second:
            self._tick(second)
        names = tuple([name for name, _ in headers])
        layout = self._layouts.get(names) or self._lay_out(names)
        # White space is sent as it is signed: single. A line feed, which would begin a header, is white space, too.
        values = [" ".join(value.split()) for _, value in headers]
        target = f"{path}?{query}" if query else path
        if self._credentials is None:
            return (layout.sent % (method, target, host, *values)).encode()
        stamp = self._stamp
        canonical = layout.canonical % layout.signed((method, path, query, host, stamp, *values))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{self._prefix}{digest}".encode())
        outer.update(inner.digest())
        signature = outer.hexdigest()
        return (layout.sent % (method, target, host, *values, stamp, self._scope, signature)).encode()

    def _tick(self, second: int) -> None:
        """Make what is the same for all heads of a second, and of a day (UTC)."""
        self._second = second
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        if self._credentials is None:
            return
        date = self._stamp[:8]
        if second // 86400 != self._day:
            self._day = second // 86400
            key = f"AWS4{self._credentials.secret_key}".encode()
            for part in (date, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._inner, self._outer = _keyed(key)
        self._scope = f"{date}/{self._region}/{self._service}/aws4_request"
        self._prefix = f"AWS4-HMAC-SHA256\n{self._stamp}\n{self._scope}\n"

    def _lay_out(self, names: tuple[str, ...]) -> _Layout:
        for name in names:
            if _NAME.fullmatch(name) is None or name in _OWN or names.count(name) > 1:
                raise ValueError(f"{name!r} cannot be signed as another header of a request")
        given = "".join(f"{_literal(name)}: %s\r\n" for name in names)
        sent = f"%s %s HTTP/1.1\r\nhost: %s\r\n{given}"
        if self._credentials is None:
            layout = _Layout("", tuple, f"{sent}{_literal(self._unsigned)}\r\n")
        else:
            access_key, token = _literal(self._credentials.access_key), self._credentials.token
            constant = {"x-amz-content-sha256": EMPTY_SHA256}
            if token:
                constant["x-amz-security-token"] = _value(token)
            # Where the value of each header stands in the tuple that `head` hands to `signed`.
            places = {"host": 3, "x-amz-date": 4} | {name: 5 + index for index, name in enumerate(names)}
            order = sorted([*places, *constant])
            lines = [f"{_literal(name)}:{_literal(constant[name]) if name in constant else '%s'}\n" for name in order]
            signed = _literal(";".join(order))
            layout = _Layout(
                f"%s\n%s\n%s\n{''.join(lines)}\n{signed}\n{EMPTY_SHA256}",
                itemgetter(0, 1, 2, *(places[name] for name in order if name in places)),
                sent
                + "".join(f"{name}: {_literal(value)}\r\n" for name, value in constant.items())
                + _literal(self._unsigned)
                + f"x-amz-date: %s\r\nauthorization: AWS4-HMAC-SHA256 Credential={access_key}/%s, "
                f"SignedHeaders={signed}, Signature=%s\r\n\r\n",
            )
        self._layouts[names] = layout
        return layout


def encoded_path(path: str) -> str:
    """Return `path` as S3 wants it: slashes and unreserved characters stand, all other bytes are percent-encoded.

    Nothing is normalized: empty segments and dots are parts of a key. Lone surrogates stand for bytes that are no
    UTF-8 (PEP 383).
    """
    if _UNRESERVED.fullmatch(path):
        return path
    return quote(path.encode("utf-8", "surrogateescape"), safe="/")


def encoded_query(parameters: Sequence[tuple[str, str]]) -> str:
    """Return the canonical query string, which is also one to send: encoded first, then sorted."""
    pairs = [(_encoded(name), _encoded(value)) for name, value in parameters]
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def _keyed(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Return HMAC-SHA256's two hashes (RFC 2104) with `key` taken in, which hmac.digest does anew for each message."""
    block = key.ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def _value(text: str) -> str:
    return " ".join(text.split())


def _literal(text: str) -> str:
    """Return `text` as it stands in a %-template."""
    return text.replace("%", "%%")
