"""A mirrored file is read back, whatever the disk does."""

import os

import pytest

from sealift.errors import Integrity
from sealift.reading import Reading


def opened(path):
    return Reading(os.open(path, os.O_RDONLY), "d/name")


def test_a_buffer_is_filled_as_far_as_there_are_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    os.utime(tmp_path / "f", ns=(5, 7))
    buffer = bytearray(4)
    with opened(tmp_path / "f") as reading:
        assert reading.read_into(3, memoryview(buffer)) == 4
        assert bytes(buffer) == b"3456"
        assert reading.read_into(8, memoryview(buffer)) == 2
        assert reading.read_into(10, memoryview(buffer)) == 0
        assert reading.facts() == (10, 7)


def test_what_the_disk_cannot_read_is_not_the_runs_end():
    with opened("/proc/self/mem") as reading, pytest.raises(Integrity, match="d/name cannot be read"):
        reading.read_into(0, memoryview(bytearray(1)))
