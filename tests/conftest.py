"""What every test shares: both event loops, quick hypothesis profiles, and none of this machine's AWS settings."""

import functools
import gc
import os

import pytest
from aiobotocore import httpsession
from botocore.loaders import JSONFileLoader
from botocore.retries.standard import ExponentialBackoff
from hypothesis import HealthCheck, settings

from tests.support.faultserver import FaultServer
from tests.support.sandbox import levers, sandbox

__all__ = ["levers", "sandbox"]

settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Every session of the SDK reads its descriptions of the services anew, 70 ms; they are the same each time.
JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
# Every client of the SDK reads all of the world's authorities, 20 ms; none vouches for a server of the tests.
httpsession.get_cert_path = lambda verify: None if verify is True else verify
# Where the SDK may try again by itself, it waits up to a second before; that it tries is the same without.
ExponentialBackoff.delay_amount = lambda _self, _context: 0.0


def pytest_collection_finish():
    """What was imported and collected stays to the end: the collector of garbage need not go through it, 1 s a time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request):
    return request.param


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch, tmp_path_factory):
    """Keys for the servers of the tests, and nothing of the person's who runs them."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "SEALIFT_")) or name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
    nowhere = tmp_path_factory.getbasetemp() / "no-such-file"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
async def server():
    """A server that fails as it is told, with one bucket."""
    async with FaultServer() as server:
        server.bucket("bucket")
        yield server
