"""`python -m sealift.crew` is a worker process: the descriptor of its end of the channel is its only argument."""

from __future__ import annotations

from sealift.crew.worker import main

if __name__ == "__main__":
    main()
