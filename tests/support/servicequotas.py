"""A Service Quotas on loopback: its JSON protocol, as far as two of its operations go."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, Mapping[str, Any]]


@dataclass
class ServiceQuotas:
    """Answers each operation as `answers` say; what it was asked is in `asked`."""

    answers: dict[str, Answer]
    url: str = ""
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = re.search(r"(?im)^x-amz-target: *ServiceQuotasV20190624\.(\w+)", head)
                length = re.search(r"(?im)^content-length: *(\d+)", head)
                assert target
                assert length
                self.asked.append((target[1], json.loads(await reader.readexactly(int(length[1])))))
                status, answer = self.answers[target[1]]
                body = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 %d Said\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(body), body)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def service_quotas(**answers: Answer) -> AsyncIterator[ServiceQuotas]:
    """Serve on a free port. `answers` are by operation, as in `GetServiceQuota=applied(5000)`."""
    service = ServiceQuotas(answers)
    async with await asyncio.start_server(service.serve, "127.0.0.1", 0) as server:
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield service


def applied(rate: float, period: Mapping[str, Any] | None = None) -> Answer:
    """A quota, as AWS tells it."""
    quota = {
        "ServiceCode": "kms",
        "ServiceName": "AWS Key Management Service (AWS KMS)",
        "QuotaArn": "arn:aws:servicequotas:eu-central-1:111122223333:kms/L-6E3AF000",
        "QuotaCode": "L-6E3AF000",
        "QuotaName": "Cryptographic operations (symmetric) request rate",
        "Value": rate,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
    return 200, {"Quota": quota if period is None else quota | {"Period": period}}


def refused(code: str, message: str = "") -> Answer:
    """An error, as AWS tells it."""
    return 400, {"__type": code, "Message": message}
