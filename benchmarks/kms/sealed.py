"""The real thing as an origin: SeaweedFS, whose objects OpenBao's transit engine seals, behind a proxy.

OpenBao refuses decrypts beyond a rate-limit quota; SeaweedFS says of that, as of whatever goes wrong with its KMS,
`500 InternalError`; the proxy says `503 SlowDown` in AWS's words instead, and keeps the log.

    python -m benchmarks.kms.sealed ORDERS.json LOG.json      as benchmarks.kms.origin; the keys to it are printed, too
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from benchmarks.kms.content import PREFIX, contents
from benchmarks.kms.origin import BUCKET, GRANTED, REFUSED, Entry, Orders, announce, refusal

from sealift.sandbox.filling import Planned, fill
from sealift.sandbox.servers import Sandbox

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OBJECT = f" /{BUCKET}/{PREFIX}".encode()


async def _fill(sandbox: Sandbox, orders: Orders) -> None:
    by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": sandbox.keys[0]}
    async with sandbox.client() as s3:
        await s3.create_bucket(Bucket=BUCKET)
        await s3.put_bucket_encryption(
            Bucket=BUCKET,
            ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]},
        )
        planned = (Planned(each.key, b"".join(each.pieces(0, each.size))) for each in contents(orders.kinds))
        await fill(s3, BUCKET, planned)


class _Proxy:
    """Passes on what is asked, and every answer but the refusals of KMS."""

    def __init__(self, endpoint: str, orders: Orders) -> None:
        self.log: list[Entry] = []
        self._to = urlsplit(endpoint)
        self._refusal = refusal(orders.form)
        self._connections = 0

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Serve one connection, by one of its own."""
        self._connections += 1
        number = self._connections
        server, forth = await asyncio.open_connection(self._to.hostname, self._to.port)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = await client.readuntil(b"\r\n\r\n")
                came = time.monotonic()
                forth.write(asked)
                head = await server.readuntil(b"\r\n\r\n")
                is_get = asked.startswith(b"GET") and _OBJECT in asked[: asked.find(b"\r\n")]
                refused = is_get and head.split(b" ", 2)[1] == b"500"
                if is_get:
                    self.log.append((came, "", number, REFUSED if refused else GRANTED))
                length = 0 if asked.startswith(b"HEAD") else int(found[1]) if (found := _LENGTH.search(head)) else None
                if length is None:
                    raise NotImplementedError(head)
                body = await server.readexactly(length)
                back.write(self._refusal if refused else head + body)
                await back.drain()
        forth.close()
        back.close()


async def _serve(orders: Orders) -> list[Entry]:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    [rate] = orders.timetable.rates
    async with Sandbox() as sandbox:
        await _fill(sandbox, orders)
        await sandbox.throttle(int(rate))
        proxy = _Proxy(sandbox.endpoint_url, orders)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        announce(server, sandbox.admin.access_key, sandbox.admin.secret_key)
        await end.wait()
    return proxy.log


if __name__ == "__main__":
    log = uvloop.run(_serve(Orders.load(Path(sys.argv[1]).read_text())))
    Path(sys.argv[2]).write_text(json.dumps(log))
