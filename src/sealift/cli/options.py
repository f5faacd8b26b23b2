"""Every option, once: its name, how it is read, where it goes, and what its help says.

The command line, the SEALIFT_* variables and the settings file are all read by this table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from sealift.config import (
    Adopt,
    Check,
    Durability,
    TransportChoice,
    one_of,
    or_auto,
    parse_count,
    parse_duration,
    parse_max_delete,
    parse_moment,
    parse_percent,
    parse_rate,
    parse_size,
)
from sealift.errors import ConfigError
from sealift.policy.documents import EXTRAS, checked_account, checked_key
from sealift.selection import Filter, parse_location
from sealift.sharding import Shard, parse_shard

MIRRORING = frozenset({"mirror", "plan"})
VERIFY = frozenset({"verify"})
TRANSFERRING = MIRRORING | {"get"} | VERIFY
POLICY = frozenset({"policy"})
DOCTOR = frozenset({"doctor"})
CONNECTING = TRANSFERRING | POLICY | DOCTOR
RUN = frozenset({"run"})
TELLING = frozenset({"status", "report"})
SHOWING = CONNECTING | RUN
EVERYWHERE = SHOWING | TELLING | {"sandbox", "demo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a value is written: as text, and in TOML."""

    metavar: str
    read: Callable[[str], object]
    """Reads the text of an option, a variable or a TOML string. Raises ConfigError."""
    toml: tuple[type, ...]
    """The TOML types that are taken; a list stands for a list of strings."""
    expects: str
    """What to write in TOML."""
    flag: bool = False
    """True on the command line when it stands there alone."""
    several: bool = False
    """May be given several times."""


def _text(text: str) -> str:
    if not text.strip():
        raise ConfigError("the value is empty")
    return text


def _path(text: str) -> Path:
    try:
        return Path(_text(text)).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{text!r}: whose home that is cannot be told: write the whole path") from error


def _file_or_dash(text: str) -> str:
    return text if text == "-" else str(_existing_file(text, devices=True))


def _manifest(text: str) -> str:
    if not parse_location(text).key:
        raise ConfigError(f"{text!r} names no manifest: write s3://BUCKET/PATH/manifest.json")
    return text


def _shard(text: str) -> Shard | None:
    return parse_shard(text, os.environ)


def _existing_file(text: str, *, devices: bool = False) -> Path:
    path = _path(text)
    if not (path.is_file() or (devices and path.exists() and not path.is_dir())):
        raise ConfigError(f"there is no file {str(path)!r}")
    return path


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+/?", text):
        raise ConfigError(f"{text!r} is not an endpoint: write https://HOST or https://HOST:PORT")
    return text


_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise ConfigError(f"{text!r} is neither true nor false")
    return lowered in _TRUE


def _negated(text: str) -> bool:
    return not _flag(text)


def _payer(text: str) -> bool:
    if text == "requester":
        return True
    if text.lower() not in _TRUE | _FALSE:
        raise ConfigError(f"{text!r} cannot pay: write requester")
    return _flag(text)


def _glob(text: str) -> str:
    if not text:
        raise ConfigError("the pattern is empty: write * for everything")
    return text


