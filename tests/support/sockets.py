"""What this process has open, as the kernel counts it."""

from contextlib import suppress
from pathlib import Path


def connections_to(port: int) -> int:
    """How many TCP connections to that port on this machine this process has open, as the client."""
    ours = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            ours.add(str(descriptor.readlink()))
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in ours for row in rows)
