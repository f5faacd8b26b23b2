"""Which Python measured programs run with: one that was built with profile-guided optimization, as most users' were.

One that was not takes a sixth more CPU for the same run (20,000 x 16 KiB: 4.9 to 5.7 s where Debian's takes 4.5 to
4.7), and nothing of that falls on peers that are no Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

OLDEST = (3, 11)
"""That Sealift runs with: pyproject.toml's requires-python."""

NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")

LOOK = """
import json, os, platform, sys, sysconfig, venv
names = "CONFIG_ARGS", "PY_CORE_CFLAGS", "PY_CFLAGS_NODIST"
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": platform.python_version(),
    "variables": {name: sysconfig.get_config_var(name) or "" for name in names},
    "schemes": sysconfig.get_scheme_names(),
}))
"""
"""What a Python is asked about itself; one in a virtual environment tells of the one that it was made with."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that makes virtual environments."""

    path: str
    version: str
    optimized: bool

    def __str__(self) -> str:
        return f"Python {self.version} ({'optimized build' if self.optimized else 'not an optimized build'})"

    @property
    def suits(self) -> bool:
        """Whether it is optimized, and Sealift runs with it."""
        return self.optimized and tuple(map(int, self.version.split(".")[:2])) >= OLDEST


def is_optimized(variables: Mapping[str, str], schemes: Collection[str]) -> bool:
    """Tell by its sysconfig whether a Python was built with a profile.

    Debian's and Ubuntu's are, on all usual processors, and do not tell: their sysconfig is of another build, that of
    the shared library, which their executable does not use. They are known by a scheme that nobody else has.
    """
    asked = variables.get("CONFIG_ARGS", "").replace("'", " ").split()
    flags = f"{variables.get('PY_CORE_CFLAGS', '')} {variables.get('PY_CFLAGS_NODIST', '')}".split()
    return (
        any(each in {"--enable-optimizations", "--enable-optimizations=yes"} for each in asked)
        or any(each.startswith(("-fprofile-use", "-fprofile-instr-use")) for each in flags)
        or "deb_system" in schemes
    )


def look(program: str) -> Interpreter | None:
    """Ask a Python about itself. None where it does not answer: a shim of a version that is off, one without venv."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        told = json.loads(subprocess.run([program, "-c", LOOK], env=env, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return Interpreter(told["path"], told["version"], is_optimized(told["variables"], told["schemes"]))


def programs(path: str) -> Iterator[str]:
    """Yield the Pythons of a PATH, and of the system."""
    for name in NAMES:
        for directory in dict.fromkeys([*path.split(os.pathsep), "/usr/bin"]):
            if program := shutil.which(name, path=directory):
                yield program


def chosen(running: Interpreter, others: Iterable[Interpreter | None]) -> Interpreter:
    """Return the running one if it suits, else the first of the others that does, else the running one after all."""
    if running.suits:
        return running
    return next((each for each in others if each and each.suits), running)


@cache
def own() -> Interpreter:
    """Return the one that this is."""
    found = look(sys.executable)
    if found is None:
        raise RuntimeError(f"{sys.executable} has no venv")
    return found


@cache
def interpreter() -> Interpreter:
    """Return the one for everything that is measured, and say which it is."""
    found = chosen(own(), map(look, programs(os.environ["PATH"])))
    but = "" if found.optimized else ": there is none on PATH that is, so what is Python takes a sixth more CPU"
    sys.stdout.write(f"{found.path}: {found}{but}\n")
    sys.stdout.flush()
    return found


def named(interpreters: Iterable[str]) -> str:
    """Return the sentence that says what runs were measured with; "" where none tells, as older results do not."""
    names = list(dict.fromkeys(interpreters))
    had = " and ".join(each or "one that is not noted" for each in names)
    return f"Sealift and the peers in Python had {had}." if any(names) else ""
