"""Shards mirror to one destination side by side, and what they know of it adds up to what one run would know."""

import anyio
import pytest

import sealift
from sealift import (
    LocalStorageError,
    MaxDelete,
    SelectionSettings,
    StorageSettings,
    TransferSettings,
    shards,
)
from sealift.cli import main
from sealift.destination import Destination
from sealift.ledger import LEDGER, Changes, Decrypts, Ledger
from sealift.sharding import Shard
from sealift.shards import begin_part, missing, open_to_read, part_of, present, unite
from tests.support.faultserver import FaultServer, FaultServerThread, Generated, Hold, ResetAfter
from tests.support.running import Watcher, fill, partials, recorded, settings_for, tree
from tests.test_ledger import record

pytestmark = pytest.mark.anyio

KEYS = [f"d{number % 3}/{number:03d}" for number in range(60)]
BODIES = {key: key.encode() for key in KEYS}
THREE = [Shard(index, 3) for index in (1, 2, 3)]
EVERYTHING = MaxDelete(100, percent=True)


@pytest.fixture
async def server():
    async with FaultServer() as server:
        fill(server, BODIES)
        yield server


def settings(server, shard, *, transfer=None, kms=None, names=None, **storage):
    return settings_for(
        server,
        selection=SelectionSettings(shard=shard, files_from=names),
        storage=StorageSettings(max_delete=EVERYTHING, **storage),
        transfer=transfer,
        kms=kms,
    )


async def mirror(server, dest, shard=None, observer=None, **more):
    return await sealift.mirror(["s3://bucket"], dest, settings(server, shard, **more), observer=observer)


def known(dest):
    """What the ledger and all its parts say: each path once."""
    with open_to_read(dest / ".sealift", None, pytest.fail) as whole:
        paths = [record.path for page in whole.pages() for record in page]
    assert len(paths) == len(set(paths))
    return set(paths)


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


async def test_shards_are_disjoint_and_complete_and_run_side_by_side(server, tmp_path):
    summaries = {}

    async def one(shard):
        summaries[shard] = await mirror(server, tmp_path, shard)

    async with anyio.create_task_group() as machines:
        for shard in THREE:
            machines.start_soon(one, shard)

    assert tree(tmp_path) == BODIES
    assert sum(summary.downloaded for summary in summaries.values()) == len(KEYS) == server.gets
    for shard, summary in summaries.items():
        assert summary.listed == summary.downloaded == sum(map(shard.has, KEYS))
    assert known(tmp_path) == set(KEYS)
    for shard in THREE:
        assert (await mirror(server, tmp_path, shard)).up_to_date == summaries[shard].listed
    assert server.gets == len(KEYS)


async def test_a_shard_that_has_never_run_is_named(server, tmp_path):
    watcher = Watcher()
    await mirror(server, tmp_path, Shard(1, 3), watcher)
    await mirror(server, tmp_path, Shard(3, 3), watcher)
    assert [note for note in watcher.notes if "not run yet" in note] == [
        "shards that have not run yet: 2/3, 3/3",
        "shards that have not run yet: 2/3",
    ]
    assert missing(present(tmp_path / ".sealift")) == [Shard(2, 3)]


async def test_a_shard_begins_with_what_was_known_before_there_were_shards(server, tmp_path):
    await mirror(server, tmp_path)
    for shard in THREE:
        assert (await mirror(server, tmp_path, shard)).downloaded == 0
    with Ledger.open_to_read(part_of(tmp_path / ".sealift", THREE[0]), pytest.fail) as part:
        assert {record.path for record in part.records()} == {key for key in KEYS if THREE[0].has(key)}
        assert not any(record.adopted for record in part.records())


async def test_a_run_without_shards_goes_on_from_theirs_and_makes_them_one(server, tmp_path):
    for shard in THREE[:2]:
        await mirror(server, tmp_path, shard)
    summary = await mirror(server, tmp_path)
    assert (summary.up_to_date, summary.downloaded) == (server.gets - summary.downloaded, sum(map(THREE[2].has, KEYS)))
    assert present(tmp_path / ".sealift") == []
    with Ledger.open_to_read(tmp_path / ".sealift", pytest.fail) as ledger:
        assert {record.path for record in ledger.records()} == set(KEYS)
        assert not any(record.adopted for record in ledger.records())


