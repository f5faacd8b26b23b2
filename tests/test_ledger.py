"""The ledger: what is written can be looked up, and nothing that befalls the file takes a run along."""

import os
import sqlite3
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.errors import LocalStorageError
from sealift.ledger import LEDGER, Changes, Decrypts, Ledger, Record, Seal
from tests.support.smalldisk import small_tmpfs

BUCKET = Seal("bucket", "aws:kms", "arn:aws:kms:us-east-1:111122223333:key/1")


def record(path, **more):
    return Record(path, BUCKET, f"prefix/{path}", 5, '"e"', None, None, 5, 1_700_000_000_000_000_000)._replace(**more)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def ledger(tmp_path, notes):
    with Ledger.open(tmp_path, notes.append) as opened:
        yield opened


def everything(ledger):
    found, after = [], ""
    while page := ledger.records(after, most=3):
        found += page
        after = page[-1].path
    return found


def test_what_was_written_is_found_again_also_by_the_next_run(tmp_path, ledger, notes):
    rows = [record("a"), record("b/c", version_id="v", checksum="CRC64NVME:AAAAAAAAAAA=", adopted=True), record("d")]
    assert ledger.empty
    ledger.write(Changes(records=rows))

    assert ledger.look_up(["b/c", "missing", "a"]) == {"a": rows[0], "b/c": rows[1]}
    assert ledger.look_up([]) == {}
    ledger.close()
    with Ledger.open(tmp_path, notes.append) as again:
        assert not again.empty
        assert everything(again) == rows
    assert notes == []


SECOND = 1_000_000_000


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"version_id": "v"}, {"checksum": "CRC64NVME:AAAAAAAAAAA="}, {"mtime_ns": 1_700_000_000 * SECOND + 7}]
)
def test_a_file_that_was_written_is_not_taken_for_one_that_was_found(ledger, at_once, more):
    written = record("a", checksum="CRC32:AAAAAA==")
    found = record("a", adopted=True, **more)
    for records in [[written, found]] if at_once else [[written], [found]]:
        ledger.write(Changes(records=records))
    assert everything(ledger) == [written]
    ledger.write(Changes(records=[written._replace(checksum=None)]))
    assert everything(ledger) == [written._replace(checksum=None)]


@pytest.mark.parametrize(
    "more",
    [{"etag": '"f"'}, {"size": 6}, {"version_id": "w"}, {"key": "other"}, {"local_size": 6}, {"mtime_ns": 9 * SECOND}],
)
def test_another_file_or_version_that_was_found_is_recorded(ledger, more):
    found = record("a", version_id="v", adopted=True)._replace(**more)
    for before in (record("a", version_id="v"), found):
        ledger.write(Changes(records=[before, found]))
        assert everything(ledger) == [found]


def test_landmarks_are_kept_for_each_prefix_until_others_take_their_place(tmp_path, ledger, notes):
    odd = os.fsdecode(b"z\xff")
    ledger.keep_landmarks("bucket", "p/", ["p/a", "p/m"])
    ledger.keep_landmarks("bucket", "q/", ["q/a", odd])
    ledger.keep_landmarks("other", "p/", ["p/z"])
    ledger.keep_landmarks("bucket", "p/", ["p/b"])
    ledger.close()
    with Ledger.open_to_read(tmp_path, notes.append) as again:
        assert again.landmarks("bucket", "p/") == ["p/b"]
        assert set(again.landmarks("bucket", "q/")) == {"q/a", odd}
        assert again.landmarks("other", "p/") == ["p/z"]
        assert again.landmarks("other", "q/") == []


def test_what_kms_was_asked_is_kept_for_each_prefix_until_something_else_takes_its_place(tmp_path, ledger, notes):
    odd = os.fsdecode(b"z\xff/")
    ledger.keep_decrypts("bucket", "p/", Decrypts(1, 2))
    ledger.keep_decrypts("bucket", odd, Decrypts(3, 0))
    ledger.keep_decrypts("bucket", "p/", Decrypts(0, 9))
    ledger.close()
    with Ledger.open_to_read(tmp_path, notes.append) as again:
        assert again.all_decrypts() == {("bucket", "p/"): Decrypts(0, 9), ("bucket", odd): Decrypts(3, 0)}
        assert again.decrypts("bucket", "q/") == Decrypts()


