"""Checksums as S3 would have them, by others' code than that under test: zlib, hashlib, and awscrt as it is."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence

from awscrt import checksums


def checksum_of(algorithm: str, data: bytes) -> bytes:
    """The checksum of some bytes."""
    match algorithm:
        case "CRC32":
            return zlib.crc32(data).to_bytes(4, "big")
        case "CRC32C":
            return int(checksums.crc32c(data)).to_bytes(4, "big")
        case "CRC64NVME":
            return int(checksums.crc64nvme(data)).to_bytes(8, "big")
    return hashlib.new(algorithm.lower(), data).digest()


def checksum_headers(algorithm: str, body: bytes, parts: Sequence[int], *, composite: bool) -> dict[str, str]:
    """The headers with which S3 tells the checksum of an object, uploaded in `parts` of so many bytes each."""
    value, kind = checksum_of(algorithm, body), "FULL_OBJECT"
    suffix = ""
    if composite:
        stops = [sum(parts[: index + 1]) for index in range(len(parts))]
        each = [body[stop - size : stop] for size, stop in zip(parts, stops, strict=True)]
        value = checksum_of(algorithm, b"".join(checksum_of(algorithm, part) for part in each))
        kind, suffix = "COMPOSITE", f"-{len(parts)}"
    return {
        f"x-amz-checksum-{algorithm.lower()}": base64.b64encode(value).decode() + suffix,
        "x-amz-checksum-type": kind,
    }
