"""The account model on loopback: STS, S3 and KMS at one address, in AWS's protocols and with AWS's bodies.

    python -m tests.support.accountserver CASE DIRECTORY

serves one of the cases of docs/permissions.md. Its policies lie in DIRECTORY, where they may be edited: they are read
anew for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.support.accounts import BUCKET, CASES, REGION, Accounts, Refused, granted
from tests.support.faultserver import FaultServer
from tests.support.faultserver.content import InMemory
from tests.support.faultserver.wire import Request, Response, error_response, xml_response

_OF_BUCKET = {
    "encryption": "s3:GetEncryptionConfiguration",
    "requestPayment": "s3:GetBucketRequestPayment",
    "policy": "s3:GetBucketPolicy",
}


class AccountServer(FaultServer):
    """`async with AccountServer(granted(key=TWO)) as server`; set AWS_ENDPOINT_URL to its `url`."""

    def __init__(self, accounts: Accounts, policies: Path | None = None) -> None:
        """Serve; with `policies`, a directory, its files are the policies from now on."""
        super().__init__(region=REGION)
        self.accounts = accounts
        self.policies = policies
        self.asked: list[str] = []
        """Every action that was asked for, by its name in policies."""
        for key, body in accounts.objects.items():
            self.put(BUCKET, key, body, kms_key=accounts.key_arn, bucket_key=accounts.bucket_key)
        if policies is not None:
            for name, statements in self._files().items():
                policy = {"Version": "2012-10-17", "Statement": statements}
                (policies / name).write_text(json.dumps(policy, indent=2) + "\n", encoding="utf-8")

    def _files(self) -> dict[str, list[dict[str, Any]]]:
        accounts = self.accounts
        return {"iam.json": accounts.identity, "key.json": accounts.key_policy, "bucket.json": accounts.bucket_policy}

    def _read(self, policies: Path) -> None:
        for name, statements in self._files().items():
            statements[:] = json.loads((policies / name).read_text(encoding="utf-8"))["Statement"]

    def answer(self, request: Request) -> Response:
        """What AWS answers."""
        if self.policies is not None:
            self._read(self.policies)
        if not request.bucket:
            return self._of_other_services(request)
        for name, action in _OF_BUCKET.items():
            if name in request.query and not request.key:
                self.asked.append(action)
                return self._setting(request, name, action)
        refused = self._refused(request)
        return super().answer(request) if refused is None else _refusal(request, refused)

    def _refused(self, request: Request) -> Refused | None:
        accounts, owner = self.accounts, request.headers.get("x-amz-expected-bucket-owner")
        if request.bucket != BUCKET:
            return None
        if owner is not None and (refused := accounts.owned_by(owner)) is not None:
            return refused
        if request.op in ("list", "bucket"):
            self.asked.append("s3:ListBucket")
            return accounts.listing(request.query.get("prefix", ""))
        self.asked.append("s3:GetObject")
        if request.op == "head":
            return accounts.head(request.key)
        return accounts.get(request.key)

    def _setting(self, request: Request, name: str, action: str) -> Response:
        accounts = self.accounts
        if (refused := accounts.of_bucket(action)) is not None:
            return _refusal(request, refused)
        if name == "policy":
            if not accounts.bucket_policy:
                return error_response(request, 404, "NoSuchBucketPolicy", "The bucket policy does not exist")
            return _json({"Version": "2012-10-17", "Statement": accounts.bucket_policy})
        if name == "requestPayment":
            payer = "<Payer>BucketOwner</Payer>"
            return xml_response(f"<RequestPaymentConfiguration>{payer}</RequestPaymentConfiguration>")
        rule = (
            f"<ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{accounts.key_arn}"
            "</KMSMasterKeyID></ApplyServerSideEncryptionByDefault>"
            f"<BucketKeyEnabled>{str(accounts.bucket_key).lower()}</BucketKeyEnabled>"
        )
        return xml_response(
            f"<ServerSideEncryptionConfiguration><Rule>{rule}</Rule></ServerSideEncryptionConfiguration>"
        )

    def _of_other_services(self, request: Request) -> Response:
        service, _, operation = request.headers.get("x-amz-target", "").partition(".")
        if service == "TrentService":
            return self._of_kms(operation)
        if service.startswith("ServiceQuotas"):
            self.asked.append(f"servicequotas:{operation}")
            return _json_refusal("AccessDeniedException", f"User is not authorized to perform: {operation}")
        self.asked.append("sts:GetCallerIdentity")
        accounts = self.accounts
        return xml_response(
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            f"<Arn>{escape(accounts.session)}</Arn><UserId>AROAEXAMPLE:i-0123456789abcdef0</UserId>"
            f"<Account>{accounts.caller}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        )

    def _of_kms(self, operation: str) -> Response:
        accounts = self.accounts
        self.asked.append(f"kms:{operation}")
        if (refused := accounts.of_key(f"kms:{operation}")) is not None:
            return _json_refusal(refused.code, refused.message)
        if operation == "ListGrants":
            return _json({"Grants": [], "Truncated": False})
        if operation == "GetKeyPolicy":
            policy = {"Version": "2012-10-17", "Statement": accounts.key_policy}
            return _json({"Policy": json.dumps(policy), "PolicyName": "default"})
        return _json(
            {
                "KeyMetadata": {
                    "AWSAccountId": accounts.key,
                    "Arn": accounts.key_arn,
                    "KeyId": accounts.key_arn.rpartition("/")[2],
                    "KeyState": accounts.key_state,
                    "KeyManager": "CUSTOMER",
                    "MultiRegion": False,
                }
            }
        )


def _refusal(request: Request, refused: Refused) -> Response:
    return error_response(request, refused.status, refused.code, refused.message)


def _json(answer: Mapping[str, Any], status: int = 200) -> Response:
    return Response(status, {"Content-Type": "application/x-amz-json-1.1"}, InMemory(json.dumps(answer).encode()))


def _json_refusal(code: str, message: str) -> Response:
    return _json({"__type": code, "message": message}, 400)


async def _serve(case: str, policies: Path) -> None:
    policies.mkdir(parents=True, exist_ok=True)
    async with AccountServer(granted(**CASES[case]), policies) as server:
        sys.stdout.write(
            f"export AWS_ENDPOINT_URL={server.url} AWS_REGION={REGION}\n"
            "export AWS_ACCESS_KEY_ID=example AWS_SECRET_ACCESS_KEY=example\n"
        )
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Print what to export, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.accountserver")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("directory", type=Path)
    asked = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(asked.case, asked.directory))


if __name__ == "__main__":
    main()