def _word(*words: str) -> Callable[[str], str]:
    """Return a reader of one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise ConfigError(f"{text!r} is not one of {', '.join(words[:-1])} and {words[-1]}")
        return text

    return read


TEXT = Kind(metavar="NAME", read=_text, toml=(str,), expects='a string, as in "name"')
URL = Kind(metavar="URL", read=_endpoint, toml=(str,), expects='a string, as in "https://HOST"')
FILE = Kind(metavar="FILE", read=_existing_file, toml=(str,), expects='a path, as in "~/ca.pem"')
PATH = Kind(metavar="FILE", read=_path, toml=(str,), expects="a path")
DIRECTORY = Kind(metavar="DIR", read=_path, toml=(str,), expects="a path")
FLAG = Kind(metavar="", read=_flag, toml=(bool,), expects="true or false", flag=True)
NEGATED_FLAG = Kind(metavar="", read=_negated, toml=(bool,), expects="true or false", flag=True)
PAYER = Kind(metavar="[requester]", read=_payer, toml=(bool, str), expects='"requester" or false', flag=True)
COUNT = Kind(metavar="N", read=parse_count, toml=(int,), expects="a whole number, as in 10")
COUNT_OR_AUTO = Kind(
    metavar="N|auto", read=or_auto(parse_count), toml=(int, str), expects='a whole number, as in 32, or "auto"'
)
SIZE = Kind(metavar="SIZE", read=parse_size, toml=(int, str), expects='a size, as in "256MiB"')
SIZE_OR_AUTO = Kind(
    metavar="SIZE|auto", read=or_auto(parse_size), toml=(int, str), expects='a size, as in "16MiB", or "auto"'
)
RATE = Kind(metavar="RATE", read=parse_rate, toml=(int, str), expects='a rate, as in "50MB/s"')
DURATION = Kind(metavar="DURATION", read=parse_duration, toml=(int, str), expects='a duration, as in "30m"')
PERCENT = Kind(metavar="PERCENT", read=parse_percent, toml=(int, float, str), expects="a share in percent, as in 50")
TRANSPORT = Kind(metavar="auto|wire|sdk", read=one_of(TransportChoice), toml=(str,), expects='"auto", "wire" or "sdk"')
DURABILITY = Kind(metavar="none|batch|file", read=one_of(Durability), toml=(str,), expects='"none", "batch" or "file"')
MOST_DELETED = Kind(
    metavar="N|P%", read=parse_max_delete, toml=(int, str), expects='a number of files, or a percentage, as in "10%"'
)
CHECK = Kind(
    metavar="ledger|size-mtime|checksum",
    read=one_of(Check),
    toml=(str,),
    expects='"ledger", "size-mtime" or "checksum"',
)
ADOPT = Kind(metavar="size-mtime|verify", read=one_of(Adopt), toml=(str,), expects='"size-mtime" or "verify"')
ARN = Kind(metavar="ARN", read=_text, toml=(str,), expects="an ARN")
KEY_ARNS = Kind(metavar="ARN", read=checked_key, toml=(str,), expects="a key's ARN", several=True)
ACCOUNT = Kind(metavar="ID", read=checked_account, toml=(str,), expects="an account")
BUCKET_KEYS = Kind(metavar="on|off|both", read=_word("on", "off", "both"), toml=(str,), expects='"on"')
EXTRAS_OF_POLICIES = Kind(metavar="|".join(EXTRAS), read=_word(*EXTRAS), toml=(str,), expects='"doctor"', several=True)
FORMAT = Kind(metavar="text|json|terraform", read=_word("text", "json", "terraform"), toml=(str,), expects='"json"')
NAMES = Kind(metavar="FILE|-", read=_file_or_dash, toml=(str,), expects='a path, or "-"')
MOMENT = Kind(
    metavar="TIME|start",
    read=parse_moment,
    toml=(str, datetime, date),
    expects='a time, as in 2026-11-25T02:15:00Z, or "start"',
)
MANIFEST = Kind(metavar="s3://BUCKET/KEY", read=_manifest, toml=(str,), expects='"s3://BUCKET/PATH/manifest.json"')
SCHEDULER = Kind(metavar="SCHEDULER", read=_text, toml=(str,), expects='an address, as in "tcp://scheduler:8786"')
SHARD = Kind(metavar="I/N|auto|auto/N", read=_shard, toml=(str,), expects='a shard, as in "3/8", or "auto"')
LOG_FORMAT = Kind(metavar="text|json", read=_word("text", "json"), toml=(str,), expects='"text" or "json"')
GLOBS = Kind(metavar="GLOB", read=_glob, toml=(list,), expects='a list of patterns, as in ["*.tmp"]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option."""

    name: str
    kind: Kind
    group: str
    help: str
    default: str = ""
    """As the help says it."""
    place: tuple[str, str] | None = None
    """Section and field where the value goes. Without one, the option stands on the command line only."""
    short: str = ""
    negative: str = ""
    """The flag's opposite."""
    verbs: frozenset[str] = TRANSFERRING
    variable: str = ""
    """The environment variable, where there is one."""

    def read(self, text: str, origin: str) -> object:
        """Read the value from `text`. Raises ConfigError that names the `origin`."""
        try:
            return self.kind.read(text)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error.message}") from error


def _setting(
    section: str,
    field: str,
    name: str,
    kind: Kind,
    group: str,
    says: str,
    *,
    default: str = "",
    short: str = "",
    negative: str = "",
    verbs: frozenset[str] = TRANSFERRING,
) -> Option:
    """Return an option that the environment and the settings file may set as well."""
    return Option(
        name=name,
        kind=kind,
        group=group,
        help=says,
        default=default,
        place=(section, field),
        short=short,
        negative=negative,
        verbs=verbs,
        variable=variable_of(name),
    )


def variable_of(name: str) -> str:
    """Return the environment variable of the option called `name`."""
    return "SEALIFT_" + name.upper().replace("-", "_")


