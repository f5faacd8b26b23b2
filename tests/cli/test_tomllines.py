from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.cli.tomllines import line_of, lines_of

TEXT = '''\
# jobs
parallel = 2

[defaults]
"quoted key" = 1
include = [
    "*.csv",  # not = 3
    "*.txt",
]

# the first one
[jobs.a]
text = """
dest = "not this"
"""
dest = "/a"
on.off = true
[jobs."b c"]
slots = [{from = "08:00"}, {from = "09:00"}]
[[jobs.a.kms]]
from = "08:00"
[[jobs.a.kms]]
[jobs.a.kms.rate]
n = "\u2028"
z = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["parallel"], 2),
        (["defaults"], 4),
        (["defaults", "quoted key"], 5),
        (["defaults", "include"], 6),
        (["defaults", "include", 1], 6),
        (["jobs"], 12),
        (["jobs", "a"], 12),
        (["jobs", "a", "text"], 13),
        (["jobs", "a", "dest"], 16),
        (["jobs", "a", "on", "off"], 17),
        (["jobs", "b c", "slots", 1, "from"], 19),
        (["jobs", "a", "kms"], 20),
        (["jobs", "a", "kms", 0, "from"], 21),
        (["jobs", "a", "kms", 1], 22),
        (["jobs", "a", "kms", 1, "rate", "n"], 24),
        (["jobs", "a", "kms", 1, "rate", "z"], 25),
    ],
)
def test_the_line_is_where_the_value_begins(path: list[str | int], line: int) -> None:
    assert line_of(lines_of(TEXT), path) == line


def test_of_what_is_missing_it_is_the_line_of_what_it_is_missing_in() -> None:
    assert line_of(lines_of(TEXT), ["jobs", "a", "sources"]) == 12
    assert line_of(lines_of(TEXT), ["nothing", "at", "all"]) == 1
    assert line_of(lines_of(""), ["jobs"]) == 1


@given(
    st.lists(st.sampled_from(['k{} = "v"', "k{} = 1 # x", 'k{} = """\na\n"""', "k{} = [\n1,\n]", "[t{}]"]), max_size=8)
)
def test_every_key_is_found_on_a_line_that_names_it(statements: list[str]) -> None:
    text = "\n# between\n\n".join(line.format(number) for number, line in enumerate(statements)) + "\n"
    lines = lines_of(text)
    for path in _paths(tomllib.loads(text)):
        assert path[-1] in text.splitlines()[line_of(lines, path) - 1]


def _paths(document: dict[str, object]) -> list[list[str]]:
    found = []
    for key, value in document.items():
        found.append([key])
        if isinstance(value, dict):
            found += [[key, *rest] for rest in _paths(value)]
    return found
