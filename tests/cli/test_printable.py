from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from sealift.cli.printable import printable

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))
UNSAFE = st.sampled_from("\x00\x07\n\r\x1b\x7f\x9b\u2028\u202a\u202e\u2066\u2069\ud800\udcff")


@given(st.lists(ANY_TEXT | UNSAFE).map("".join))
def test_nothing_printable_commands_a_terminal_or_fails_to_encode(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert not any(
        unicodedata.bidirectional(char) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        for char in shown
    )


@given(ANY_TEXT)
def test_making_printable_twice_changes_nothing_more(text: str) -> None:
    assert printable(printable(text)) == printable(text)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
@example("naïve 漢字 🚀 a+b%20'\"\\")
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_escaped_can_be_read() -> None:
    assert printable("a\x1b[31m\n\u202e\udcff") == r"a\x1b[31m\x0a\u202e\udcff"
