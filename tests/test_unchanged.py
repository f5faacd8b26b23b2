"""What is said of many objects at once is what looking at each of them says; where it is plain, it is said."""

import os
import shutil
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.destination import Destination, File
from sealift.ledger import Changes, Ledger, Record, Seal
from sealift.localpath import all_ordinary, local_path
from sealift.model import ARCHIVED, RemoteObject
from sealift.standing import Standing, Trust, standing
from sealift.unchanged import Unchanged
from tests.support.keys import remote

KEYS = st.text(st.sampled_from("ab%é/.\udcff\U0001f600"), min_size=1, max_size=5)
SECOND = 10**9


def record_of(listed: RemoteObject, **more) -> Record:
    path = local_path(listed.key, listed.size).text
    whole = Record(
        path, Seal("bucket"), listed.key, 4, listed.etag, None, None, 4, listed.last_modified_ns, adopted=False
    )
    return whole._replace(**more)


WRONG_RECORDS = [
    {"etag": '"other"'},
    {"size": 3},
    {"key": "other"},
    {"seal": Seal("copy")},
    {"local_size": 3},
    {"mtime_ns": 7 * SECOND},
]
OTHERS = [{"etag": '"other"'}, {"size": 5}, {"version_id": "v2"}, {"storage_class": min(ARCHIVED)}]


@dataclass
class Case:
    """An object, what the ledger says of it, and what was done to its file."""

    listed: RemoteObject
    record: Record | None
    touch: str


@st.composite
def cases(draw) -> Case:
    plain = remote(draw(KEYS))
    wrong = draw(st.sampled_from([{}] * 6 + WRONG_RECORDS))
    listed = plain._replace(**draw(st.sampled_from([{}] * 6 + OTHERS)))
    record = draw(st.sampled_from([record_of(plain, **wrong)] * 3 + [None]))
    return Case(
        listed, record, draw(st.sampled_from(["nothing"] * 4 + ["gone", "longer", "later", "link", "directory"]))
    )


def put(path, case: Case) -> bool:
    """Make the file of an object as it is in this case; whether something of another one is in the way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if case.touch == "directory":
            path.mkdir()
        elif case.touch == "link":
            path.symlink_to(os.devnull)
        elif case.touch != "gone":
            path.write_bytes(b"longer" if case.touch == "longer" else b"body")
            os.utime(path, ns=(0, case.listed.last_modified_ns + SECOND * (case.touch == "later")))
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return False
    return True


@given(st.lists(cases(), max_size=12, unique_by=lambda case: case.listed.key), st.booleans(), st.data())
def test_nothing_is_called_unchanged_that_is_not_and_all_that_plainly_is(tmp_path_factory, found, ascending, data):
    directory = tmp_path_factory.mktemp("d")
    found = [case for case in found if put(directory / local_path(case.listed.key, 4).text, case)]
    found.sort(key=lambda case: case.listed.key)
    if not ascending:
        found = data.draw(st.permutations(found))
    stale = [record_of(remote(f"{case.listed.key}gone{n}")) for case in found for n in range(3)]
    with Ledger.open(directory, pytest.fail) as ledger, Destination.open(directory, create=False) as destination:
        ledger.write(Changes(records=[*stale, *(case.record for case in found if case.record is not None)]))
        remotes = [case.listed for case in found]
        said = Unchanged(destination, ledger).among(remotes, [listed.key for listed in remotes])

        for case, unchanged in zip(found, said, strict=True):
            path = local_path(case.listed.key, case.listed.size)
            facts = destination.facts(path)
            readable = case.listed.storage_class == "STANDARD"
            in_place = (
                isinstance(facts, File)
                and case.record is not None
                and case.record.path == path.text
                and standing(facts, case.record, case.listed, Trust()) is Standing.IN_PLACE
                and (case.record.key, case.record.seal.bucket) == (case.listed.key, case.listed.bucket)
            )
            ordinary = all_ordinary([case.listed.key]) and "\udcff" not in case.listed.key
            if ordinary and readable and case.listed.version_id is None:
                assert unchanged == in_place
            else:
                assert not unchanged or (in_place and readable and path.text == case.listed.key)
    shutil.rmtree(directory)


def test_nothing_is_unchanged_where_there_is_no_destination_yet(tmp_path):
    with Ledger.open(tmp_path, pytest.fail) as ledger, Destination.open(tmp_path / "d", create=False) as destination:
        ledger.write(Changes(records=[record_of(remote("k"))]))
        assert Unchanged(destination, ledger).among([remote("k")], ["k"]) == [False]
        assert Unchanged(destination, ledger).among([], []) == []
