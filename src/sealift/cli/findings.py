"""What `sealift doctor` says, for a person and for a script. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from sealift.cli.forecast import kms_remark
from sealift.cli.policies import statements
from sealift.cli.quantities import count
from sealift.diagnosis.findings import Cure, Diagnosis, Remedy

_STATES = {"ok": "ok", "refused": "REFUSED", "unseen": "not seen", "warning": "warning"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def as_json(diagnosis: Diagnosis) -> str:
    """Return one line of ASCII."""
    return json.dumps(
        {
            "source": diagnosis.source,
            "exit_status": diagnosis.exit_status,
            "caller": diagnosis.caller,
            "caller_account": diagnosis.caller_account,
            "bucket_account": diagnosis.bucket_account,
            "bucket_same_account": diagnosis.bucket_same_account,
            "links": [dataclasses.asdict(link) for link in diagnosis.links],
            "cures": [
                {
                    "link": cure.link,
                    "subject": cure.subject,
                    "why": cure.why,
                    "certain": cure.certain,
                    "remedies": [
                        {
                            "act": remedy.act,
                            "policy": remedy.where,
                            "account": remedy.account,
                            "resource": remedy.resource,
                            "action": remedy.action,
                            "text": remedy.text,
                            "statements": list(remedy.statements),
                            "denies": list(remedy.denies),
                        }
                        for remedy in cure.remedies
                    ],
                }
                for cure in diagnosis.cures
            ],
            "keys": [dataclasses.asdict(key) for key in diagnosis.keys],
            "kms": None if diagnosis.kms is None else dataclasses.asdict(diagnosis.kms),
            "kms_whole": diagnosis.kms_whole,
            "notes": list(diagnosis.notes),
        },
        ensure_ascii=True,
    )


def written(diagnosis: Diagnosis) -> list[str]:
    """Return the lines for a person: the links, then what mends what is refused, each with what to paste."""
    lines = []
    names = max((len(link.name) for link in diagnosis.links), default=0)
    states = max(len(state) for state in _STATES.values())
    for link in diagnosis.links:
        lines.append(f"{_STATES[link.state]:<{states}}  {link.name:<{names}}  {link.found}")
        lines += [f"{'':<{states}}  {'':<{names}}  -> {link.todo}"] if link.todo else []
    lines += _about_kms(diagnosis)
    for number, cure in enumerate(diagnosis.cures, 1):
        lines += ["", *_cure(number, cure)]
    return lines


def verdict(diagnosis: Diagnosis) -> str:
    """Say what to do now."""
    if diagnosis.cures:
        return "once that is changed, run it again: what AWS checks next may be refused as well"
    if diagnosis.exit_status:
        return "see what is REFUSED above"
    unsure = any(link.name in ("listing", "object") and link.state == "warning" for link in diagnosis.links)
    return "nothing is refused, but see the warnings" if unsure else "nothing stands in the way of a download"


def _cure(number: int, cure: Cure) -> list[str]:
    lines = [f"{number}. {cure.subject}", f"   {cure.why}."]
    shown = [remedy for remedy in cure.remedies if remedy.act != "check"]
    guards = [remedy for remedy in cure.remedies if remedy.act == "check"]
    for letter, remedy in zip(_LETTERS, shown, strict=False):
        mark = f"   {letter}) " if not cure.certain else "   -> "
        lines += _remedy(mark, remedy)
    if guards:
        what = ", ".join(_GUARDS[remedy.where] for remedy in guards)
        lines.append(
            f"   {_LETTERS[len(shown)]}) see that none of these, where there is one, denies {guards[0].action} or "
            f"leaves it out: {what}"
        )
    return lines


_GUARDS = {
    "boundary": "the caller's permissions boundary",
    "session": "its session policy",
    "service-control": "a service control policy (SCP)",
    "resource-control": "a resource control policy (RCP)",
    "vpc-endpoint": "the VPC endpoint's policy",
}


def _remedy(mark: str, remedy: Remedy) -> list[str]:
    whose = f" (account {remedy.account})" if remedy.account else ""
    if remedy.denies:
        return [f"{mark}{remedy.text}{whose}; it says:", *statements(remedy.denies)]
    if not remedy.statements:
        return [f"{mark}{remedy.text}{whose}"]
    if remedy.where == "iam":
        policy = {"Version": "2012-10-17", "Statement": list(remedy.statements)}
        return [f"{mark}{remedy.text}{whose}; as a policy of its own:", *json.dumps(policy, indent=2).split("\n")]
    return [f"{mark}{remedy.text}{whose}; add to its statements:", *statements(remedy.statements)]


def _about_kms(diagnosis: Diagnosis) -> Sequence[str]:
    kms = diagnosis.kms
    if kms is None:
        return []
    what = "a mirror of it" if diagnosis.kms_whole else "a million GETs"
    return ["", f"KMS requests for {what}: {count(kms.requests)}; {kms_remark(kms)}"]
