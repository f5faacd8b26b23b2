"""Every object is one shard's, and a task of an array job knows which shard it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.errors import ConfigError
from sealift.model import RemoteObject
from sealift.sharding import Shard, named, parse_shard, shard_of

KEYS = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def slurm(task, first=0, last=7, step=1, count=None):
    environ = {"TASK_ID": task, "TASK_MIN": first, "TASK_MAX": last, "TASK_STEP": step}
    if count is not None:
        environ["TASK_COUNT"] = count
    return {f"SLURM_ARRAY_{name}": str(value) for name, value in environ.items()}


def refusal(text, environ=None):
    with pytest.raises(ConfigError) as caught:
        parse_shard(text, environ or {})
    return caught.value.message


@given(st.lists(KEYS, unique=True), st.integers(1, 50))
def test_each_object_is_exactly_one_shards(keys, count):
    remotes = [RemoteObject("b", key, 0, "", 0) for key in keys]
    shares = [Shard(index, count).among(remotes) for index in range(1, count + 1)]
    assert sorted(remote.key for share in shares for remote in share) == sorted(keys)


def test_shards_are_of_about_one_size_whatever_the_keys_have_in_common():
    for keys in ([f"p/{number:09d}" for number in range(8000)], [f"{number}/x/y.csv" for number in range(8000)]):
        sizes = [sum(shard_of(key, 8) == index for key in keys) for index in range(1, 9)]
        assert min(sizes) > 850, sizes
        assert max(sizes) < 1150, sizes


def test_whose_an_object_is_never_changes_as_ledgers_rest_on_it():
    assert [shard_of(key, 8) for key in ("", "a", "reports/2026/a.csv", "ü", "\udcff")] == [5, 8, 7, 8, 2]


def test_a_shards_name_gives_it_back():
    assert named(Shard(3, 8).name) == Shard(3, 8)
    assert [named(name) for name in ("0-of-8", "9-of-8", "3of8", "3-of-8.lock", "1-of-99999")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "environ", "shard"),
    [
        ("3/8", {}, Shard(3, 8)),
        ("1/1", {}, None),
        ("auto", slurm(0), Shard(1, 8)),
        ("auto", slurm(7), Shard(8, 8)),
        ("auto", slurm(5, first=1, last=9, step=4, count=3), Shard(2, 3)),
        ("auto", slurm(5, first=1, last=10, step=4, count=3), Shard(2, 3)),
        ("auto/8", slurm(0), Shard(1, 8)),
        ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "0", "AWS_BATCH_JOB_ARRAY_SIZE": "5"}, Shard(1, 5)),
        ("auto/5", {"AWS_BATCH_JOB_ARRAY_INDEX": "4"}, Shard(5, 5)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, Shard(4, 4)),
    ],
)
def test_a_shard_is_written_or_taken_from_the_scheduler(text, environ, shard):
    assert parse_shard(text, environ) == shard


@pytest.mark.parametrize(
    ("text", "environ", "why"),
    [
        ("0/8", {}, "there is no shard 0/8"),
        ("9/8", {}, "there is no shard 9/8"),
        ("1/10001", {}, "10,000 are the most"),
        ("3", {}, "is not a shard"),
        ("x/3", {}, "is not a shard"),
        ("auto", {}, "no task of an array job"),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, "auto/N, with the job's completions"),
        ("auto/3", {"JOB_COMPLETION_INDEX": "3"}, "there is no shard 4/3"),
        ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "4"}, "AWS_BATCH_JOB_ARRAY_SIZE is ''"),
        ("auto/4", slurm(0), "Slurm's array has 8 tasks"),
        ("auto", slurm(3, first=1, last=7, count=3), "not evenly spaced"),
        ("auto", slurm(2, first=1, last=7, step=2), "not evenly spaced"),
        ("auto", slurm(9), "not evenly spaced"),
        ("auto", slurm(1, step=0), "not evenly spaced"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID is 'x'"),
    ],
)
def test_what_cannot_be_a_shard_is_refused(text, environ, why):
    assert why in refusal(text, environ)
