from __future__ import annotations

import pytest

from sealift.secrecy import described, redacted


def test_secrets_are_left_out() -> None:
    url = "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2Fx&X-Amz-Signature=0123abcd&x=1"
    assert redacted(url) == "https://b.s3.amazonaws.com/k?X-Amz-Credential=[secret]&X-Amz-Signature=[secret]&x=1"
    header = "{'Authorization': 'AWS4-HMAC-SHA256 Credential=AKIAX/2025/s3, SignedHeaders=host, Signature=abc123'}"
    assert "AKIAX" not in redacted(header)
    assert "abc123" not in redacted(header)
    assert redacted("an ordinary message about a signature") == "an ordinary message about a signature"


def test_those_of_the_environment_are_left_out_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "")
    assert redacted("a hunter2 b") == "a [secret] b"
    assert described(KeyError("hunter2")) == "KeyError: '[secret]'"
