"""A pool of connections in a test, what it takes to use one, and a loop that knows a host of many addresses."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

from sealift.s3.pool import Origin, Pool

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def pooled(origin, *, context=None, connect_timeout=10.0, read_timeout=60.0):
    pool = Pool(origin, context=context, connect_timeout=connect_timeout, read_timeout=read_timeout)
    try:
        yield pool
    finally:
        pool.close()
        await asyncio.sleep(0)


def origin_of(peer, host=None, scheme="http"):
    return Origin(scheme, host or peer.host, peer.port)


async def used(connection, side):
    """Carry out an exchange, to its end."""
    asking = asyncio.create_task(connection.exchange(REQUEST))
    await side.answers(OK)
    await asking
    while await connection.read():
        pass


class Resolving(asyncio.SelectorEventLoop):
    """A loop whose resolver knows one more name; uvloop's cannot be told."""

    def __init__(self, *addresses):
        super().__init__()
        self.addresses, self.asked = addresses, 0

    async def getaddrinfo(self, host, port, **how):
        if host != "many.test":
            return await super().getaddrinfo(host, port, **how)
        self.asked += 1
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


def on_a_loop_that_resolves(work, *addresses):
    loop = Resolving(*addresses)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work(loop))