def test_a_ledger_of_a_sealift_that_kept_nothing_of_it_is_read_and_taken_over(tmp_path, ledger, notes):
    ledger.write(Changes(records=[record("a")]))
    ledger.close()
    before = sqlite3.connect(tmp_path / LEDGER)
    before.execute("DROP TABLE decrypt")
    before.close()
    with Ledger.open_to_read(tmp_path, notes.append) as old:
        assert old.all_decrypts() == {}
    with Ledger.open(tmp_path, notes.append) as again:
        again.keep_decrypts("bucket", "p/", Decrypts(1, 2))
        assert again.decrypts("bucket", "p/") == Decrypts(1, 2)
        assert everything(again) == [record("a")]
    assert notes == []


@given(st.lists(st.binary(min_size=1, max_size=4).filter(lambda name: b"\0" not in name), unique=True, max_size=12))
def test_names_that_are_not_utf_8_are_found_and_none_is_left_out_of_the_pages(tmp_path_factory, names):
    rows = [record(os.fsdecode(name)) for name in names]
    with Ledger.open(tmp_path_factory.mktemp("ledger"), pytest.fail) as ledger:
        ledger.write(Changes(records=rows))

        assert ledger.look_up([row.path for row in rows]) == {row.path: row for row in rows}
        assert sorted(everything(ledger)) == sorted(rows)


@settings(max_examples=40)
@given(
    st.lists(st.text("a/\udcff0.", min_size=1, max_size=5), unique=True, max_size=20),
    st.text("a/\udcff0", max_size=3),
    st.integers(1, 4),
)
def test_what_is_below_a_directory_is_found_in_pages_and_nothing_else(tmp_path_factory, names, directory, most):
    directory = directory.strip("/")
    with Ledger.open(tmp_path_factory.mktemp("ledger"), pytest.fail) as opened:
        opened.write(Changes(records=[record(name, local_size=len(name)) for name in names]))
        expected = [each for each in everything(opened) if not directory or each.path.startswith(f"{directory}/")]
        found, after = [], ""
        while page := opened.records_below(directory, after, most):
            assert len(page) <= most
            found += page
            after = page[-1].path
        assert found == expected
        assert opened.totals(directory) == (len(found), sum(each.local_size for each in found))
        assert opened.recorded([*names, "none"]) == {name: f"prefix/{name}" for name in names}
        assert opened.buckets() == ({"bucket"} if names else set())


def test_more_records_than_one_statement_takes_are_written_at_once(ledger):
    rows = [record(f"{number:04d}", seal=Seal(f"bucket-{number % 3}")) for number in range(1234)]
    ledger.write(Changes(records=rows))
    ledger.write(Changes(records=[row._replace(etag='"f"') for row in rows]))

    assert everything(ledger) == [row._replace(etag='"f"') for row in rows]


def test_a_file_that_moved_takes_its_record_along_and_replaces_what_was_said_of_its_new_place(ledger):
    ledger.write(Changes(records=[record("a%file", etag='"old"'), record("b")]))
    ledger.write(Changes(records=[record("a")], moves=[("a", "a%file")]))

    assert everything(ledger) == [record("a%file", key="prefix/a"), record("b")]


def test_directories_of_sealifts_own_making_are_told_from_others(ledger):
    ledger.write(Changes(directories=["a", "a/b", "a"]))
    assert ledger.made(["a", "a/b", "c"]) == {"a", "a/b"}

    ledger.write(Changes(gone=["a"], removed=["a/b"]))
    assert ledger.made(["a", "a/b"]) == {"a"}


def test_a_query_of_a_persons_own_sees_all_of_it_by_name(tmp_path, ledger):
    ledger.write(Changes(records=[record("a")]))

    with sqlite3.connect(tmp_path / LEDGER) as own:
        row = own.execute("SELECT path, bucket, key, sse, kms_key_id FROM files").fetchone()
    own.close()
    assert row == ("a", "bucket", "prefix/a", "aws:kms", BUCKET.kms_key_id)


def test_a_transaction_that_fails_leaves_nothing_behind(ledger):
    with pytest.raises(LocalStorageError):
        ledger.write(Changes(records=[record("a"), record("b", size=None)]))

    assert everything(ledger) == []
    ledger.write(Changes(records=[record("b")]))
    assert everything(ledger) == [record("b")]


