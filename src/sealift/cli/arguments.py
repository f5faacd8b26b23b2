"""From argv to a command: which verb, on what, with which options."""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from sealift.cli.options import FILTERS, OPTIONS, TRANSFERRING, Layer, Option
from sealift.errors import ConfigError
from sealift.selection import Filter


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its help, and how many words it takes."""

    usage: str
    summary: str
    description: str
    fewest: int = 0
    most: int | None = 0


VERBS = {
    "mirror": Verb(
        "SOURCE... DEST",
        "mirror what lies under SOURCEs into the directory DEST",
        """\
Mirrors what lies under each SOURCE into the directory DEST. What is in place already is not fetched again, and
what an earlier run left unfinished is continued: after an interruption, run the same command again.

SOURCE is s3://BUCKET, s3://BUCKET/PREFIX/ or an access point's ARN in place of the bucket. With one SOURCE a key
lands in DEST/KEY-BELOW-THE-PREFIX, with several in DEST/BUCKET/KEY.""",
        fewest=2,
        most=None,
    ),
    "get": Verb(
        "s3://BUCKET/KEY [PATH|-]",
        "fetch one object to a file or to standard output",
        """\
Fetches one object, in parts and in parallel, to the file PATH, into the directory PATH, or with - to standard
output. Without PATH the file is called like the last segment of the key.""",
        fewest=1,
        most=2,
    ),
    "plan": Verb(
        "SOURCE... DEST",
        "say what mirror would do",
        "Says what sealift mirror would fetch, in how many GETs, and what cannot be mirrored. Changes nothing.",
        fewest=2,
        most=None,
    ),
    "doctor": Verb(
        "SOURCE",
        "say why reading what lies under SOURCE is refused, and what has to be granted",
        """\
Walks from the credentials to the bytes of a sample of the objects, says of each link whether it holds, and prints what
has to be added to which policy in which account, or which Deny stands in the way. SOURCE is a prefix or an object.
Changes nothing. Works with whatever it may look at; what it may not look at is told, and no error.

Exit status: 0 nothing is refused; 3 something is; 5 there is no such bucket, or it cannot be reached.""",
        fewest=1,
        most=1,
    ),
    "verify": Verb(
        "DEST [PREFIX...]",
        "read the mirrored files again, and hold them against the ledger",
        """\
Reads the files below DEST again and holds them against what the ledger says of them: which are missing, changed,
damaged, or unknown to it. PREFIXes are files and directories below DEST; without any, all are meant. Asks S3 for
nothing and changes nothing, unless --repair fetches again what is not right.""",
        fewest=1,
        most=None,
    ),
    "policy": Verb(
        "SOURCE... --principal ARN",
        "print the policies that let somebody read what lies under SOURCEs",
        """\
Prints what has to stand in which policies so that a principal can read what lies under each SOURCE, and nothing else:
its IAM policy and, as the accounts require, the policies of keys, bucket and access point. Grants nothing itself.
Without --key, the keys are found out: a sample of the objects is looked at, by whoever runs this.

A SOURCE that ends with a slash is a prefix. One that does not may be a prefix or an object, and both are granted.""",
        fewest=1,
        most=None,
    ),
    "run": Verb(
        "CONFIG [JOB...]",
        "run the jobs of a TOML file: nightly pulls",
        """\
Runs the jobs of the TOML file CONFIG, or only those named: each a mirror, with its sources, its destination and every
option of sealift mirror. They run one after the other, or as many at once as the file says. One that fails does not
stop the others; the exit status is the greatest of theirs.""",
        fewest=1,
        most=None,
    ),
    "status": Verb(
        "DEST",
        "say how the last runs into DEST ended, and what is left to do",
        """\
Tells of the last runs into DEST, what is unfinished, and what the next run would do first. The exit status is that of
the last run that has ended.""",
        fewest=1,
        most=1,
    ),
    "report": Verb(
        "RUN|DEST",
        "draw a picture of a run: one HTML page",
        """\
