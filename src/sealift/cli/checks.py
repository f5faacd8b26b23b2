"""What a verification says: a line a file that is not right, as it is found, and the sum of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sealift.cli.console import Console, StandardOutputClosed
from sealift.cli.layers import Display
from sealift.cli.progress import Progress, Style
from sealift.cli.quantities import count, duration, files, rate, size
from sealift.cli.summary import aligned, failures_by_error
from sealift.errors import LocalStorageError
from sealift.model import Finding, Flaw, Verification
from sealift.tally import Onlooker


class Checks(Progress, Onlooker):
    """Counts, draws how far it is, and prints a line for each file that is not right; with `verbose`, unknown ones."""

    def __init__(
        self, console: Console, style: Style, stop: Callable[[], None], display: Display, *, lines: bool
    ) -> None:
        super().__init__(console, style, verbose=display.verbose, quiet=display.quiet)
        self.error: StandardOutputClosed | LocalStorageError | None = None
        """Why standard output could not be written any more. The verification was stopped then."""
        self.result = Verification()
        """What was found, when all was over."""
        self._stop = stop
        self._lines = lines

    def expected(self, files: int, size: int) -> None:
        """See `Onlooker.expected`."""
        self._listed += files
        self._to_fetch += files
        self._total += size

    def looked_at(self, files: int, size: int) -> None:
        """See `Onlooker.looked_at`."""
        self._ended += files
        self._fetched += files
        self._done += size

    def found(self, finding: Finding) -> None:
        """See `Onlooker.found`."""
        if self.error is None and self._lines and (finding.flaw is not Flaw.UNKNOWN or self._verbose):
            try:
                self._console.out_above(finding_line(finding))
            except (StandardOutputClosed, LocalStorageError) as error:
                self.error = error
                self._stop()

    def _of_all(self, number: int) -> str:
        return files(number)

    def verified(self, verification: Verification) -> None:
        """See `Onlooker.verified`."""
        self.result = verification


def finding_line(finding: Finding) -> str:
    """Return the line of a file that is not right."""
    what = f"{finding.flaw.value:<7}  {finding.path}"
    return what if finding.flaw is Flaw.UNKNOWN else f"{what}: {finding.message}"


def sums(result: Verification) -> list[str]:
    """Return the lines of the sum."""
    read = f"{size(result.bytes)} in {duration(result.seconds)}"
    if result.bytes and result.seconds > 0:
        read += f", {rate(result.bytes / result.seconds)}"
    rows = [
        ("files", count(result.files), read if result.complete else f"{read}; not all of them"),
        ("intact", count(result.intact), ""),
        ("missing", count(result.missing), ""),
        ("changed", count(result.changed), ""),
        ("damaged", count(result.damaged), ""),
        *([("unchecked", count(result.unchecked), "the ledger has no checksum of them")] if result.unchecked else []),
        *([("unknown", count(result.unknown), "the ledger knows nothing of them")] if result.unknown else []),
    ]
    mended = result.repair
    if mended is not None:
        rows.append(("repaired", count(mended.downloaded + mended.up_to_date), ""))
        rows += [("not repaired", count(left), "")] if (left := mended.failed + mended.pending) else []
        return [*aligned(rows), *failures_by_error(mended.failures, mended.failed)]
    return aligned(rows)


def outlook(result: Verification, *, interrupted: bool) -> str:
    """Say what to do after a verification that did not end well."""
    if interrupted:
        return "interrupted; run the same command again to look at everything"
    if result.repair is not None:
        return "not everything could be repaired: mend what is named above, then run the same command again"
    wrong: Sequence[str] = [
        f"{count(number)} {flaw}"
        for flaw, number in (("missing", result.missing), ("changed", result.changed), ("damaged", result.damaged))
        if number
    ]
    if not wrong:
        return "not everything was looked at: mend what is named above, then run the same command again"
    return f"{', '.join(wrong)}: run again with --repair to fetch them anew"
