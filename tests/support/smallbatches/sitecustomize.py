"""What an interpreter runs before anything else, where this directory is on its path."""

from __future__ import annotations

from tests.support.smallbatches import set_sizes

set_sizes()
