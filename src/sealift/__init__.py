"""Sealift lifts sealed objects in bulk: verified, resumable mirrors of SSE-KMS encrypted S3 prefixes."""

from __future__ import annotations

__version__ = "0.1.0"
