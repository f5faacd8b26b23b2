"""Policies as Terraform has them: `aws_iam_policy_document` data sources, and the caller's own attached. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sealift.policy.documents import Document
from sealift.policy.principal import Principal
from sealift.policy.statements import Statement

_OTHERS = {"key": "key", "bucket": "bucket", "access-point": "access point"}
_ATTACHMENTS = {"role": "aws_iam_role_policy", "user": "aws_iam_user_policy", "account": "aws_iam_policy"}


def terraform(documents: Sequence[Document], principal: Principal) -> list[str]:
    """Return the lines of a Terraform file.

    The policy of a key or a bucket is one document, which a resource would replace as a whole: so those are data only.
    """
    lines: list[str] = []
    for number, document in enumerate(documents):
        name = f"sealift_{document.kind.replace('-', '_')}{f'_{number}' if number else ''}"
        lines += [
            *([""] if lines else []),
            f"# Account {document.account}, {', '.join(document.resources)}: {document.why}.",
            *_to_be_added(document, name),
            f'data "aws_iam_policy_document" "{name}" {{',
            *_blocks(_statement(statement) for statement in document.statements),
            "}",
            *([] if document.kind in _OTHERS else _attached(name, principal)),
        ]
    return lines


def _to_be_added(document: Document, name: str) -> list[str]:
    if document.kind not in _OTHERS:
        return []
    return [
        f"# To be added to the {_OTHERS[document.kind]}'s own policy, among its source_policy_documents:",
        f"# data.aws_iam_policy_document.{name}.json",
    ]


def _attached(name: str, principal: Principal) -> list[str]:
    document = f"data.aws_iam_policy_document.{name}.json"
    if principal.permission_set:
        return [
            "",
            f"# IAM Identity Center makes this role: let {document} be the inline_policy",
            f"# of the permission set {principal.permission_set} (aws_ssoadmin_permission_set_inline_policy).",
        ]
    to = [] if principal.kind == "account" else [f"  {principal.kind}   = {_text(principal.name)}"]
    return [
        "",
        f'resource "{_ATTACHMENTS[principal.kind]}" "sealift" {{',
        '  name   = "sealift"',
        *to,
        f"  policy = {document}",
        "}",
    ]


def _statement(statement: Statement) -> list[str]:
    fields: Mapping[str, Any] = statement
    principals = fields.get("Principal", {}).items()
    conditions = fields.get("Condition", {}).items()
    return [
        "  statement {",
        f"    sid       = {_text(fields['Sid'])}",
        f"    effect    = {_text(fields['Effect'])}",
        f"    actions   = {_list(fields['Action'])}",
        f"    resources = {_list(fields['Resource'])}",
        *(
            line
            for kind, identifiers in principals
            for line in _block("principals", {"type": _text(kind), "identifiers": _list(identifiers)})
        ),
        *(
            line
            for test, tests in conditions
            for variable, values in tests.items()
            for line in _block("condition", {"test": _text(test), "variable": _text(variable), "values": _list(values)})
        ),
        "  }",
    ]


def _block(name: str, fields: Mapping[str, str]) -> list[str]:
    width = max(len(field) for field in fields)
    return ["", f"    {name} {{", *(f"      {field:<{width}} = {value}" for field, value in fields.items()), "    }"]


def _blocks(blocks: Iterable[list[str]]) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        lines += [*([""] if lines else []), *block]
    return lines


def _list(values: str | Sequence[str]) -> str:
    return f"[{', '.join(_text(value) for value in ([values] if isinstance(values, str) else values))}]"


def _text(text: str) -> str:
    """Return a string of HCL's. The data source writes IAM's `${…}` as `&{…}`, as the other is Terraform's own."""
    return json.dumps(text.replace("${", "&{").replace("%{", "%%{"), ensure_ascii=False)