def test_it_is_read_while_it_is_written(ledger):
    stop, seen, failures = threading.Event(), set(), []

    def read():
        try:
            while not stop.is_set():
                seen.update(ledger.look_up([f"{number}" for number in range(20)]))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        ledger.write(Changes(records=[record(f"{number}")]))
    while len(seen) < 20 and reader.is_alive():
        pass
    stop.set()
    reader.join()
    assert failures == []
    assert len(seen) == 20


# ── What befalls it ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one" * 100, b"x" * 200])
def test_what_is_no_ledger_is_set_aside_and_kept(tmp_path, notes, content):
    (tmp_path / LEDGER).write_bytes(content)

    with Ledger.open(tmp_path, notes.append) as ledger:
        assert ledger.empty
        ledger.write(Changes(records=[record("a")]))
        assert everything(ledger) == [record("a")]
    assert (tmp_path / "ledger.db.damaged-1").read_bytes() == content
    assert len(notes) == 1
    assert "damaged-1" in notes[0]


def test_neither_is_anybody_elses_database(tmp_path, notes):
    other = sqlite3.connect(tmp_path / LEDGER)
    other.executescript("CREATE TABLE mine (a); PRAGMA user_version = 1;")
    other.close()

    with Ledger.open(tmp_path, notes.append) as ledger:
        assert ledger.empty
    kept = sqlite3.connect(tmp_path / "ledger.db.damaged-1")
    assert kept.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    kept.close()


def test_an_empty_file_becomes_a_ledger(tmp_path, notes):
    (tmp_path / LEDGER).touch()

    with Ledger.open(tmp_path, notes.append) as ledger:
        ledger.write(Changes(records=[record("a")]))
        assert everything(ledger) == [record("a")]
    assert notes == []


def damaged_inside(directory):
    """A ledger whose damage does not show when it is opened."""
    with Ledger.open(directory, pytest.fail) as ledger:
        numbers = [f"{number:06d}" for number in range(3000)]
        ledger.write(Changes(records=list(map(record, numbers)), directories=numbers))
    whole = bytearray((directory / LEDGER).read_bytes())
    half = len(whole) // 2
    whole[half:] = b"\xff" * len(whole[half:])  # what is looked at on opening is spared
    (directory / LEDGER).write_bytes(whole)
    return bytes(whole)


@pytest.mark.parametrize("act", ["read", "made", "write"])
def test_damage_that_shows_later_on_costs_what_was_recorded_and_no_more(tmp_path, notes, act):
    damaged_inside(tmp_path)

    with Ledger.open(tmp_path, notes.append) as ledger:
        assert notes == []
        if act == "read":
            assert ledger.look_up(["002999"]) == {}
        if act == "made":
            assert ledger.made(["002999"]) == set()
        ledger.write(Changes(records=[record("a")]))
        assert everything(ledger) == [record("a")]
    assert len(notes) == 1
    assert (tmp_path / "ledger.db.damaged-1").exists()


@lru_cache
def left_behind():
    """The files of a run that was killed: a ledger and its log, which has not gone into it."""
    with TemporaryDirectory() as name, Ledger.open(directory := Path(name), pytest.fail) as ledger:
        ledger.write(Changes(records=list(map(record, NAMES[:200])), directories=["0", "1"]))
        ledger._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ledger.write(Changes(records=list(map(record, NAMES[200:]))))
        ledger.keep_landmarks("bucket", "prefix/", NAMES[:9])
        ledger.keep_decrypts("bucket", "prefix/", Decrypts(7, 8))
        return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".db-shm"}


NAMES = [f"{number % 7}/{number:05d}" for number in range(300)]
LOOKS = {
    "look up": lambda ledger: ledger.look_up(NAMES),
    "in a row": lambda ledger: ledger.entries(sorted(NAMES)),
    "page by page": everything,
    "directories": lambda ledger: ledger.made(["0", "2"]),
    "landmarks": lambda ledger: ledger.landmarks("bucket", "prefix/"),
    "decrypts": lambda ledger: ledger.decrypts("bucket", "prefix/"),
    "decrypts anew": lambda ledger: ledger.keep_decrypts("bucket", "prefix/", Decrypts(1, 1)),
    "write": lambda ledger: ledger.write(Changes(records=[record("more")], moves=[(NAMES[3], "x")], gone=NAMES[4:9])),
    "landmarks anew": lambda ledger: ledger.keep_landmarks("bucket", "prefix/", NAMES[:5]),
}
DAMAGE = st.tuples(
    st.sampled_from([LEDGER, f"{LEDGER}-wal"]),
    st.floats(0, 1, exclude_max=True),
    st.one_of(st.none(), st.binary(min_size=1, max_size=9), st.integers(1, 5000).map(bytes)),
)


