"""Virtual environments for what is measured: all of one interpreter, which needs no pip of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from benchmarks.interpreter import Interpreter


def install(home: Path, interpreter: Interpreter, packages: Collection[str], *, again: bool = False) -> None:
    """Make an environment with packages, unless it is there, of this interpreter; `again`: install them in any case."""
    stamp, wanted = home / "made", f"{interpreter.path} {interpreter.version} {' '.join(packages)}\n"
    there = stamp.exists() and stamp.read_text() == wanted
    if not there:
        shutil.rmtree(home, ignore_errors=True)
        # Debian's has no ensurepip.
        subprocess.run([interpreter.path, "-m", "venv", "--without-pip", str(home)], check=True)
    if again or not there:
        _pip(home, "install", "--quiet", "--upgrade", *packages)
        stamp.write_text(wanted)


def version(home: Path, package: str) -> str:
    """Return which version of a package an environment has."""
    shown = _pip(home, "show", package)
    return next((line.partition(": ")[2] for line in shown.splitlines() if line.startswith("Version")), "?")


def _pip(home: Path, *arguments: str) -> str:
    """Run this interpreter's pip in an environment, and return what it prints."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(home / "bin/python")]
    return subprocess.run([*pip, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