Writes one self-contained HTML page on a run: what was pulled, what failed and why, what changed, and how fast it went,
second by second. RUN is a log in DEST/.sealift/runs; of a DEST it is the last run. Needs the extra:
pip install 'sealift[report]'.""",
        fewest=1,
        most=1,
    ),
    "sandbox": Verb(
        "",
        "run a local S3 with real SSE-KMS to play with",
        """\
Runs an S3 server that encrypts with a KMS on this machine, prints the environment to paste, and stays until
Ctrl-C. Needs the extra: pip install 'sealift[sandbox]'.""",
    ),
    "demo": Verb(
        "",
        "show all of it in one go, in a sandbox",
        "Starts a sandbox, fills it, mirrors it, checks every byte. Needs the extra: pip install 'sealift[sandbox]'.",
    ),
}

_EPILOG = """\
Settings come from the options, from SEALIFT_* variables, from the TOML file, in that order. A flag takes =false
to undo what a variable or the file sets. Credentials come from where the AWS tools find them.
SIZE is 8MiB, 64MB or a number of bytes."""

_TOP = """\
usage: sealift VERB [OPTION...] ...

Mirrors S3 prefixes whose objects are encrypted with SSE-KMS onto local disk: fast, verified and resumable.

{verbs}

  sealift VERB --help   what the verb takes
  sealift --version     which version this is

