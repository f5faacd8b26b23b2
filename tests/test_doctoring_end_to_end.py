"""Doctor beside a real S3 and a real KMS that denies, disables or is down; a proxy puts it in AWS's words."""

from __future__ import annotations

import pytest

from sealift import ConnectionSettings, RetrySettings, Settings
from sealift.doctoring import doctor
from tests.support.translating import Said, translating

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"]),
]

PREFIX = "doctor/"
ME = "arn:aws:iam::000000000000:user/reader"
"""As the sandbox answers STS, which it speaks a little of."""


def arn_of(key: str) -> str:
    return f"arn:aws:kms:us-east-1:444455556666:key/{key}"


def denied(key: str) -> Said:
    why = "because no resource-based policy allows the kms:Decrypt action"
    what = f"is not authorized to perform: kms:Decrypt on resource: {arn_of(key)} {why}"
    return 403, "AccessDenied", f"User: {ME} {what}"


def disabled(key: str) -> Said:
    return 400, "KMS.DisabledException", f"{arn_of(key)} is disabled."


@pytest.fixture
async def objects(levers, monkeypatch):
    """Two objects under each of the two keys; returns the key of each, and reads as the reader."""
    for name, value in levers.environment(levers.reader).items():
        monkeypatch.setenv(name, value)
    sealed = {f"{PREFIX}{number}/{name}": key for number, key in enumerate(levers.keys) for name in "ab"}
    async with levers.client() as s3:
        for name, key in sealed.items():
            await s3.put_object(
                Bucket=levers.bucket, Key=name, Body=b"sealed", ServerSideEncryption="aws:kms", SSEKMSKeyId=key
            )
    return sealed


async def examined(levers, said):
    async with translating(levers.endpoint_url, said) as url:
        settings = Settings(
            connection=ConnectionSettings(endpoint_url=url), retry=RetrySettings(max_attempts=2, base=0.01, cap=0.02)
        )
        return await doctor(f"s3://{levers.bucket}/{PREFIX}", settings)


async def test_a_key_that_kms_denies_is_the_one_whose_policy_lacks_a_statement(levers, objects):
    bad, good = levers.keys[1], levers.keys[0]
    await levers.deny(bad)
    said = {f"{levers.bucket}/{name}": denied(key) for name, key in objects.items()}
    diagnosis = await examined(levers, said.get)
    assert diagnosis.exit_status == 3
    assert {key.arn: key.readable for key in diagnosis.keys} == {good: True, bad: False}
    (cure,) = diagnosis.cures
    assert cure.subject == f"kms:Decrypt on {arn_of(bad)}"
    (remedy,) = cure.remedies
    assert (remedy.act, remedy.where, remedy.account) == ("allow", "key", "444455556666")
    assert diagnosis.caller == ME
    await levers.allow(bad)
    assert (await examined(levers, said.get)).exit_status == 0


async def test_a_key_that_is_disabled_is_nobodys_policy(levers, objects):
    bad = levers.keys[1]
    await levers.disable(bad)
    said = {f"{levers.bucket}/{name}": disabled(key) for name, key in objects.items()}
    diagnosis = await examined(levers, said.get)
    assert (diagnosis.exit_status, diagnosis.cures) == (3, ())
    assert any(arn_of(bad) in link.found and "enable-key" in link.found for link in diagnosis.links)


async def test_a_kms_that_is_down_is_told_as_that(levers, objects):
    await levers.seal()
    diagnosis = await examined(levers, lambda _: None)
    assert (diagnosis.exit_status, diagnosis.cures) == (5, ())
    failing = [link for link in diagnosis.links if link.state == "refused"]
    assert any("500 InternalError" in link.found and "nothing of permissions" in link.todo for link in failing)


async def test_a_wrong_secret_is_told_by_the_servers_own_refusal_and_not_repeated(levers, objects, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    diagnosis = await examined(levers, lambda _: None)
    assert diagnosis.exit_status == 3
    assert [link.name for link in diagnosis.links if link.state == "refused"] == ["credentials"]
    assert "wrong-and-secret" not in repr(diagnosis)
