"""Numbers as a person reads them. Pure."""

from __future__ import annotations


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def objects(number: int) -> str:
    """`1 object`, `12,345 objects`."""
    return f"{number:,} object" if number == 1 else f"{number:,} objects"


def files(number: int) -> str:
    """`1 file`, `12,345 files`."""
    return f"{number:,} file" if number == 1 else f"{number:,} files"


def gets(number: int) -> str:
    """`1 GET`, `128 GETs`."""
    return f"{number:,} GET" if number == 1 else f"{number:,} GETs"


def size(number: float) -> str:
    """Bytes in binary units: `512 B`, `12.3 MiB`."""
    if number < 1024:
        return f"{number:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if round(number, 1) < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:,.1f} TiB"


def rate(bytes_per_second: float) -> str:
    """`118.0 MiB/s`."""
    return f"{size(bytes_per_second)}/s"


def per_second(requests: float) -> str:
    """`3.7/s`, `287/s`, `9,600/s`."""
    return f"{requests:.1f}/s" if requests < 9.95 else f"{requests:,.0f}/s"


def duration(seconds: float) -> str:
    """`3.2 s` below a minute, `1:02:03` above."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def about(seconds: float) -> str:
    """A duration of which only the magnitude is known: `1 s`, `45 s`, `2 min`, `3 h`, `4 days`."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < length * most:
            return f"{max(1, round(seconds / length))} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def dollars(amount: float) -> str:
    """`$3.61`, `less than $0.01`."""
    return f"${amount:,.2f}" if amount >= 0.01 else "less than $0.01"


def rounded(number: int) -> int:
    """The number with two digits that count: 12,044 is 12,000."""
    return int(float(f"{number:.1e}"))
