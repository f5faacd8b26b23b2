"""A local S3 with real SSE-KMS, to play with, to show and to test against. Needs the extra `sealift[sandbox]`."""
