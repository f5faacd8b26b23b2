"""Whether files are objects, as their bytes tell, whatever else happens to them."""

import os
import random

import pytest

from sealift import Adopt, StorageSettings
from sealift.admission import Admission
from sealift.checking import Checker
from sealift.config import KmsSettings
from sealift.destination import Destination
from sealift.localpath import local_path
from sealift.proving import AT_ONCE, Prover, Question
from sealift.s3 import connected
from sealift.s3.store import PageRequest
from sealift.tally import Tally
from tests.support.running import QUICK, Watcher, settings_for

pytestmark = pytest.mark.anyio

BODY = random.Random(8).randbytes(200_000)
PARTS = (120_000, 80_000)


class Touched(Destination):
    """Somebody touches each file while it is read."""

    def read(self, path):
        reading = super().read(path)
        os.utime(self.path / path.text)
        return reading


async def proven(server, dest, keys, *, kind=Destination, recorded=None):
    """The answers for files of these keys."""
    settings = settings_for(server, storage=StorageSettings(adopt=Adopt.VERIFY))
    tally = Tally(Watcher(), 0.0)
    async with connected(settings, tally) as store:
        with kind.open(dest, create=True) as destination:
            remotes = {remote.key: remote for remote in (await store.list_page(PageRequest("bucket", ""))).objects}
            questions = [
                Question(remotes[key], local_path(key, 1), destination.facts(local_path(key, 1)), recorded)
                for key in keys
            ]
            checker = Checker(store, Admission(KmsSettings(), store.region, {}).pace_for, tally, QUICK)
            return await Prover(destination, checker).prove(questions)


@pytest.fixture
def anyio_backend():
    """One loop is enough: what is tried here is what comes of reading, and not how that waits."""
    return ("asyncio", {"use_uvloop": True})


def put(server, dest, key, body, **more):
    server.put("bucket", key, body, checksum="CRC32", **more)
    (dest / key).write_bytes(body)


async def test_of_many_files_each_has_its_own_answer(server, tmp_path):
    keys = [f"{number:03d}" for number in range(3 * AT_ONCE + 1)]
    for key in keys:
        put(server, tmp_path, key, key.encode())
    put(server, tmp_path, "parts", BODY, parts=PARTS, composite=True)
    for key in keys[::3]:
        (tmp_path / key).write_bytes(b"???")

    answers = await proven(server, tmp_path, [*keys, "parts"])

    assert [answer is None for answer in answers] == [number % 3 == 0 for number in range(len(keys))] + [False]
    assert len(set(answers) - {None}) == len(answers) - len(keys[::3])


@pytest.mark.parametrize("how", [{}, {"parts": PARTS, "composite": True}], ids=["whole", "by parts"])
async def test_nothing_is_proven_of_a_file_that_is_changed_while_it_is_read(server, tmp_path, how):
    put(server, tmp_path, "k", BODY, **how)
    assert await proven(server, tmp_path, ["k"]) != [None]
    assert await proven(server, tmp_path, ["k"], kind=Touched) == [None]


async def test_what_the_ledger_says_is_believed_where_it_makes_sense(server, tmp_path):
    put(server, tmp_path, "k", b"body")
    right = await proven(server, tmp_path, ["k"])

    assert await proven(server, tmp_path, ["k"], recorded=right[0]) == right
    assert await proven(server, tmp_path, ["k"], recorded="CRC32:AAAAAA==") == [None]
    assert server.heads == 1
    assert await proven(server, tmp_path, ["k"], recorded="nonsense") == right


async def test_no_questions_have_no_answers(server, tmp_path):
    assert await proven(server, tmp_path, []) == []