async def test_another_number_of_shards_goes_on_from_the_former_ones(server, tmp_path):
    for shard in THREE:
        await mirror(server, tmp_path, shard)
    four = [Shard(index, 4) for index in range(1, 5)]
    assert sum([(await mirror(server, tmp_path, shard)).up_to_date for shard in four]) == len(KEYS)
    assert server.gets == len(KEYS)
    assert present(tmp_path / ".sealift") == four
    assert known(tmp_path) == set(KEYS)


@pytest.mark.parametrize("sources", [["p", "q"], ["q", "p"]])
async def test_what_shards_have_fetched_to_one_path_is_known_for_what_is_there(server, tmp_path, sources):
    names = [f"{number}" for number in range(12)]
    for source in sources:  # the older one may be fetched last
        fill(server, {f"{source}/{name}": f"{source} {name}".encode() * len(source + name) for name in names})
    for source in ("p", "q"):
        for shard in THREE:
            await sealift.mirror([f"s3://bucket/{source}"], tmp_path, settings(server, shard))
    summary = await sealift.mirror(["s3://bucket/q"], tmp_path, settings(server, None))
    assert (summary.up_to_date, summary.get_requests) == (len(names), 0)
    ledger = recorded(tmp_path)
    assert {name: ledger[name].key for name in names} == {name: f"q/{name}" for name in names}
    assert not [record for record in ledger.values() if record.adopted]


async def test_what_one_shard_has_in_flight_another_does_not_clean_away_and_a_whole_run_continues(server, tmp_path):
    [key, *_] = [key for key in (f"large{number}" for number in range(20)) if THREE[0].has(key)]
    server.put("bucket", key, Generated(1_000_000))
    parts = TransferSettings(part_size=100_000, concurrency=1)
    broken = server.fault(op="get", key=key, do=ResetAfter(0), times=None, after=5)
    summary = await mirror(server, tmp_path, THREE[0], transfer=parts)
    assert [failure.key for failure in summary.failures] == [key]
    broken.remove()
    await mirror(server, tmp_path, THREE[1])
    before = server.body_bytes
    assert (await mirror(server, tmp_path)).failed == 0
    of_others = sum(len(body) for name, body in BODIES.items() if THREE[2].has(name))
    assert server.body_bytes - before < 1_000_000 - 400_000 + of_others
    assert partials(tmp_path) == []


async def test_files_from_is_split_as_well(server, tmp_path):
    names = tmp_path / "names"
    names.write_text("\n".join(KEYS[:30]))
    for shard in THREE:
        summary = await mirror(server, tmp_path / "dest", shard, names=str(names))
        assert summary.listed == sum(map(shard.has, KEYS[:30]))
    assert tree(tmp_path / "dest") == {key: BODIES[key] for key in KEYS[:30]}


# ── Deleting ────────────────────────────────────────────────────────────────────────────────────────


async def test_together_shards_delete_what_is_gone_and_the_directories_that_any_of_them_has_made(server, tmp_path):
    fill(server, {"marked/": b"", "marked/x": b"x"})
    for shard in THREE:
        await mirror(server, tmp_path, shard)
    gone = [key for key in KEYS if key.startswith("d1/")] + ["d2/002", "marked/x"]
    for key in gone:
        del server.objects["bucket", key]

    deleted = [(await mirror(server, tmp_path, shard, delete=True)).deleted for shard in THREE]

    assert deleted == [sum(map(shard.has, gone)) for shard in THREE]
    assert tree(tmp_path) == {key: body for key, body in BODIES.items() if key not in gone} | {"marked/": b""}
    assert not (tmp_path / "d1").exists()


async def test_a_run_without_shards_deletes_what_shards_have_written(server, tmp_path):
    for shard in THREE:
        await mirror(server, tmp_path, shard)
    del server.objects["bucket", KEYS[0]]
    assert (await mirror(server, tmp_path, delete=True)).deleted == 1
    assert known(tmp_path) == set(KEYS[1:])


async def test_a_file_of_another_shard_gives_way_to_a_directory(server, tmp_path):
    key = next(name for name in ("a", "b", "c", "e", "f") if THREE[0].has(name) and not THREE[0].has(f"{name}/below"))
    server.put("bucket", key, b"a file")
    for shard in THREE:
        await mirror(server, tmp_path, shard)
    del server.objects["bucket", key]
    server.put("bucket", f"{key}/below", b"needs the name")
    for shard in THREE:
        assert (await mirror(server, tmp_path, shard)).failed == 0
    assert tree(tmp_path)[f"{key}/below"] == b"needs the name"


