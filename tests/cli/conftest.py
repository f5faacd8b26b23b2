"""What tests of the command line share."""

from collections.abc import Iterator

import pytest

from tests.support.faultserver import FaultServer, FaultServerThread
from tests.support.terminal import Terminal


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """An empty server, which is the one that commands reach."""
    with FaultServerThread() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()
