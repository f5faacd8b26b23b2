"""TLS for connections of our own: whom to trust, which sessions to resume, and which end of a stream is one."""

from __future__ import annotations

import importlib.util
import os
import ssl
from pathlib import Path

from sealift.errors import ConfigError


class ResumingContext(ssl.SSLContext):
    """A TLS client's context that offers each new connection the last session of its host (RFC 8446, 2.2).

    The event loops call `wrap_bio`, which takes a session, and have no parameter for one themselves.
    """

    def __init__(self, _protocol: int) -> None:
        self._sessions: dict[str, ssl.SSLSession] = {}

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`."""
        if session is None and isinstance(server_hostname, str):
            session = self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, host: str, connection: ssl.SSLObject | None) -> None:
        """Keep a connection's session for the next one: TLS 1.3 sends it after the handshake (RFC 8446, 4.6.1)."""
        if connection is not None and connection.session is not None:
            self._sessions[host] = connection.session


def tls_context(ca_bundle: Path | None) -> ResumingContext:
    """Return a context that verifies names, and certificates by those in `ca_bundle`, or by the system's.

    Raises ConfigError for a bundle that holds none.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    try:
        if ca_bundle is None:
            context.load_default_certs()
            if not _has_any(context) and (bundled := _bundled_with_the_sdk()) is not None:
                context.load_verify_locations(cafile=bundled)
        else:
            context.load_verify_locations(cafile=os.fspath(ca_bundle))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"the certificates in {ca_bundle} cannot be used ({error.strerror or error}): name a PEM file with "
            "--ca-bundle, AWS_CA_BUNDLE or the profile's ca_bundle"
        ) from error
    return context


def ended_in_good_order(connection: ssl.SSLObject) -> bool:
    """Whether the peer said that it sends nothing more, and everything it sent was read.

    Without its close_notify somebody else may have cut the stream (RFC 8446, 6.1). uvloop does not call
    `eof_received` then; asyncio does, as if it were all the same.
    """
    try:
        return not connection.read(1)
    except ssl.SSLZeroReturnError:  # both have said so
        return True
    except ssl.SSLError:  # it waits for more
        return False


def _has_any(context: ssl.SSLContext) -> bool:
    """Whether there are authorities: some are loaded, others are looked for in a directory when they are needed."""
    directory: str | None = ssl.get_default_verify_paths().capath  # None where it does not exist
    return bool(context.cert_store_stats()["x509_ca"] or (directory and any(Path(directory).iterdir())))


def _bundled_with_the_sdk() -> Path | None:
    """Return the SDK's own certificates, which it trusts everywhere; a system may have none, as in small images."""
    found = importlib.util.find_spec("botocore")  # does not import it
    bundled = None if found is None or found.origin is None else Path(found.origin).with_name("cacert.pem")
    return bundled if bundled is not None and bundled.is_file() else None
