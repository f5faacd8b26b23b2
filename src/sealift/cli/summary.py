"""What a run has done, for a person and for a script. Pure."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence

from sealift.cli.quantities import count, duration, objects, per_second, rate, size
from sealift.cli.status import FAILED, INTERRUPTED
from sealift.errors import AccessError
from sealift.model import Failure, Forecast, RefusedObjects, Summary, Verification

EXPLAINED = "what has to be granted, and in which policy, is what this says: {command}"
CUT_SHORT = "and more: the listing did not reach its end"


def as_json(result: Summary | Forecast | Verification) -> str:
    """Return one line of ASCII: a key's bytes that are not UTF-8 come as escaped surrogates (PEP 383)."""
    return json.dumps(dataclasses.asdict(result), ensure_ascii=True)


def table(summary: Summary, *, of_one: bool = False) -> list[str]:
    """Return the lines of the summary; `of_one` object, there is no listing, and no failures to group.

    Why the only one failed was told when it did.
    """
    received = f"{size(summary.bytes)} in {duration(summary.seconds)}"
    if summary.bytes and summary.seconds > 0:
        received += f", {rate(summary.bytes / summary.seconds)}"
    rows = [
        ("listed", count(summary.listed), "" if summary.complete or of_one else CUT_SHORT),
        ("downloaded", count(summary.downloaded), _verified(summary)),
        ("up to date", count(summary.up_to_date), ""),
        *_unless_zero("skipped", summary.skipped),
        ("failed", count(summary.failed), ""),
        *_unless_zero("not reached", summary.pending),
        *_unless_zero("deleted", summary.deleted),
        *_unless_zero("escaped keys", summary.escaped),
        ("GET requests", count(summary.get_requests), received),
        *_unless_zero("KMS requests", summary.kms.requests, _kms(summary)),
        *_unless_zero("S3 refusals", summary.s3_throttled, "S3 asked for fewer requests"),
        *_unless_zero("retries", summary.retries),
    ]
    if of_one:
        return aligned(rows)
    why = summary.failed > 1
    return [*aligned(rows), *failures_by_error(summary.failures, summary.failed, summary.refusals, why=why)]


def aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return a line a row: a name, a number, a remark."""
    names = max(len(name) for name, _, _ in rows)
    numbers = max(len(number) for _, number, _ in rows)
    return [f"{name:<{names}}  {number:>{numbers}}  {remark}".rstrip() for name, number, remark in rows]


def failures_by_error(
    failures: Sequence[Failure], failed: int, refusals: Sequence[RefusedObjects] = (), *, why: bool = True
) -> list[str]:
    """Return what was refused, by reason, then what else failed, by error, the most frequent first, with examples.

    `why` says whether these come with their messages.
    """
    groups: dict[str, list[Failure]] = {}
    messages = {(failure.bucket, failure.key): failure.message for failure in failures} if why else {}
    told = {refused.error for refused in refusals}
    for failure in failures:
        if failure.error not in told:
            groups.setdefault(failure.error, []).append(failure)
    if not groups and not refusals:
        return []
    lines = []
    if refusals:
        lines += ["", "refused:"]
    for refused in refusals:
        under = f" under key {refused.resource}" if refused.resource.startswith("arn:") else f" of {refused.resource}"
        where = under if refused.resource else ""
        what = f"{refused.action} refused ({refused.reason})" if refused.action else f"refused ({refused.reason})"
        lines.append(
            f"  {refused.error}: {objects(refused.objects)}{where}: {what}, for example s3://{refused.bucket}/{refused.key}"
        )
        message = messages.get((refused.bucket, refused.key))
        lines += [f"    {message}"] if message else []
    if not groups:
        return lines
    lines += ["", "failed:" if len(failures) >= failed else f"failed, of the first {count(len(failures))}:"]
    for error, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        example = group[0]
        lines.append(f"  {error}: {objects(len(group))}, for example s3://{example.bucket}/{example.key}")
        lines += [f"    {example.message}"] if why else []
    return lines


def doctor_for(summary: Summary | Forecast, error: BaseException | None, source: str) -> str:
    """Return the command that explains a refusal, where there was one; `source` is what was asked for."""
    refusals = summary.refusals if isinstance(summary, Summary) else ()
    if refusals:
        source = f"s3://{refusals[0].bucket}/{refusals[0].key}"
    elif not isinstance(error, AccessError):
        return ""
    return f"sealift doctor {shlex.quote(source)}"


def advice(verb: str, status: int, summary: Summary | Forecast) -> str:
    """Say what to do after a run that ended with `status`, not 0."""
    kept = "what is complete is kept: " if verb == "mirror" else ""
    goal = "see the whole plan" if verb == "plan" else "continue"
    if status == INTERRUPTED:
        return f"interrupted; {kept}run the same command again to {goal}"
    if status != FAILED:
        return f"{kept}once that is mended, run the same command again to {goal}"
    if verb == "plan" and summary.failed:
        return f"{objects(summary.failed)} cannot be mirrored as things stand"
    if verb == "get":
        return "the object was not fetched: mend what is named above, then run the same command again"
    if verb == "plan" and summary.complete:
        return "a mirror would fetch what is named above, and delete nothing"
    missed = summary.failed + (summary.pending if isinstance(summary, Summary) else 0)
    if not missed and summary.complete:
        return "everything that is listed is in place"
    what = f"{objects(missed)} of {count(summary.listed)} not in place" if missed else "not everything was listed"
    return f"{what}; {kept}run the same command again to try the rest"


def _verified(summary: Summary) -> str:
    """Say how many of the objects downloaded were held against a checksum of S3's."""
    if not summary.downloaded:
        return ""
    if summary.verified >= summary.downloaded:
        return "all verified by S3's checksums"
    return f"{count(summary.verified)} verified by S3's checksums"


def _kms(summary: Summary) -> str:
    """Say what came of the requests to KMS."""
    said = []
    if summary.kms_throttled:
        said.append(f"{count(summary.kms_throttled)} refused")
    if summary.kms.wait_seconds >= 0.05:
        said.append(f"waited for {duration(summary.kms.wait_seconds)}")
    if summary.kms.quota is not None:
        said.append(f"KMS allows about {per_second(summary.kms.quota)}")
    return ", ".join(said)


def _unless_zero(name: str, number: int, remark: str = "") -> list[tuple[str, str, str]]:
    return [(name, count(number), remark)] if number else []