async def test_shards_that_fill_a_destination_together_make_the_tree_of_one_run(server, tmp_path):
    """Each of them has seen it empty, and the other's files come where it looks for none."""
    for name in KEYS[:30]:
        fill(
            server,
            {f"{name}/below": b"below", f"{name}/below/it": b"it", f"{name[0]}/{name[-1]}": b"", f"{name}-": b"-"},
        )
        server.put("bucket", f"{name}-/", b"")
    server.page_size = 10
    await mirror(server, tmp_path / "whole")

    async with anyio.create_task_group() as machines:
        for shard in THREE:
            machines.start_soon(mirror, server, tmp_path / "shards", shard)

    assert tree(tmp_path / "shards") == tree(tmp_path / "whole")
    assert (tmp_path / "shards" / f"{KEYS[0]}%file").read_bytes() == BODIES[KEYS[0]]


async def test_a_file_that_another_shard_has_moved_is_sealifts_own_where_it_is_now(server, tmp_path):
    key = next(name for name in ("a", "b", "c", "e", "f") if THREE[0].has(name) and not THREE[0].has(f"{name}/below"))
    server.put("bucket", key, b"a file")
    for shard in THREE:
        await mirror(server, tmp_path, shard)
    server.put("bucket", f"{key}/below", b"needs the name")
    for shard in (*THREE, THREE[0]):
        assert (await mirror(server, tmp_path, shard)).failed == 0

    assert known(tmp_path) == {*KEYS, f"{key}%file", f"{key}/below"}
    assert (await sealift.verify(tmp_path)).findings == ()
    del server.objects["bucket", key]
    assert (await mirror(server, tmp_path, THREE[0], delete=True)).deleted == 1


async def test_a_plan_knows_what_shards_have_written_and_what_would_be_deleted(server, tmp_path):
    server.put("bucket", "ü", b"of another order")
    await mirror(server, tmp_path)
    for shard in THREE[:2]:
        await mirror(server, tmp_path, shard)
    new = next(key for key in ("n1", "n2", "n3", "n4", "n5", "n6") if THREE[0].has(key))
    server.put("bucket", new, b"by a shard only")
    await mirror(server, tmp_path, THREE[0])
    gone = [next(key for key in KEYS if shard.has(key)) for shard in THREE] + [new]
    for key in gone:
        del server.objects["bucket", key]

    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings(server, None, delete=True))
    assert (forecast.up_to_date, forecast.to_download, forecast.to_delete) == (len(KEYS) - 2, 0, 4)
    forecast = await sealift.plan(["s3://bucket"], tmp_path, settings(server, THREE[0], delete=True))
    assert (forecast.to_download, forecast.to_delete) == (0, 2)
    assert present(tmp_path / ".sealift") == THREE[:2]


# ── Locks ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_shard_keeps_itself_and_whole_runs_out_and_no_other_shard(server, tmp_path):
    gate = anyio.Event()
    held = server.fault(op="get", do=Hold(gate), times=1)
    async with anyio.create_task_group() as machines:
        machines.start_soon(mirror, server, tmp_path, THREE[0])
        await held.reached()
        with pytest.raises(LocalStorageError, match="another sealift run is writing"):
            await mirror(server, tmp_path)
        with pytest.raises(LocalStorageError, match="run of shard 1-of-3 is writing"):
            await mirror(server, tmp_path, THREE[0])
        with pytest.raises(LocalStorageError, match=r"shard 1/3 is being mirrored.*one number of shards"):
            await mirror(server, tmp_path, Shard(1, 4))
        assert (await mirror(server, tmp_path, THREE[1])).failed == 0
        gate.set()
    assert known(tmp_path) == {key for key in KEYS if not THREE[2].has(key)}


