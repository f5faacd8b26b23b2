"""An S3 in front of a KMS with a quota: it counts the GETs that cost a Decrypt, and refuses as AWS does.

A process of its own, on uvloop: a GET of 16 KiB costs it 20 µs, so it is ten times as fast as the highest quota.
Every GET is written down with its time, its client (the access key id), its connection and its verdict. `Origin`
is the benchmark's end of it.

    python -m benchmarks.kms.origin ORDERS.json LOG.json      tells its address, and writes the log on SIGTERM
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self, cast

import uvloop
from benchmarks.kms.content import PREFIX, Content, Kind, contents
from benchmarks.kms.quota import Timetable, Way, limit

Form = Literal["400", "503"]
REFUSALS: dict[Form, tuple[str, str, str]] = {
    "400": (
        "400 Bad Request",
        "KMS.ThrottlingException",
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    ),
    # aws-samples/cql-replicator#92
    "503": ("503 Slow Down", "SlowDown", "Please reduce your request rate for operations involving AWS KMS."),
}
KEY_ARN = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BUCKET = "bucket"
TENANT = "tenant"
"""The name, in the log, of what else the account runs."""
MODIFIED = "2023-11-14T22:13:20.000Z", "Tue, 14 Nov 2023 22:13:20 GMT"
STEP = 0.02
"""Seconds between two pieces of a body on a connection whose rate is limited."""

GRANTED, REFUSED, FREE = "g", "r", "f"


@dataclass(frozen=True)
class Orders:
    """What an origin is to be."""

    kinds: tuple[Kind, ...]
    timetable: Timetable = field(default_factory=Timetable)
    way: Way = "windows"
    form: Form = "503"
    delay: float = 0.0
    """Seconds from a request to its answer. The verdict is given when the request comes."""
    connection_rate: float = 0.0
    """Bytes a second on one connection; 0 for no limit."""
    tenant: float = 0.0
    """Calls a second that something else in the account makes to KMS, evenly, whatever the answers are."""

    @classmethod
    def load(cls, text: str) -> Orders:
        values = json.loads(text)
        values["kinds"] = tuple(Kind(**kind) for kind in values["kinds"])
        rates, each = values["timetable"]["rates"], values["timetable"]["each"]
        return cls(**values | {"timetable": Timetable(tuple(rates), each)})


@dataclass(frozen=True, slots=True)
class Call:
    """One GET, or one call of the tenant's."""

    at: float
    """Of the machine's monotonic clock, which all processes share."""
    client: str
    connection: int
    verdict: str


Entry = tuple[float, str, int, str]
"""A `Call` on its way."""


def refusal(form: Form) -> bytes:
    """Return the answer to a GET that KMS refuses."""
    status, code, message = REFUSALS[form]
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        "<RequestId>5VC1E3VGBKN2RC60</RequestId><HostId>kZr4mSJ0yLbJ5gDrnEXAMPLE=</HostId></Error>"
    )
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(document)}\r\n"
        f"x-amz-request-id: 5VC1E3VGBKN2RC60\r\nServer: AmazonS3\r\n\r\n{document}"
    ).encode()


def announce(server: asyncio.Server, access_key: str = "", secret_key: str = "") -> None:
    """Tell where a server is, and the keys to it, if it looks at them."""
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps({"url": url, "access_key": access_key, "secret_key": secret_key}), flush=True)