def test_a_log_that_was_left_behind_is_read(tmp_path):
    for name, content in left_behind().items():
        (tmp_path / name).write_bytes(content)

    with Ledger.open(tmp_path, pytest.fail) as ledger:
        assert [row.path for row in everything(ledger)] == sorted(NAMES)
        assert len(ledger.landmarks("bucket", "prefix/")) == 9


@given(st.lists(DAMAGE, max_size=3), st.permutations(sorted(LOOKS)))
def test_whatever_befalls_it_a_run_goes_on_with_what_is_left_or_with_a_new_one(tmp_path_factory, damage, looks):
    directory = tmp_path_factory.mktemp("d")
    notes: list[str] = []
    files = dict(left_behind())
    for name, where, written in damage:
        start = int(where * len(files[name]))
        stop = len(files[name]) if written is None else start + len(written)
        files[name] = (files[name][:start] + (written or b"") + files[name][stop:]) or b"x"
    for name, content in files.items():
        (directory / name).write_bytes(content)

    with Ledger.open(directory, notes.append) as ledger:
        for look in looks:
            LOOKS[look](ledger)
        ledger.write(Changes(records=[record("last")]))
        found = ledger.look_up(["last"])
        assert found == {"last": record("last")} or notes
    assert len(list(directory.glob("ledger.db.damaged-?"))) == len(notes)
    assert damage or not notes


def test_each_damaged_one_is_kept_under_a_name_of_its_own(tmp_path, notes):
    for _ in range(2):
        (tmp_path / LEDGER).write_bytes(b"x" * 5000)
        Ledger.open(tmp_path, notes.append).close()

    assert {path.name for path in tmp_path.iterdir()} == {LEDGER, "ledger.db.damaged-1", "ledger.db.damaged-2"}


def test_what_is_left_of_one_that_was_set_aside_is_kept_as_well(tmp_path, notes):
    """A run was killed between two renames, and somebody reads, for whom SQLite leaves the log where it is."""
    (tmp_path / "ledger.db.damaged-1-wal").write_bytes(b"evidence")
    damaged_inside(tmp_path)
    with Ledger.open(tmp_path, notes.append) as ledger:
        ledger.keep_landmarks("bucket", "p/", ["p/a"])
        reading = sqlite3.connect(tmp_path / LEDGER)
        reading.execute("SELECT name FROM sqlite_master").fetchall()
        assert ledger.look_up(["002999"]) == {}
        reading.close()

    assert (tmp_path / "ledger.db.damaged-1-wal").read_bytes() == b"evidence"
    assert {path.name for path in tmp_path.glob("*.damaged-2*")} >= {
        f"ledger.db.damaged-2{end}" for end in ("", "-wal")
    }
    assert len(notes) == 1


