"""What the hot functions cost, in microseconds of CPU a call: the best of five."""

from __future__ import annotations

import binascii
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from sealift.checksum import Algorithm, Checksum, agrees, digest, running_checksum
from sealift.destination import Destination
from sealift.line import Queue
from sealift.localpath import local_path
from sealift.model import RemoteObject
from sealift.partial import PartialFile, partial_name
from sealift.planning import parts
from sealift.s3.heads import parse_head
from sealift.s3.pagexml import parse_page
from sealift.s3.signing import Credentials, Signer, encoded_path

KEY = "prefix/2026/11/25/part-00042.parquet"
ETAG = '"0123456789abcdef0123456789abcdef"'
HEAD = (
    b"HTTP/1.1 200 OK\r\nx-amz-id-2: Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2Qz7/C1NPcfTWAtRPfTaOFg==\r\nx-amz-request-id: "
    b"656c76696e6727732072657175657374\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\n"
    b"Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
    b'ETag: "0123456789abcdef0123456789abcdef"\r\nx-amz-server-side-encryption: aws:kms\r\n'
    b"x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:us-east-1:111122223333:key/0\r\nAccept-Ranges: bytes\r\n"
    b"Content-Type: binary/octet-stream\r\nServer: AmazonS3\r\nContent-Length: 16384\r\n\r\n"
)
PAGE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>b</Name><Prefix/><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    + b"".join(
        b"<Contents><Key>prefix/%06d</Key><LastModified>2026-11-25T12:00:00.000Z</LastModified>"
        b"<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag><Size>16384</Size>"
        b"<StorageClass>STANDARD</StorageClass></Contents>" % number
        for number in range(1000)
    )
    + b"</ListBucketResult>"
)


class _Job:
    over = False

    def __init__(self) -> None:
        self.parts = parts(16384, 8 << 20)


def main() -> None:
    """Print the table."""
    remote = RemoteObject("bucket", KEY, 16384, ETAG, 1_700_000_000_000_000_000)
    signer, now = Signer(Credentials("AKIA", "secret"), "us-east-1"), time.time()
    body = bytes(16384)
    queue: Queue[_Job] = Queue(64)
    with tempfile.TemporaryDirectory() as home, Destination.open(Path(home), create=True) as destination:

        def place() -> None:
            partial = PartialFile.create(destination.partial_fd, partial_name(remote), 16384, preallocate=False)
            partial.write(0, body)
            destination.place(partial, local_path(KEY, 16384), remote.last_modified_ns)

        def queued() -> None:
            queue.add(_Job())
            queue.take(0.0)

        def held(algorithm: Algorithm) -> Callable[[], object]:
            value = digest(algorithm, body)
            headers = {f"x-amz-checksum-{algorithm.name.lower()}": binascii.b2a_base64(value, newline=False).decode()}

            def hold() -> bool | None:
                told = Checksum.told(headers)
                running = running_checksum(algorithm)
                running.update(body)
                return told and agrees(told, running)

            return hold

        hot: dict[str, Callable[[], object]] = {
            "sign a request": lambda: signer.head("GET", "h", f"/b/{encoded_path(KEY)}", "", [("if-match", ETAG)], now),
            "read a response's head": lambda: parse_head(HEAD, method="GET"),
            "read a page of 1,000 keys, a key": lambda: parse_page(PAGE, bucket="b", prefix="prefix/"),
            "key to path": lambda: local_path(KEY, 16384),
            "name of a partial file": lambda: partial_name(remote),
            "into the queue and out": queued,
            "create, write 16 KiB, rename": place,
            **{f"hold 16 KiB against S3's {each.name}": held(each) for each in Algorithm},
        }
        for name, function in hot.items():
            number = 20 if "page" in name else 5000
            each = min(timeit.repeat(function, number=number, repeat=5, timer=time.process_time)) / number * 1e6
            sys.stdout.write(f"{each / (1000 if 'page' in name else 1):8.2f} µs  {name}\n")


if __name__ == "__main__":
    main()
