"""S3, seen from here: the only room that imports the SDK or speaks HTTP."""

from __future__ import annotations