_AWS, _WHICH, _HOW, _SHOW = "Reaching S3", "Which objects", "How much at once", "Settings and output"
_LOCAL = "What is there already"
_POLICY = "Who may read what"

OPTIONS: tuple[Option, ...] = (
    _setting(
        "connection",
        "profile",
        "profile",
        TEXT,
        _AWS,
        "the profile of AWS's configuration files",
        default="AWS_PROFILE",
        verbs=CONNECTING,
    ),
    _setting(
        "connection",
        "region",
        "region",
        TEXT,
        _AWS,
        "the Region of the bucket",
        default="AWS_REGION, or the profile's",
        verbs=CONNECTING,
    ),
    _setting(
        "connection",
        "endpoint_url",
        "endpoint-url",
        URL,
        _AWS,
        "another S3 than AWS's",
        default="AWS_ENDPOINT_URL, or AWS",
        verbs=CONNECTING,
    ),
    _setting(
        "connection",
        "sign",
        "no-sign-request",
        NEGATED_FLAG,
        _AWS,
        "go without credentials",
        default="false",
        verbs=TRANSFERRING | DOCTOR,
    ),
    _setting(
        "connection",
        "request_payer",
        "request-payer",
        PAYER,
        _AWS,
        "pay for the requests yourself",
        default="false",
        verbs=CONNECTING,
    ),
    _setting(
        "connection",
        "ca_bundle",
        "ca-bundle",
        FILE,
        _AWS,
        "the certificates that vouch for the endpoint",
        default="AWS_CA_BUNDLE, or the SDK's",
        verbs=CONNECTING,
    ),
    _setting(
        "connection",
        "allow_http",
        "allow-http",
        FLAG,
        _AWS,
        "do without TLS also where the endpoint is not this machine",
        default="false",
        verbs=CONNECTING,
    ),
    _setting(
        "connection",
        "transport",
        "transport",
        TRANSPORT,
        _AWS,
        "who carries the requests: wire is the fast way, sdk the AWS SDK; auto leaves to the SDK what wire does not do",
        default="auto",
        verbs=CONNECTING,
    ),
    _setting(
        "selection",
        "filters",
        "include",
        GLOBS,
        _WHICH,
        "take keys that match after all; GLOB is held against the key below SOURCE, * crosses /, and of all --include "
        "and --exclude the last that matches wins",
        verbs=MIRRORING,
    ),
    _setting("selection", "filters", "exclude", GLOBS, _WHICH, "leave keys that match alone", verbs=MIRRORING),
    _setting(
        "selection",
        "strict_keys",
        "strict-keys",
        FLAG,
        _WHICH,
        "fail keys that no file system can hold as they are, instead of escaping them",
        default="false",
        verbs=MIRRORING,
    ),
    _setting(
        "selection",
        "files_from",
        "files-from",
        NAMES,
        _WHICH,
        "list nothing, and mirror the objects that this file, or standard input, names: a key, or s3://BUCKET/KEY, a "
        "line; JSON lines with key and, as known, version, etag, size and last_modified; or a file for s5cmd run that "
        "only copies",
        verbs=MIRRORING,
    ),
    _setting(
        "selection",
        "null",
        "null",
        FLAG,
        _WHICH,
        "of --files-from: keys end with NUL bytes, not with lines",
        default="false",
        short="0",
        verbs=MIRRORING,
    ),
    _setting(
        "selection",
        "inventory",
        "inventory",
        MANIFEST,
        _WHICH,
        "list nothing, and mirror what this S3 Inventory report lists: the location of its manifest.json",
        verbs=MIRRORING,
    ),
    _setting(
        "selection",
        "then_list",
        "then-list",
        FLAG,
        _WHICH,
        "of --inventory: list as well, afterwards, for what is too new for the report, or gone",
        default="false",
        verbs=MIRRORING,
    ),
    _setting(
        "selection",
        "as_of",
        "as-of",
        MOMENT,
        _WHICH,
        "mirror a versioned bucket as it was at this moment, or when the run began: all files are of one state",
        verbs=MIRRORING,
    ),
    _setting(
        "selection",
        "shard",
        "shard",
        SHARD,
        _WHICH,
        "mirror only the I-th of N parts, one a machine, to a DEST that they share; auto asks Slurm or AWS Batch which "
        "task of an array this is, auto/N Kubernetes",
        verbs=MIRRORING,
    ),
    Option(
        name="dry-run",
        kind=FLAG,
        group=_WHICH,
        help="say what would be done, and do nothing: the same as sealift plan",
        verbs=frozenset({"mirror"}),
    ),
    _setting(
        "storage",
        "check",
        "check",
        CHECK,
        _LOCAL,
        "how to tell whether a file is up to date: by the ledger and, of what that does not know, as --adopt says; by "
        "size and time alone; or by reading it",
        default="ledger",
        verbs=MIRRORING,
    ),
    _setting(
        "storage",
        "adopt",
        "adopt",
        ADOPT,
        _LOCAL,
        "how to tell whether a file that the ledger does not know, as another tool has fetched it, is the object: by "
        "size and time; or by reading it, whatever its time, and asking S3 for the checksum",
        default="size-mtime",
        verbs=MIRRORING,
    ),
    _setting(
        "storage",
        "force",
        "force",
        FLAG,
        _LOCAL,
        "fetch everything, also what is up to date",
        default="false",
        verbs=MIRRORING,
    ),
    _setting(
        "storage",
        "delete",
        "delete",
        FLAG,
        _LOCAL,
        "delete files whose object is gone, of those that Sealift has written and nobody has changed",
        default="false",
        verbs=MIRRORING,
    ),
    _setting(
        "storage",
        "max_delete",
        "max-delete",
        MOST_DELETED,
        _LOCAL,
        "delete nothing where more than that would be deleted, of the files that the ledger has of these SOURCEs",
        default="50%",
        verbs=MIRRORING,
    ),
    _setting(
        "storage",
        "state",
        "state",
        DIRECTORY,
        _LOCAL,
        "keep ledger and logs there, not in DEST/.sealift: one directory for each DEST",
        verbs=MIRRORING | VERIFY | TELLING,
    ),
    Option(
        name="repair",
        kind=FLAG,
        group=_LOCAL,
        help="fetch again what is missing, changed or damaged",
        verbs=VERIFY,
    ),
    _setting("transfer", "concurrency", "concurrency", COUNT_OR_AUTO, _HOW, "GETs under way at once", default="auto"),
    _setting(
        "transfer",
        "processes",
        "processes",
        COUNT_OR_AUTO,
        _HOW,
        "processes that fetch; auto begins with one, and takes one a core when that one is busy all the time",
        default="auto",
        verbs=MIRRORING | VERIFY,
    ),
    _setting(
        "transfer",
        "dask",
        "dask",
        SCHEDULER,
        _HOW,
        "let the workers of a Dask cluster fetch, as many as it has or --processes says; DEST has to be theirs as well",
        verbs=MIRRORING,
    ),
    _setting(
        "transfer",
        "part_size",
        "part-size",
        SIZE_OR_AUTO,
        _HOW,
        "bytes a GET: larger objects are fetched in parts; auto is 8MiB to 64MiB, growing with the object",
        default="auto",
    ),
    _setting("transfer", "memory", "memory", SIZE, _HOW, "most bytes in memory on their way to disk", default="256MiB"),
    _setting(
        "transfer",
        "max_bandwidth",
        "max-bandwidth",
        RATE,
        _HOW,
        "most bytes a second, as in 50MB/s",
        default="no limit",
    ),
    _setting(
        "kms",
        "rps",
        "kms-rps",
        COUNT,
        _HOW,
        "most requests a second for which KMS is asked, in any second, refused ones included",
        default="no limit but what KMS allows",
    ),
    _setting(
        "kms",
        "share",
        "kms-share",
        PERCENT,
        _HOW,
        "as --kms-rps, in percent of the account's quota, by Service Quotas, or else of the Region's default quota",
        default="no limit but what KMS allows",
        verbs=MIRRORING | VERIFY,
    ),
    _setting(
        "kms",
        "patience",
        "kms-patience",
        DURATION,
        _HOW,
        "how long KMS may be down, failing everything, before the run ends; being throttled spends none of it",
        default="15m",
    ),
    _setting(
        "storage",
        "durability",
        "durability",
        DURABILITY,
        _HOW,
        "what is synced to disk before a file gets its name: nothing, many small files at once, or each file by itself",
        default="batch",
    ),
    _setting(
        "retry",
        "max_attempts",
        "max-attempts",
        COUNT,
        _HOW,
        "tries in a row that bring nothing before an object has failed; throttling does not count",
        default="10",
    ),
    Option(
        name="version-id",
        kind=TEXT,
        group=_WHICH,
        help="fetch this version of the object",
        default="the latest one",
        verbs=frozenset({"get"}),
    ),
    Option(
        name="principal",
        kind=ARN,
        group=_POLICY,
        help="who is to read: the ARN of a user, a role, a role's session or an account",
        verbs=POLICY,
    ),
    Option(
        name="key",
        kind=KEY_ARNS,
        group=_POLICY,
        help="the ARN of a KMS key that objects are encrypted with; may be given several times",
        default="found out, from a sample of the objects",
        verbs=POLICY,
    ),
    Option(
        name="bucket-account",
        kind=ACCOUNT,
        group=_POLICY,
        help="whose the bucket is",
        default="the principal's account, or the access point's; doctor finds it out where it can",
        verbs=POLICY | DOCTOR,
    ),
    Option(
        name="bucket",
        kind=TEXT,
        group=_POLICY,
        help="the name of the bucket behind an access point",
        verbs=POLICY | DOCTOR,
    ),
    Option(
        name="strict",
        kind=FLAG,
        group=_POLICY,
        help="allow Decrypt only as S3 asks for it, and only for these objects: conditions on kms:ViaService and on "
        "the encryption context",
        verbs=POLICY,
    ),
    Option(
        name="bucket-keys",
        kind=BUCKET_KEYS,
        group=_POLICY,
        help="with --strict, whether the objects have Bucket Keys: the encryption context then is the bucket's",
        default="both",
        verbs=POLICY,
    ),
    Option(
        name="for",
        kind=EXTRAS_OF_POLICIES,
        group=_POLICY,
        help="also allow what this takes; may be given several times",
        verbs=POLICY,
    ),
    Option(
        name="sample",
        kind=COUNT,
        group=_POLICY,
        help="objects that are looked at",
        default="100",
        verbs=POLICY | DOCTOR,
    ),
    Option(
        name="format",
        kind=FORMAT,
        group=_POLICY,
        help="how the policies are written",
        default="text",
        verbs=POLICY,
    ),
    Option(
        name="config",
        kind=PATH,
        group=_SHOW,
        help="read settings from this TOML file",
        default="none",
        variable=variable_of("config"),
        verbs=CONNECTING,
    ),
    _setting(
        "display",
        "progress",
        "progress",
        FLAG,
        _SHOW,
        "show progress on standard error: a bar on a terminal, else a line every 10 seconds",
        default="true",
        negative="no-progress",
        verbs=TRANSFERRING | RUN,
    ),
    _setting(
        "display",
        "json",
        "json",
        FLAG,
        _SHOW,
        "print one JSON object on standard output, at the end",
        default="false",
        verbs=TRANSFERRING | RUN | DOCTOR | {"status"},
    ),
    _setting(
        "display",
        "log_format",
        "log-format",
        LOG_FORMAT,
        _SHOW,
        "how lines on standard error are written: json is an object a line, and no bar",
        default="text",
        verbs=TRANSFERRING | RUN,
    ),
    _setting(
        "display",
        "metrics",
        "metrics",
        PATH,
        _SHOW,
        "write what the run did to this file when it ends, for Prometheus (the node exporter's textfile collector)",
        verbs=frozenset({"mirror"}),
    ),
    _setting("display", "verbose", "verbose", FLAG, _SHOW, "say more", default="false", short="v", verbs=EVERYWHERE),
    _setting(
        "display",
        "quiet",
        "quiet",
        FLAG,
        _SHOW,
        "only say what went wrong",
        default="false",
        short="q",
        verbs=SHOWING,
    ),
    Option(
        name="output",
        kind=PATH,
        group=_SHOW,
        help="write the page there",
        default="report.html",
        short="o",
        verbs=frozenset({"report"}),
    ),
    Option(
        name="check-config",
        kind=FLAG,
        group=_SHOW,
        help="only read CONFIG, and say what is wrong with it",
        verbs=RUN,
    ),
    Option(
        name="data",
        kind=DIRECTORY,
        group="The sandbox",
        help="keep data and keys there",
        default="a temporary directory",
        verbs=frozenset({"sandbox", "demo"}),
    ),
    Option(
        name="tls",
        kind=FLAG,
        group="The sandbox",
        help="serve HTTPS, with a certificate made on the spot",
        verbs=frozenset({"sandbox"}),
    ),
)

BY_NAME = {option.name: option for option in OPTIONS}

FILTERS = frozenset({"include", "exclude"})


@dataclass(frozen=True, slots=True)
class Layer:
    """What one of the places that settings come from says."""

    values: Mapping[str, object] = field(default_factory=dict)
    """By the option's name, without --include and --exclude."""
    filters: tuple[Filter, ...] = ()
    """What --include and --exclude say, in their order."""
