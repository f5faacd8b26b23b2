"""The command line: argv, environment and TOML become settings, events become lines, results an exit status.

The only room that prints. Nothing heavy is imported before a verb runs, so that `--help` is quick.
"""

from __future__ import annotations

from sealift.cli.entry import main

__all__ = ["main"]
