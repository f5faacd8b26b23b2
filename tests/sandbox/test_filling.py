"""What the demo uploads, and that what arrives is what was said to be sent."""

import hashlib
import os
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.model import ByteRange
from sealift.planning import MIB
from sealift.sandbox.filling import Noise, Planned, Tree, demo_objects, fill, survey

MIXED = Noise("mixed", 3 * MIB + 17)
WHOLE = MIXED.read(ByteRange(0, MIXED.size))


@given(st.lists(st.integers(0, MIXED.size), min_size=2, max_size=2).map(sorted))
def test_any_stretch_of_noise_is_that_stretch_of_the_whole(ends):
    start, stop = ends
    assert MIXED.read(ByteRange(start, stop)) == WHOLE[start:stop]


def test_noise_is_different_for_each_seed_and_never_repeats_itself():
    blocks = {WHOLE[i : i + MIB] for i in range(0, 3 * MIB, MIB)} | {Noise("other", MIB).read(ByteRange(0, MIB))}
    assert len(blocks) == 4


def test_a_survey_takes_regular_files_that_stay_as_they_are(tmp_path):
    (tmp_path / "pkg" / "__pycache__").mkdir(parents=True)
    for name, size in [("pkg/a.py", 1), ("pkg/__pycache__/a.pyc", 1), ("z.txt", 10), ("large.so", 11)]:
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "link").symlink_to("z.txt")
    (tmp_path / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x")
    assert survey(tmp_path, largest=10) == Tree((Path("pkg/a.py"), Path("z.txt")), (Path("large.so"),), 0)


def test_a_survey_that_is_cut_short_is_spread_over_the_tree(tmp_path):
    for number in range(10):
        (tmp_path / str(number)).touch()
    assert survey(tmp_path, most=4) == Tree(tuple(map(Path, "0257")), (), 6)


def test_no_two_objects_have_the_same_key_and_every_kind_is_there():
    root = Path(sysconfig.get_path("purelib"))
    objects = list(demo_objects(root, survey(root), "second"))
    keys = [planned.key for planned in objects]
    assert len(keys) == len(set(keys)) > 1000
    assert any(planned.content == Noise("large", 256 * MIB) for planned in objects)
    assert any(planned.kms_key == "second" for planned in objects)
    for sign in " +%\"'&é日🦭":
        assert any(sign in key for key in keys)
    assert any(key.endswith("/") for key in keys)
    together = " ".join(keys)
    assert any(f"{key}/" in together for key in keys)
    # What SeaweedFS would store as something else.
    assert not any("//" in key or "\\" in key or key.startswith("/") or not key.isprintable() for key in keys)


@pytest.mark.sandbox
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_what_is_uploaded_can_be_listed_and_read_back(sandbox, tmp_path):
    (tmp_path / "file").write_bytes(b"from a file")
    planned = [
        *demo_objects(tmp_path, Tree((Path("file"), Path("vanished")), (), 0), sandbox.keys[1], large=40 * MIB),
        Planned("one more", b"!"),
    ]
    said: list[str] = []
    async with sandbox.client() as s3:
        await s3.create_bucket(Bucket="filling")
        by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": sandbox.keys[0]}
        await s3.put_bucket_encryption(
            Bucket="filling",
            ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]},
        )
        sent = await fill(s3, "filling", planned, announce=said.append)
        assert set(sent) == {each.key for each in planned} - {"site-packages/vanished"}
        listed = await s3.list_objects_v2(Bucket="filling")
        assert {each["Key"]: each["Size"] for each in listed["Contents"]} == {k: v.size for k, v in sent.items()}
        for key, uploaded in sent.items():
            answer = await s3.get_object(Bucket="filling", Key=key)
            async with answer["Body"] as body:
                assert hashlib.sha256(await body.read()).hexdigest() == uploaded.sha256
            if not key.endswith("/"):
                assert answer["SSEKMSKeyId"] == (uploaded.kms_key or sandbox.keys[0])
        large = await s3.head_object(Bucket="filling", Key="large/40-mib.bin")
        assert large["ETag"].endswith('-3"')
        for each in listed["Contents"]:
            await s3.delete_object(Bucket="filling", Key=each["Key"])
        await s3.delete_bucket(Bucket="filling")
