"""Where `sealift` begins and ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from sealift.cli.arguments import Command, help_text, parse
from sealift.cli.console import Console, StandardOutputClosed
from sealift.cli.layers import settings_file, settle
from sealift.cli.options import BY_NAME
from sealift.cli.status import FAILED, IN_PLACE, INTERRUPTED, PIPE_CLOSED, USAGE
from sealift.errors import SealiftError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own), and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _occupy_standard_descriptors()
    console = Console(sys.stdout, sys.stderr)
    try:
        status = _obey(parse(words), console)
        console.flush()
    except StandardOutputClosed:
        return PIPE_CLOSED
    except SealiftError as error:
        console.err(f"sealift: {error.message}", "error", error=error.code)
        return error.exit_status
    except KeyboardInterrupt:  # before there was anything to stop
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug still ends in a sentence and a status
        from sealift.cli.failure import say

        say(error, console, verbose="-v" in words or "--verbose" in words)
        return FAILED
    return status


def _occupy_standard_descriptors() -> None:
    """Open what a shell's `>&-` has closed: else a file of the run would get its number, and uvloop aborts on those."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _obey(command: Command, console: Console) -> int:
    if command.asks == "version":
        from sealift import __version__

        console.out(f"sealift {__version__}")
        return IN_PLACE
    if command.asks == "help" or not command.verb:
        write = console.out if command.asks else console.err
        for line in help_text(command.verb).splitlines():
            write(line)
        return IN_PLACE if command.asks else USAGE
    of_lines = BY_NAME["log-format"]  # if what is wrong with the others is to be told in JSON as well
    console.as_json = (command.layer.values.get(of_lines.name) or os.environ.get(of_lines.variable)) == "json"
    file = settings_file(command.layer, os.environ)  # once: it may be a pipe
    settings, display = settle(command.layer, os.environ, file=file)
    console.as_json = display.log_format == "json"
    from sealift.cli import verbs

    if command.verb in ("sandbox", "demo"):
        return verbs.serve(command, display, console)
    if command.verb == "run":
        from sealift.cli.jobs import run_file

        return run_file(command, file, display, console, os.environ)
    if command.verb == "status":
        from sealift.cli import reporting

        return reporting.status(command, settings, display, console)
    if command.verb == "report":
        from sealift.cli import reporting

        return reporting.report(command, settings, console)
    if command.verb == "doctor":
        return verbs.diagnose(command, settings, display, console)
    if command.verb == "verify":
        return verbs.verify(command, settings, display, console)
    if command.verb == "policy":
        return verbs.grant(command, settings, display, console)
    return verbs.run(command, settings, display, console)
