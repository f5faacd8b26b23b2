"""Amazon resource names: who and what is meant, and whose it is. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Arn(NamedTuple):
    """`arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; Region and account may be empty, as for a bucket."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Arn | None:
        """Read an ARN; None where it is none."""
        parts = text.split(":", 5)
        if len(parts) < 6 or parts[0] != "arn" or not (parts[1] and parts[2] and parts[5]):
            return None
        return cls(*parts[1:])

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def account_of(text: str) -> str:
    """Return the account that an ARN names; nothing where it names none, or is no ARN."""
    arn = Arn.parse(text)
    return arn.account if arn is not None else ""


def region_of(text: str) -> str:
    """Return the Region that an ARN names; nothing where it names none, or is no ARN."""
    arn = Arn.parse(text)
    return arn.region if arn is not None else ""
