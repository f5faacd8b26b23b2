"""What is shown: each row's objects, its KMS, who takes part, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.kms.content import Kind
from benchmarks.kms.origin import Form, Orders
from benchmarks.kms.quota import Timetable

KIB, MIB, GIB = 1024, 1024**2, 1024**3

EVERYBODY = (
    "sealift", "s5cmd", "s5cmd tuned", "obstore", "boto3 legacy", "boto3 standard", "boto3 adaptive",
    "aioboto3", "aioboto3 adaptive", "rclone", "rclone tuned", "rclone tpslimit", "awscli",
)  # fmt: skip
SOME = ("sealift", "s5cmd tuned", "obstore", "boto3 standard", "boto3 adaptive")
QUICK = ("sealift", "s5cmd tuned", "obstore", "rclone tuned")


@dataclass(frozen=True)
class Row:
    """One kind of work under one kind of KMS."""

    name: str
    title: str
    orders: Orders
    peers: tuple[str, ...]
    ratio: float | None = None
    """The time that is aimed at, by the ideal one."""
    refused: float | None = None
    """The share of the GETs that may be refused, those not counted that were in flight at the first refusal."""
    from_first_get: bool = False
    """The time counts from the first GET; else it is the whole process's."""
    options: tuple[str, ...] = ()
    """Sealift's."""
    runs: int = 1
    """How many runs of the peer go on at once."""
    sealed: bool = False
    """SeaweedFS and OpenBao serve it."""
    seconds: float = 0.0
    """After which they are interrupted; 0 lets them finish."""

    @property
    def charged(self) -> int:
        """How many objects cost a Decrypt."""
        return sum(kind.count for kind in self.orders.kinds if not kind.bucket_key)

    @property
    def ideal(self) -> float:
        """The seconds of a client that sends what is allowed, one GET an object; 0 where no time is aimed at."""
        return 0.0 if self.ratio is None else self.orders.timetable.ideal(self.charged)


SMALL = (Kind(6_000, 16 * KIB),)
FEW = (Kind(500, 16 * KIB),)
MANY = (Kind(20_000, 16 * KIB),)
CONNECTION = 80e6
"""Bytes a second on one connection: S3's own are 85 to 90 MB/s."""
CHANGING = Timetable((300, 150), 10.0)


def at(rate: float) -> Timetable:
    """Return a quota that does not change."""
    return Timetable((rate,))


def bucket(row: Row, form: Form) -> Row:
    """Return the row with another way of counting, and this form of refusal."""
    return replace(row, name=f"{row.name}-bucket", orders=replace(row.orders, way="bucket", form=form))


_STEADY = Row("300", "6,000 × 16 KiB at 300/s", Orders(SMALL, at(300)), EVERYBODY, ratio=1.05, refused=0.01)
_SLOW = Row("20", "500 × 16 KiB at 20/s", Orders(FEW, at(20)), SOME, ratio=1.05, refused=0.01)
_FAST = Row(
    "3000", "20,000 × 16 KiB at 3,000/s", Orders(MANY, at(3000)), QUICK, ratio=1.05, refused=0.01, from_first_get=True
)
_CHANGING = Row(
    "changing", "9,000 × 16 KiB at 300/s and 150/s in turns of 10 s", Orders((Kind(9_000, 16 * KIB),), CHANGING), SOME,
    ratio=1.08, refused=0.02,
)  # fmt: skip

ROWS = (
    _STEADY,
    replace(_STEADY, name="300-400", orders=replace(_STEADY.orders, form="400")),
    bucket(replace(_STEADY, peers=SOME), "503"),
    bucket(replace(_STEADY, name="300-400", peers=SOME), "400"),
    Row(
        "late", "6,000 × 16 KiB at 300/s, 100 ms to each answer", Orders(SMALL, at(300), delay=0.1), SOME,
        ratio=1.05, refused=0.01,
    ),
    _SLOW,
    bucket(_SLOW, "400"),
    _FAST,
    bucket(_FAST, "400"),
    _CHANGING,
    bucket(_CHANGING, "503"),
    Row(
        "large-free", "1 GiB, no quota, 80 MB/s a connection", Orders((Kind(1, GIB),), connection_rate=CONNECTION), SOME
    ),
    Row(
        "large", "1 GiB at 20/s, 80 MB/s a connection", Orders((Kind(1, GIB),), at(20), connection_rate=CONNECTION),
        SOME, refused=0.01,
    ),
    Row(
        "mixture", "2,000 × 16 KiB and 4 × 256 MiB at 100/s",
        Orders((Kind(2_000, 16 * KIB), Kind(4, 256 * MIB)), at(100)), SOME, ratio=1.05, refused=0.01,
    ),
    Row(
        "bucket-keys", "3,000 × 16 KiB at 150/s, and 9,000 with a Bucket Key",
        Orders((Kind(3_000, 16 * KIB), Kind(9_000, 16 * KIB, bucket_key=True)), at(150)), SOME,
        ratio=1.05, refused=0.01,
    ),
    Row(
        "cap", "2,000 × 16 KiB, no quota, --kms-rps 100", Orders((Kind(2_000, 16 * KIB),)), ("sealift",),
        options=("--kms-rps", "100"),
    ),
    Row(
        "sharing", "Two runs beside 100/s of something else, all at 300/s",
        Orders((Kind(100_000, 16 * KIB),), at(300), tenant=100.0), ("sealift", "s5cmd tuned", "boto3 adaptive"),
        runs=2, seconds=300.0,
    ),
    Row(
        "sealed", "2,000 × 16 KiB at 100/s, SeaweedFS and OpenBao", Orders((Kind(2_000, 16 * KIB),), at(100)),
        ("sealift", "s5cmd tuned", "obstore", "boto3 standard"), ratio=1.05, refused=0.01, sealed=True,
    ),
)  # fmt: skip