Exit status: 0 everything is in place; 1 some objects failed or were not reached; 2 usage or configuration;
3 credentials or access; 4 local storage; 5 source; 130 interrupted (a rerun continues); 141 output closed.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked for."""

    verb: str
    """Empty where there is none."""
    words: tuple[str, ...]
    layer: Layer
    asks: Literal["", "help", "version"] = ""
    """A question instead of a job."""


def parse(argv: Sequence[str]) -> Command:
    """Read the command line. Raises ConfigError."""
    before, after = _at_double_dash(argv)
    namespace, rest = _parser().parse_known_args(_spelled_out(before))
    given = vars(namespace)
    layer = Layer({name: value for name, value in given.items() if name != "filters"}, tuple(given.get("filters", ())))
    unknown = [word for word in rest if word.startswith("-") and word != "-"]
    words = [word for word in rest if word not in unknown] + after
    verb = words[0] if words else ""
    if "help" in given:
        return Command(verb if verb in VERBS else "", (), Layer(), "help")
    if "version" in given:
        return Command("", (), Layer(), "version")
    if unknown:
        raise ConfigError(_no_such_option(unknown[0]))
    if verb and verb not in VERBS:
        raise ConfigError(
            f"there is no verb {verb!r}{did_you_mean(verb, VERBS)}; there are {', '.join(VERBS)} (sealift --help)"
        )
    if verb:
        _check(verb, words[1:], layer)
    return Command(verb, tuple(words[1:]), layer)


def help_text(verb: str) -> str:
    """Return the help on `verb`, or on all of it."""
    width = max(20, shutil.get_terminal_size().columns - 2)
    if not verb:
        verbs = "\n".join(
            textwrap.fill(shape.summary, width, initial_indent=f"  {name:<9} ", subsequent_indent=" " * 12)
            for name, shape in VERBS.items()
        )
        return _wrapped(_TOP, width).format(verbs=verbs)
    shape = VERBS[verb]
    parser = argparse.ArgumentParser(
        prog=f"sealift {verb}",
        usage=" ".join(f"sealift {verb} [OPTION...] {shape.usage}".split()),
        description=_wrapped(shape.description, width),
        epilog=_wrapped(_EPILOG, width) if "config" in {option.name for option in _of(verb)} else None,
        formatter_class=_layout,
        add_help=False,
    )
    groups: dict[str, Callable[..., object]] = {}
    for option in _of(verb):
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group).add_argument
        # metavar keeps argparse from inventing one, and % is its own formatting character.
        arguments = {"action": "store_true"} if not option.kind.metavar else {"metavar": option.kind.metavar}
        groups[option.group](*_spellings(option), dest=option.name, help=_explained(option), **arguments)
    parser.add_argument_group("Help").add_argument("-h", "--help", action="store_true", help="show this text")
    return parser.format_help()


def _wrapped(text: str, width: int) -> str:
    """Return `text` with paragraphs of that `width`, or of what can be read; one that is indented stays as it is."""
    width = min(width, 118)
    return "\n\n".join(
        each if each.startswith(" ") else textwrap.fill(each, width, break_long_words=False, break_on_hyphens=False)
        for each in text.split("\n\n")
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean …?` where one of the `known` names is like `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


class _Parser(argparse.ArgumentParser):
    """Options only. What is wrong becomes one line instead of a usage text."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def _parser() -> _Parser:
    parser = _Parser(prog="sealift", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    for option in OPTIONS:
        read = _reader(option)
        if option.name in FILTERS:
            parser.add_argument(f"--{option.name}", dest="filters", action="append", type=read)
            continue
        action = "append" if option.kind.several else "store"
        short = [f"-{option.short}"] if option.short and not option.kind.flag else []
        parser.add_argument(f"--{option.name}", *short, dest=option.name, type=read, action=action)
        if option.short and option.kind.flag:
            parser.add_argument(f"-{option.short}", dest=option.name, action="store_const", const=True)
        if option.negative:
            parser.add_argument(f"--{option.negative}", dest=option.name, action="store_const", const=False)
    return parser


def _reader(option: Option) -> Callable[[str], object]:
    def read(text: str) -> object:
        value = option.read(text, f"--{option.name}")
        return as_filter(option, value) if option.name in FILTERS else value

    return read


def as_filter(option: Option, glob: object) -> Filter:
    """Return what a value of --include or --exclude stands for."""
    return Filter("include" if option.name == "include" else "exclude", str(glob))


def _at_double_dash(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before `--`, where there are options, and what stands after it."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _spelled_out(argv: Sequence[str]) -> list[str]:
    """Give each flag its value: `--json` becomes `--json=true`.

    As in the AWS CLI, `--request-payer` may be followed by the word `requester`, and by that word only.
    """
    flags = {f"--{option.name}" for option in OPTIONS if option.kind.flag}
    result: list[str] = []
    for word in argv:
        if word == "requester" and result and result[-1] == "--request-payer=true":
            continue
        result.append(f"{word}=true" if word in flags else word)
    return result


def _check(verb: str, words: Sequence[str], given: Layer) -> None:
    shape = VERBS[verb]
    taken = {option.name for option in _of(verb)}
    for name in [*given.values, *(item.kind for item in given.filters)]:
        if name not in taken:
            raise ConfigError(f"sealift {verb} takes no --{name}")
    if len(words) < shape.fewest or (shape.most is not None and len(words) > shape.most):
        raise ConfigError(f"write {' '.join(f'sealift {verb} {shape.usage}'.split())} (sealift {verb} --help)")
    if verb in TRANSFERRING and len(words) > (verb != "verify") and words[-1].startswith("s3://"):
        raise ConfigError(f"{words[-1]!r} is not a local path: Sealift only downloads")


def _no_such_option(word: str) -> str:
    name = word.split("=", 1)[0]
    spellings = [spelling for option in OPTIONS for spelling in _spellings(option)]
    return f"there is no option {name}{did_you_mean(name, spellings)}"


def _of(verb: str) -> list[Option]:
    return [option for option in OPTIONS if verb in option.verbs]


def _spellings(option: Option) -> list[str]:
    return [
        *([f"-{option.short}"] if option.short else []),
        f"--{option.name}",
        *([f"--{option.negative}"] if option.negative else []),
    ]


def _explained(option: Option) -> str:
    facts = [fact for fact in (option.variable, option.default and f"default: {option.default}") if fact]
    return f"{option.help} [{'; '.join(facts)}]".replace("%", "%%") if facts else option.help


def _layout(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28)
