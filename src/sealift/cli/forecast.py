"""What a plan says: a line an object as it is found, and the sum of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from sealift.cli.console import Console, StandardOutputClosed
from sealift.cli.quantities import about, count, dollars, gets, objects, rounded, size
from sealift.cli.summary import CUT_SHORT, aligned, failures_by_error
from sealift.errors import LocalStorageError
from sealift.kmscost import predict, requests_for
from sealift.model import Ending, Forecast, KmsForecast, Outcome, RemoteObject, Summary
from sealift.tally import Unobserved, forecast


class Foreseen(Unobserved):
    """Hears what would be fetched, prints it where wanted, and keeps the sum for a plan that ends early."""

    def __init__(self, console: Console, stop: Callable[[], None], *, lines: bool) -> None:
        self.error: StandardOutputClosed | LocalStorageError | None = None
        """Why standard output could not be written any more. The plan was stopped then."""
        self._console = console
        self._stop = stop
        self._lines = lines
        self._objects = self._bytes = self._gets = self._requests = 0

    def planned(self, remote: RemoteObject, path: str, size: int, gets: int) -> None:
        """See `Observer.planned`."""
        self._objects += 1
        self._bytes += size
        self._gets += gets
        self._requests += requests_for(remote, size, gets)
        if self._lines:
            self._print(fetch_line(remote, path, size, gets))

    def ended(self, outcome: Outcome) -> None:
        """See `Observer.ended`."""
        if self._lines and outcome.ending is Ending.FAILED:
            self._print(f"fail   s3://{outcome.bucket}/{outcome.key}: {outcome.message}")
        elif self._lines and outcome.ending is Ending.DELETED:
            self._print(f"delete {outcome.path} (there is no s3://{outcome.bucket}/{outcome.key} any more)")

    def in_place(self, objects: int, outcomes: Callable[[], Iterator[Outcome]]) -> None:
        """See `Observer.in_place`."""

    def so_far(self, summary: Summary) -> Forecast:
        """Return the forecast as far as it got before the plan ended early."""
        # A plan that says in the end that too much would be deleted is whole all the same.
        complete = summary.complete and summary.pending == self._objects
        return forecast(
            replace(summary, complete=complete),
            objects=self._objects,
            size=self._bytes,
            gets=self._gets,
            escaped=summary.escaped,
            kms=predict(self._requests, (), whole=False),
        )

    def _print(self, line: str) -> None:
        if self.error is None:
            try:
                self._console.out(line)
            except (StandardOutputClosed, LocalStorageError) as error:
                self.error = error
                self._stop()


def fetch_line(remote: RemoteObject, path: str, missing: int, requests: int) -> str:
    """Return the line of an object of which `missing` bytes would be fetched."""
    return f"fetch  {size(missing):>10}  {gets(requests):>9}  s3://{remote.bucket}/{remote.key} -> {path}"


def totals(plan: Forecast) -> list[str]:
    """Return the lines of the sum."""
    rows = [
        ("listed", count(plan.listed), "" if plan.complete else CUT_SHORT),
        ("to fetch", count(plan.to_download), f"{size(plan.bytes)} in {gets(plan.get_requests)}"),
        ("up to date", count(plan.up_to_date), ""),
        *([("skipped", count(plan.skipped), "")] if plan.skipped else []),
        ("cannot be mirrored", count(plan.failed), ""),
        *([("to delete", count(plan.to_delete), "")] if plan.to_delete else []),
        *([("escaped keys", count(plan.escaped), "")] if plan.escaped else []),
        *([("KMS requests", count(plan.kms.requests), kms_remark(plan.kms))] if plan.get_requests else []),
    ]
    return [*aligned(rows), *failures_by_error(plan.failures, plan.failed)]


_BASES: dict[str, str] = {
    "objects": "",
    "sample": "; an estimate, from {sampled}",
    "earlier_runs": "; an estimate, from earlier runs",
    "upper_bound": "; at the most: how the objects are encrypted could not be looked up",
}
_RATES: dict[str, str] = {
    "region": "the Region's default quota",
    "account": "the account's quota",
    "cap": "the cap",
}


def kms_remark(kms: KmsForecast) -> str:
    """Return how long KMS takes for them, what they cost, what Bucket Keys would save, and how sure that is."""
    sure = _BASES[kms.basis].format(sampled=objects(kms.sampled))
    if kms.basis == "earlier_runs" and kms.sampled:
        sure += f" and {objects(kms.sampled)}"
    if not kms.requests:
        return f"no object is encrypted with SSE-KMS without a Bucket Key{sure}"
    return (
        f"≈ {about(kms.seconds)} at {kms.rate:,.10g}/s ({_RATES[kms.rate_source]}), ≈ {dollars(kms.usd)}; "
        f"with Bucket Keys ≈ {count(rounded(kms.requests_with_bucket_keys))}{sure}"
    )