class Together:
    """A lock that nobody gets before so many have come for it."""

    def __init__(self, lock, parties):
        self._lock = lock
        self._barrier = threading.Barrier(parties, timeout=60)

    def __enter__(self):
        self._barrier.wait()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_damage_that_two_threads_find_at_once_is_set_aside_once(tmp_path, notes, monkeypatch):
    before = damaged_inside(tmp_path)
    with Ledger.open(tmp_path, notes.append) as ledger:
        threads = [threading.Thread(target=ledger.look_up, args=(["002999"],)) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(ledger, "_writing", Together(ledger._writing, 2))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        ledger.write(Changes(records=[record("a")]))

    assert len(notes) == 1
    assert [path.name for path in tmp_path.glob("*.damaged-?")] == ["ledger.db.damaged-1"]
    assert (tmp_path / "ledger.db.damaged-1").read_bytes() == before
    with Ledger.open_to_read(tmp_path, pytest.fail) as ledger:
        assert everything(ledger) == [record("a")]


@pytest.mark.parametrize("read_only", [False, True])
def test_one_of_a_newer_version_is_refused_and_not_touched(tmp_path, notes, read_only):
    Ledger.open(tmp_path, notes.append).close()
    newer = sqlite3.connect(tmp_path / LEDGER)
    newer.executescript("PRAGMA user_version = 2; DROP VIEW files; ALTER TABLE file ADD COLUMN more")
    newer.close()
    before = (tmp_path / LEDGER).read_bytes()

    with pytest.raises(LocalStorageError, match="newer Sealift") as raised:
        (Ledger.open_to_read if read_only else Ledger.open)(tmp_path, notes.append)

    assert raised.value.code == "LedgerTooNew"
    assert (tmp_path / LEDGER).read_bytes() == before


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path, notes):
    (tmp_path / "elsewhere").touch()
    (tmp_path / LEDGER).symlink_to("elsewhere")

    for open_it in (Ledger.open, Ledger.open_to_read):
        with pytest.raises(LocalStorageError, match="not a regular file"):
            open_it(tmp_path, notes.append)
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_disk_that_is_full_is_named(tmp_path, notes):
    with small_tmpfs(tmp_path / "small", options="size=256k") as disk:
        with Ledger.open(disk, notes.append) as ledger:
            with pytest.raises(LocalStorageError) as raised:
                ledger.write(Changes(records=[record(f"{number:09d}") for number in range(5000)]))
    assert raised.value.code == "DiskFull"


def test_somebody_who_keeps_it_locked_is_not_waited_for_for_ever(tmp_path, notes, monkeypatch):
    monkeypatch.setattr("sealift.ledger._PATIENCE", 0.01)
    with Ledger.open(tmp_path, notes.append) as ledger:
        other = sqlite3.connect(tmp_path / LEDGER, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LocalStorageError) as raised:
            ledger.write(Changes(records=[record("a")]))
        other.close()
    assert raised.value.code == "LedgerBusy"


def test_a_process_that_is_killed_leaves_whole_batches(tmp_path, notes):
    script = (
        "import os, sys; from pathlib import Path; from sealift.ledger import *\n"
        "ledger = Ledger.open(Path(sys.argv[1]), print)\n"
        "row = lambda n: Record(f'{n:05d}', Seal('b'), 'k', 1, 'e', None, None, 1, 1)\n"
        "for start in range(0, 3000, 1000):\n"
        "    ledger.write(Changes(records=[row(start + n) for n in range(1000)]))\n"
        "ledger._writer.execute('BEGIN IMMEDIATE'); ledger._insert(ledger._writer, [row(9999)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == -9

    with Ledger.open(tmp_path, notes.append) as ledger:
        assert [row.path for row in ledger.records(most=10_000)] == [f"{number:05d}" for number in range(3000)]
    assert notes == []


# ── Only looking ────────────────────────────────────────────────────────────────────────────────────


def test_whoever_only_looks_changes_nothing(tmp_path, notes):
    assert Ledger.open_to_read(tmp_path, notes.append) is None
    assert list(tmp_path.iterdir()) == []
    with Ledger.open(tmp_path, notes.append) as ledger:
        ledger.write(Changes(records=[record("a")]))
        with Ledger.open_to_read(tmp_path, notes.append) as looking:  # beside the run that writes
            assert everything(looking) == [record("a")]
            with pytest.raises(ValueError, match="open to be read only"):
                looking.write(Changes(records=[record("b")]))
    before = (tmp_path / LEDGER).read_bytes()
    with Ledger.open_to_read(tmp_path, notes.append) as looking:
        assert not looking.empty
        assert everything(looking) == [record("a")]
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]
    assert (tmp_path / LEDGER).read_bytes() == before


def test_a_read_only_file_system_is_no_reason_not_to_look(tmp_path, notes):
    with small_tmpfs(tmp_path / "small", options="size=4m") as disk:
        with Ledger.open(disk, notes.append) as ledger:
            ledger.write(Changes(records=[record("a")]))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        with Ledger.open_to_read(disk, notes.append) as looking:
            assert everything(looking) == [record("a")]


def test_whoever_only_looks_at_a_damaged_one_says_so_and_leaves_it(tmp_path, notes):
    (tmp_path / LEDGER).write_bytes(b"x" * 5000)

    assert Ledger.open_to_read(tmp_path, notes.append) is None
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]
    assert len(notes) == 1
