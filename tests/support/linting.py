"""Parliament, which knows IAM's grammar, its actions, and which resources and conditions go with them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

with warnings.catch_warnings():  # it leaves files open, and imports pkg_resources
    warnings.simplefilter("ignore")
    import parliament  # type: ignore[import-untyped]  # it has no types

_POINT = re.compile(r'"arn:aws:s3:[a-z0-9-]+:[0-9]{12}:accesspoint/([a-z0-9-]+)(?:/object)?')


def complaints(policy: Mapping[str, Any], *, of_resource: bool = False) -> list[str]:
    """What is wrong with a policy, if anything; `of_resource`, with one in which * stands for what it belongs to."""
    # It does not know that access points stand for buckets (S3 User Guide, "Configuring IAM policies for using …").
    written = _POINT.sub(r'"arn:aws:s3:::\1', json.dumps(policy["Statement"]))
    analyzed = parliament.analyze_policy_string(json.dumps({**policy, "Statement": json.loads(written)}))
    expected = {"RESOURCE_STAR"} if of_resource else set()
    return [f"{finding.issue}: {finding.detail}" for finding in analyzed.findings if finding.issue not in expected]