class _Store:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.objects = {content.key: content for content in contents(orders.kinds)}
        self.keys = list(self.objects)
        self.log: list[Entry] = []
        self.connections = 0
        self._limit = limit(orders.way, orders.timetable)
        self._first: float | None = None
        self._begun = asyncio.Event()
        self.refusal = refusal(orders.form)

    def charge(self, client: str, connection: int) -> bool:
        """Ask KMS for a Decrypt."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._begun.set()
        granted = self._limit.take(now - self._first)
        self.log.append((now, client, connection, GRANTED if granted else REFUSED))
        return granted

    async def live_beside(self) -> None:
        """Be the tenant, from the first GET on."""
        await self._begun.wait()
        began, calls = time.monotonic(), 0
        while True:
            calls += 1
            await asyncio.sleep(max(0.0, began + calls / self.orders.tenant - time.monotonic()))
            self.charge(TENANT, 0)

    def page(self, asked: dict[str, str]) -> bytes:
        """Return a page of the listing, of either version."""
        after = asked.get("continuation-token") or asked.get("start-after") or asked.get("marker") or ""
        prefix, most = asked.get("prefix", ""), int(asked.get("max-keys", "1000"))
        if asked.get("delimiter") and len(prefix) < len(PREFIX):
            rows = f"<CommonPrefixes><Prefix>{PREFIX}</Prefix></CommonPrefixes>"
            names, more = [PREFIX], False
        else:
            begin = bisect_left(self.keys, max(after + "\0" if after else "", prefix))
            names = [key for key in self.keys[begin : begin + most] if key.startswith(prefix)]
            rest = begin + len(names)
            more = bool(names) and rest < len(self.keys) and self.keys[rest].startswith(prefix)
            rows = "".join(
                f"<Contents><Key>{key}</Key><LastModified>{MODIFIED[0]}</LastModified><ETag>&quot;{_etag(self.objects[key])}"
                f"&quot;</ETag><Size>{self.objects[key].size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                for key in names
            )
        last = names[-1] if names else ""
        then = f"<NextContinuationToken>{last}</NextContinuationToken><NextMarker>{last}</NextMarker>"
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><MaxKeys>{most}</MaxKeys><KeyCount>{len(names)}</KeyCount>"
            + ("<EncodingType>url</EncodingType>" if "encoding-type" in asked else "")
            + f"<IsTruncated>{str(more).lower()}</IsTruncated>{then if more else ''}{rows}</ListBucketResult>"
        )
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(document)}\r\n\r\n{document}"
        ).encode()


def _etag(content: Content) -> str:
    return f"{content.number:016x}{content.size:016x}"


_RANGE = re.compile(rb"\r\n[Rr]ange: *bytes=(\d+)-(\d*)")
_CLIENT = re.compile(rb"Credential=([^/]+)/")


class _Connection(asyncio.Protocol):
    def __init__(self, store: _Store) -> None:
        self._store = store
        self._rest = b""
        store.connections += 1
        self._number = store.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            self._serve(data[:end])
            data = data[end + 4 :]
        self._rest = data

    def _serve(self, head: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.decode().partition("?")
        key = urllib.parse.unquote(path).removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            self._answer([self._store.page(dict(urllib.parse.parse_qsl(query)))])
            return
        content = self._store.objects.get(key)
        if content is None:
            self._answer([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])
            return
        bodiless = method == b"HEAD"
        if not bodiless or b"x-amz-checksum-mode" in head.lower():
            client = found[1].decode() if (found := _CLIENT.search(head)) else ""
            if content.bucket_key:
                self._store.log.append((time.monotonic(), client, self._number, FREE))
            elif not self._store.charge(client, self._number):
                self._answer([self._store.refusal])
                return
        start, stop, status, span = 0, content.size, "200 OK", ""
        if (asked := _RANGE.search(head)) is not None:
            start, stop = int(asked[1]), min(content.size, int(asked[2] or content.size) + 1)
            status, span = "206 Partial Content", f"Content-Range: bytes {start}-{stop - 1}/{content.size}\r\n"
        bucket_key = "x-amz-server-side-encryption-bucket-key-enabled: true\r\n" if content.bucket_key else ""
        answer = (
            f'HTTP/1.1 {status}\r\nLast-Modified: {MODIFIED[1]}\r\nETag: "{_etag(content)}"\r\n'
            f"x-amz-server-side-encryption: aws:kms\r\nx-amz-server-side-encryption-aws-kms-key-id: {KEY_ARN}\r\n"
            f"{bucket_key}Accept-Ranges: bytes\r\n{span}Content-Type: binary/octet-stream\r\n"
            f"Content-Length: {stop - start}\r\nServer: AmazonS3\r\n\r\n"
        ).encode()
        self._answer([answer] if bodiless else [answer, *content.pieces(start, stop)])

    def _answer(self, pieces: list[bytes | memoryview]) -> None:
        orders = self._store.orders
        send = self._trickle if orders.connection_rate else self._transport.writelines
        if orders.delay:
            self._loop.call_later(orders.delay, send, pieces)
        else:
            send(pieces)

    def _trickle(self, pieces: list[bytes | memoryview]) -> None:
        """Send what the connection's rate allows, and the rest later."""
        room = int(self._store.orders.connection_rate * STEP)
        while pieces and room > 0 and not self._transport.is_closing():
            piece = memoryview(pieces[0])
            self._transport.write(piece[:room])
            if len(piece) > room:
                pieces[0] = piece[room:]
            else:
                del pieces[0]
            room -= len(piece)
        if pieces and not self._transport.is_closing():
            self._loop.call_later(STEP, self._trickle, pieces)


async def _serve(orders: Orders) -> list[Entry]:
    store = _Store(orders)
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    server = await loop.create_server(lambda: _Connection(store), "127.0.0.1", 0, backlog=4096)
    beside = asyncio.create_task(store.live_beside()) if store.orders.tenant else None
    announce(server)
    await end.wait()
    if beside is not None:
        beside.cancel()
    return store.log


class Origin:
    """A running origin. A context manager; `log` is there when it has ended."""

    def __init__(self, orders: Orders, directory: Path, *, sealed: bool = False) -> None:
        self._module = "benchmarks.kms.sealed" if sealed else "benchmarks.kms.origin"
        self._orders, self._log = directory / "orders.json", directory / "log.json"
        self._orders.write_text(json.dumps(asdict(orders)))
        self.url = self.access_key = self.secret_key = ""

    @property
    def log(self) -> list[Call]:
        """All GETs, in their order."""
        return [Call(*entry) for entry in json.loads(self._log.read_text())]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", self._module, str(self._orders), str(self._log)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the origin did not start")
        told = json.loads(line)
        self.url, self.access_key, self.secret_key = told["url"], told["access_key"], told["secret_key"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


if __name__ == "__main__":
    log = uvloop.run(_serve(Orders.load(Path(sys.argv[1]).read_text())))
    Path(sys.argv[2]).write_text(json.dumps(log))
