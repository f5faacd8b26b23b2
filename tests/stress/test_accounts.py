"""Every cell of the account model, with s3:ListBucket and s3:GetObject granted or not each by itself."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from tests.support.mending import ACCOUNTS, mend_every_cell

pytestmark = pytest.mark.stress


@pytest.mark.parametrize("explained", [True, False], ids=["explained", "plain"])
@pytest.mark.parametrize("bucket_key", [False, True], ids=["", "bucket key"])
@pytest.mark.parametrize(("bucket", "key"), ACCOUNTS)
def test_following_what_is_printed_makes_the_download_work(bucket, key, bucket_key, explained):
    cells = partial(mend_every_cell, bucket, key, bucket_key=bucket_key, explained=explained, gets_too=True)
    assert anyio.run(cells) == 324