async def test_a_shard_keeps_others_out_of_a_state_as_it_does_of_the_destination(server, tmp_path):
    gate, state, other = anyio.Event(), tmp_path / "state", tmp_path / "other"
    held = server.fault(op="get", do=Hold(gate), times=1)

    async def run():
        await mirror(server, tmp_path / "dest", THREE[0], state=state)

    async with anyio.create_task_group() as machines:
        machines.start_soon(run)
        await held.reached()
        with pytest.raises(LocalStorageError, match=f"another sealift run is writing to {state}"):
            await mirror(server, other, state=state)
        with pytest.raises(LocalStorageError, match=f"run of shard 1-of-3 is writing to {state}"):
            await mirror(server, other, THREE[0], state=state)
        with pytest.raises(LocalStorageError, match=r"shard 1/3 is being mirrored.*one number of shards"):
            await mirror(server, other, Shard(1, 4), state=state)
        assert (await mirror(server, tmp_path / "dest", THREE[1], state=state)).failed == 0
        gate.set()
    assert present(state) == THREE[:2]


async def test_shards_arrange_their_ledgers_one_after_the_other(tmp_path):
    with Destination.open(tmp_path, create=True) as one, Destination.open(tmp_path, create=True) as other:
        held = one.begin_arranging()
        assert held is not None
        assert other.begin_arranging() is None
        one.end_arranging(held)
        held = other.begin_arranging()
        assert held is not None
        other.end_arranging(held)


# ── Ledgers ─────────────────────────────────────────────────────────────────────────────────────────


def walk(steps):
    return sum(1 for _ in steps)


def nobody_asks(record) -> bool:
    """Nothing is recorded at two places."""
    pytest.fail(record.path)


def filled(state, paths):
    state.mkdir(parents=True, exist_ok=True)
    with Ledger.open(state, pytest.fail) as ledger:
        ledger.write(Changes(records=[record(path, key=path) for path in paths], directories=["d"]))
        ledger.keep_decrypts("bucket", "", Decrypts(len(paths), 1))


def test_parts_are_begun_and_united_page_by_page_and_say_the_same_as_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_PAGE", 7)
    filled(tmp_path, KEYS)
    for shard in THREE:
        assert walk(begin_part(tmp_path, shard, pytest.fail)) == 9
        assert walk(begin_part(tmp_path, shard, pytest.fail)) == 0
    assert present(tmp_path) == THREE
    walk(unite(tmp_path, THREE, pytest.fail, nobody_asks))
    assert present(tmp_path) == []
    with Ledger.open_to_read(tmp_path, pytest.fail) as ledger:
        assert {record.path for record in ledger.records()} == set(KEYS)
        assert ledger.made(["d"]) == {"d"}


@pytest.mark.parametrize("steps_taken", range(0, 40, 3))
def test_whatever_moment_it_is_killed_at_uniting_goes_on(tmp_path, monkeypatch, steps_taken):
    monkeypatch.setattr(shards, "_PAGE", 7)
    filled(tmp_path, [*KEYS[:30], "old"])
    for shard in THREE:
        filled(part_of(tmp_path, shard), [key for key in KEYS if shard.has(key)])
    steps = unite(tmp_path, THREE, pytest.fail, nobody_asks)
    for _ in range(steps_taken):
        next(steps, None)
    steps.close()
    for shard in present(tmp_path):
        assert shard in THREE
    walk(unite(tmp_path, present(tmp_path), pytest.fail, nobody_asks))
    with open_to_read(tmp_path, None, pytest.fail) as whole:
        assert [record.path for record in whole.records()] == sorted(KEYS)
    with Ledger.open_to_read(tmp_path, pytest.fail) as ledger:
        assert ledger.decrypts("bucket", "") == Decrypts(sum(map(THREE[-1].has, KEYS)), 1), "the last one's word"


def said_by_parts(state, records):
    """Let each shard's part say one of the records."""
    for shard, said in zip(THREE, records, strict=False):
        part_of(state, shard).mkdir(parents=True)
        with Ledger.open(part_of(state, shard), pytest.fail) as part:
            part.write(Changes(records=[said]))


ADOPTED = record("f", key="x/f", etag='"x"', adopted=True)
FETCHED = record("f", key="y/f", etag='"y"', checksum="CRC32:AAAAAA==")
CHECKED = record("f", key="z/f", etag='"z"', adopted=True, checksum="CRC32:AAAAAA==")
LATER = FETCHED._replace(key="x/f", mtime_ns=FETCHED.mtime_ns + 1)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("better", "worse", "in_place"),
    [
        (FETCHED, ADOPTED, [FETCHED, ADOPTED]),
        (CHECKED, ADOPTED, [CHECKED, ADOPTED]),
        (LATER, FETCHED, []),
        (FETCHED, LATER, [FETCHED]),
        (ADOPTED, FETCHED, [ADOPTED]),
    ],
)
def test_of_one_path_that_two_shards_have_recorded_the_better_evidence_counts(
    tmp_path, turned, better, worse, in_place
):
    said_by_parts(tmp_path, [better, worse] if turned else [worse, better])
    walk(unite(tmp_path, THREE[:2], pytest.fail, in_place.__contains__))
    with Ledger.open_to_read(tmp_path, pytest.fail) as ledger:
        assert ledger.records() == [better]


