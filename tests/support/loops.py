"""Which event loop a test runs on, where it is not each in turn."""

import pytest

ONE_LOOP = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
"""For tests that take a second or more, or pull the sandbox's levers, and whose point is not the loop."""
