"""That the demo's comparison sees what is wrong, and that the demo ends well."""

import hashlib
from pathlib import Path

import pytest

from sealift.planning import MIB
from sealift.sandbox.demo import clean_environment, compare, demo, own_command
from sealift.sandbox.filling import Tree, Uploaded, demo_objects
from tests.support.loops import ONE_LOOP
from tests.support.sandbox import require_sandbox

OBJECTS = {"a": b"the file a", "a/b": b"below a", "deep/er/c": b"c", "marker/": b"", "empty": b""}


@pytest.fixture
def objects():
    return {key: Uploaded(key, len(body), hashlib.sha256(body).hexdigest(), None) for key, body in OBJECTS.items()}


@pytest.fixture
def copy(tmp_path):
    for path in ("a/b", "deep/er/c", "empty"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(OBJECTS[path])
    (tmp_path / "elsewhere").write_bytes(OBJECTS["a"])
    (tmp_path / "marker").mkdir()
    (tmp_path / ".sealift" / "partial").mkdir(parents=True)
    return tmp_path


def test_a_faithful_copy_has_nothing_to_complain_of(copy, objects):
    found = compare(copy, objects)
    assert (found.identical, found.elsewhere, found.complaints) == (4, {"a": "elsewhere"}, [])


def change_a_byte(copy):
    (copy / "deep/er/c").write_bytes(b"C")


def lose_a_file(copy):
    (copy / "empty").unlink()


def lose_a_directory(copy):
    (copy / "marker").rmdir()


def lose_the_displaced_one(copy):
    (copy / "elsewhere").unlink()


def add_a_file(copy):
    (copy / "a" / "extra").touch()


def add_a_directory(copy):
    (copy / "extra").mkdir()


def put_a_link_in_place(copy):
    (copy / "deep/er/c").rename(copy / ".sealift" / "c")
    (copy / "deep/er/c").symlink_to("../../.sealift/c")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (change_a_byte, "'deep/er/c' has other bytes than were uploaded"),
        (lose_a_file, "'empty' is missing"),
        (lose_a_directory, "there is no directory for the marker 'marker/'"),
        (lose_the_displaced_one, "'a' is nowhere"),
        (add_a_file, "'a/extra' is no object's"),
        (add_a_directory, "the directory 'extra' is no object's"),
        (put_a_link_in_place, "'deep/er/c' has other bytes than were uploaded"),
    ],
)
def test_whatever_is_wrong_is_said(copy, objects, spoil, complaint):
    spoil(copy)
    assert compare(copy, objects).complaints == [complaint]


def test_the_mirror_of_the_demo_hears_nothing_of_the_callers_aws():
    dirty = {"AWS_PROFILE": "x", "SEALIFT_PART_SIZE": "5M", "https_proxy": "x", "PATH": "/bin"}
    clean = clean_environment(dirty)
    assert clean["PATH"] == "/bin"
    assert not {"AWS_PROFILE", "SEALIFT_PART_SIZE", "https_proxy"} & set(clean)


def test_the_commands_to_go_on_with_are_this_very_sealift(tmp_path, monkeypatch):
    bin_directory = tmp_path / "venv" / "bin"
    bin_directory.mkdir(parents=True)
    monkeypatch.setattr("sys.executable", str(bin_directory / "python"))
    assert own_command("").endswith("/venv/bin/python -m sealift")
    (bin_directory / "sealift").touch(mode=0o755)
    assert own_command("/bin") == str(bin_directory / "sealift")
    assert own_command(str(bin_directory)) == "sealift"
    monkeypatch.chdir(tmp_path)
    assert own_command("/bin") == "venv/bin/sealift"


@pytest.mark.sandbox
@pytest.mark.anyio
@ONE_LOOP  # that of the command
async def test_a_short_demo_ends_well(capfd):
    require_sandbox()
    said: list[str] = []
    assert await demo(announce=said.append, files=60, large=20 * MIB) == 0, "\n".join(said)
    text = "\n".join(said)
    assert "aws:kms, key sandbox-second" in text
    assert "are the objects' own bytes" in text
    others = len(list(demo_objects(Path(), Tree((), (), 0), "")))
    assert f"up to date    {60 + others}\n" in text
    capfd.readouterr()
