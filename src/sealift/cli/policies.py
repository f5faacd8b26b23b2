"""Policies on paper: for people who paste them, for scripts, for Terraform. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from sealift.granting import Granted
from sealift.policy.documents import Document
from sealift.policy.statements import Statement
from sealift.policy.terraform import terraform

Format = Literal["text", "json", "terraform"]

_NAMES = {"iam": "IAM policy", "key": "key policy", "bucket": "bucket policy", "access-point": "access point policy"}


def written(granted: Granted, form: Format) -> list[str]:
    """Return the lines of the policies."""
    if form == "json":
        return [json.dumps(as_json(granted), ensure_ascii=True)]
    if form == "terraform":
        return terraform(granted.documents, granted.principal)
    lines: list[str] = []
    for document in granted.documents:
        lines += [*([""] if lines else []), *heading(document), *pasted(document)]
    return lines


def heading(document: Document) -> list[str]:
    """Return what stands above a document: whose policy it is for, and why."""
    where = [f"{_NAMES[document.kind]} of {resource}" for resource in document.resources]
    add = "" if document.kind == "iam" else "; add to its statements"
    return [f"# {line}" for line in (*where, f"in account {document.account}: {document.why}{add}")]


def pasted(document: Document) -> list[str]:
    """Return a whole IAM policy; of any other, which exists already, the statements that it lacks."""
    if document.kind == "iam":
        return json.dumps(document.policy, indent=2, ensure_ascii=False).split("\n")
    return statements(document.statements)


def statements(chosen: Sequence[Statement]) -> list[str]:
    """Return statements with a comma between them, as they stand in a policy's list."""
    return ",\n".join(json.dumps(statement, indent=2, ensure_ascii=False) for statement in chosen).split("\n")


def as_json(granted: Granted) -> dict[str, object]:
    """Return what `--format json` prints."""
    return {
        "principal": granted.principal.arn,
        "documents": [
            {
                "kind": document.kind,
                "account": document.account,
                "resources": list(document.resources),
                "required": document.required,
                "why": document.why,
                "policy": document.policy,
            }
            for document in granted.documents
        ],
        "notes": list(granted.notes),
    }