def test_all_parts_together_are_read_like_one_ledger(tmp_path):
    paths = [*KEYS, "ü", "\udcff", "z"]
    filled(tmp_path, [*paths[:30], *paths[-3:], "old"])
    for shard in THREE[1:]:
        filled(part_of(tmp_path, shard), [path for path in paths if shard.has(path)])
    there = {path for path in paths if THREE[1].has(path) or THREE[2].has(path)}
    there |= {path for path in [*paths[:30], *paths[-3:], "old"] if THREE[0].has(path)}
    with open_to_read(tmp_path, None, pytest.fail) as whole:
        found = [record.path for page in whole.pages(most=7) for record in page]
        assert sorted(found) == sorted(there)
        assert set(whole.recorded([*paths, "none"])) == there - {"old"}
        asked = sorted(path for path in paths if path.isascii())
        entries = [entry[0] for entry in whole.entries(asked)]
        assert entries == [path for path in sorted([*asked, "old"]) if path in there]
        assert {entry[1] for entry in whole.entries(asked)} <= whole.seals_of("bucket")
        assert set(whole.look_up(paths)) == there - {"old"}
        assert whole.made(["d", "e"]) == {"d"}
        assert not whole.empty
        assert whole.decrypts("bucket", "").free == 3


def test_once_every_shard_has_a_part_the_whole_has_no_word_on_anything(tmp_path):
    filled(tmp_path, [*KEYS, "old"])
    for shard in THREE:
        filled(part_of(tmp_path, shard), [key for key in KEYS if shard.has(key)])
    with open_to_read(tmp_path, None, pytest.fail) as whole:
        assert whole.totals() == (len(KEYS), 5 * len(KEYS))
        assert whole.totals("d1") == (20, 100)
        assert whole.said_of("old") == []
        assert [record.path for record in whole.said_of(KEYS[0])] == KEYS[:1]
        assert whole.made(["d"]) == {"d"}


def test_a_part_that_was_only_begun_is_nobodys_word(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_PAGE", 7)
    filled(tmp_path, KEYS)
    steps = begin_part(tmp_path, THREE[0], pytest.fail)
    next(steps)
    steps.close()
    assert present(tmp_path) == []
    walk(begin_part(tmp_path, THREE[0], pytest.fail))
    assert {path.name for path in part_of(tmp_path, THREE[0]).iterdir()} == {LEDGER}


def test_a_log_that_a_part_has_left_is_not_taken_for_the_next_ones(tmp_path):
    """A run was killed while it dropped a part, and somebody was reading it."""
    filled(tmp_path, KEYS)
    directory = part_of(tmp_path, THREE[0])
    filled(directory, ["other"])
    with Ledger.open(directory, pytest.fail) as former:
        former.write(Changes(records=[record("stale", key="stale")]))
        left = (directory / f"{LEDGER}-wal").read_bytes()
    (directory / LEDGER).unlink()
    (directory / f"{LEDGER}-wal").write_bytes(left)

    walk(begin_part(tmp_path, THREE[0], pytest.fail))
    with Ledger.open(directory, pytest.fail) as part:
        assert {record.path for record in part.records()} == {key for key in KEYS if THREE[0].has(key)}


def test_the_command_takes_its_shard_from_the_scheduler(tmp_path, monkeypatch, capsys):
    with FaultServerThread() as server:
        fill(server, BODIES)
        for index in ("0", "1", "2"):
            monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
            options = ["-q", "--shard", "auto/3", "--endpoint-url", server.url]
            assert main(["mirror", *options, "s3://bucket", str(tmp_path)]) == 0
            assert capsys.readouterr().err == ""
    assert tree(tmp_path) == BODIES
    assert missing(present(tmp_path / ".sealift")) == []
