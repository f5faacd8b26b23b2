"""Messages come through as they were sent, however the bytes are cut."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.attempt import Attempt, Ended, Spot
from sealift.crew.channel import Channel, packed_attempt, packed_end, unpacked_attempt, unpacked_end
from sealift.errors import Refused, Throttled, Transient
from sealift.model import ByteRange, Part, RemoteObject
from sealift.partial import Blocked, Kind

pytestmark = pytest.mark.anyio

TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)


@given(
    key=TEXT,
    size=st.integers(0, 5 << 40),
    version=st.none() | TEXT,
    start=st.integers(0, 1 << 40),
    length=st.integers(0, 1 << 30),
    spot=st.none() | st.builds(Spot, st.lists(st.binary(min_size=1)).map(tuple), st.integers(0, 1 << 62)),
    counted=st.booleans(),
)
def test_an_attempt_comes_out_as_it_was_packed(
    key: str, size: int, version: str | None, start: int, length: int, spot: Spot | None, counted: bool
) -> None:
    remote = RemoteObject("bucket", key, size, '"etag"', 1, version)
    attempt = Attempt(7, remote, Part(ByteRange(start, start + length), whole=False), "name", spot, counted)
    assert unpacked_attempt(packed_attempt(attempt)) == attempt


@pytest.mark.parametrize(
    "error",
    [
        None,
        Refused("no", bucket="b", key="k", code="AccessDenied"),
        Throttled("slow", service="kms", bucket="b", key="k", code="SlowDown"),
        Transient("lost"),
        Blocked("a/b", depth=2, kind=Kind.FIFO),
    ],
)
def test_an_end_comes_with_its_error(error: Exception | None) -> None:
    end = unpacked_end(packed_end(Ended(3, 10, False, error)))  # type: ignore[arg-type]
    assert (end.number, end.reached, end.placed) == (3, 10, False)
    assert type(end.error) is type(error)
    if error is not None:
        assert vars(end.error) == vars(error)
        assert str(end.error) == str(error)


async def test_an_end_comes_with_what_was_summed_up():
    end = Ended(3, 10, False, None, told="-", algorithm="CRC32", stretches=((0, 5, 2**40),), pieces=((0, b"\0h"),))
    one, other = socket.socketpair()
    sender, receiver = await Channel.over(one), await Channel.over(other)
    sender.send(packed_end(end))
    message = await receiver.receive()
    assert message is not None
    assert unpacked_end(message) == end
    sender.close()
    receiver.close()


async def test_messages_come_in_order_and_then_nothing():
    one, other = socket.socketpair()
    sender, receiver = await Channel.over(one), await Channel.over(other)
    large = ("large", "x" * 300_000, [1, 2, None, True, b"\0"])
    sender.send(("first", 1))
    sender.send(large)
    assert await receiver.receive() == ("first", 1)
    assert await receiver.receive() == large
    sender.send(("last",))
    sender.close()
    assert await receiver.receive() == ("last",)
    assert await receiver.receive() is None
    receiver.send(("nobody hears this",))


def test_a_message_may_come_a_byte_at_a_time():
    channel = Channel()
    sent: list[bytes] = []

    class Wire:
        def write(self, data):
            sent.append(data)

    channel._transport = Wire()  # type: ignore[assignment]
    channel.send(("a", "bc"))
    receiver = Channel()
    for byte in b"".join(sent):
        assert not receiver._messages
        receiver.data_received(bytes([byte]))
    assert list(receiver._messages) == [("a", "bc")]
