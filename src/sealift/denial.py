"""What AWS's own words say of a refusal: who may not do what, to what, and which kind of policy decided that. Pure.

The wordings are those of the IAM User Guide ("Troubleshoot access denied error messages") and of the S3 User Guide
("Troubleshoot access denied (403 Forbidden) errors"). Outside the bucket's organization S3 says only "Access Denied".
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

PolicyKind = Literal[
    "identity-based policy",
    "resource-based policy",
    "permissions boundary",
    "session policy",
    "service control policy",
    "resource control policy",
    "VPC endpoint policy",
]
KINDS: tuple[PolicyKind, ...] = get_args(PolicyKind)

_DENIAL = re.compile(
    r"User: (?P<principal>\S+) is not authorized to perform: (?P<action>\S+) "
    r"on (?:resource: (?P<resource>\S+)|the resource associated with this ciphertext)(?P<why>.*)",
    re.DOTALL,
)
_OLDER = re.compile(r"ciphertext refers to a (?:customer master|KMS) key that does not exist", re.IGNORECASE)
"""What KMS said across accounts before it named anybody, and says in places still: the same as `Denial.foreign`."""
_EXPLICIT = re.compile(r"with an explicit deny(?: in an? (?P<kind>[A-Za-z -]+?(?:policy|boundary)))?")
_IMPLICIT = re.compile(r"no (?P<kind>[A-Za-z -]+?(?:policy|policies|boundary|boundaries)) allows?")


class Denial(NamedTuple):
    """A refusal, as far as it was explained. A plain "Access Denied" leaves everything empty."""

    principal: str = ""
    """The ARN of the user or of the role's session."""
    action: str = ""
    resource: str = ""
    """Its ARN; nothing where AWS does not name it to this caller."""
    effect: Literal["", "explicit", "implicit"] = ""
    """A Deny, or that nothing allows it; empty where either may be."""
    kind: str = ""
    """The kind of policy, one of `KINDS` as a rule."""
    foreign: bool = False
    """AWS's answer across accounts: the resource's policy allows nothing or denies, or there is no such resource."""

    @property
    def plain(self) -> bool:
        """Whether it was not explained at all."""
        return not self.action


PLAIN = Denial()


def with_article(kind: str) -> str:
    """Return a kind of policy as a sentence goes on with it."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def read_denial(message: str) -> Denial:
    """Read the message of an AccessDenied."""
    match = _DENIAL.search(message)
    if match is None and _OLDER.search(message):
        return Denial(action="kms:Decrypt", kind="resource-based policy", foreign=True)
    if match is None:
        return PLAIN
    why = match["why"]
    said = Denial(match["principal"], match["action"], (match["resource"] or "").rstrip(".,;").strip("\"'"))
    if "does not exist in this Region" in why:
        return said._replace(kind="resource-based policy", foreign=True)
    if denied := _EXPLICIT.search(why):
        return said._replace(effect="explicit", kind=denied["kind"] or "")
    if allowed := _IMPLICIT.search(why):
        return said._replace(effect="implicit", kind=re.sub("ies$", "y", allowed["kind"]))
    return said
