"""`python -m sealift` is `sealift`."""

from __future__ import annotations

import sys

from sealift.cli import main

if __name__ == "__main__":
    sys.exit(main())
