"""What may be shown: text without a terminal's control characters. Pure."""

from __future__ import annotations

import re

# C0, DEL and C1 command a terminal; U+2028 and U+2029 break lines; the bidi embeddings, overrides and isolates
# (Unicode UAX #9) make text read as what it is not; surrogates cannot be encoded at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return `text` with everything escaped that could command a terminal, break a line or pretend to be other text."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
