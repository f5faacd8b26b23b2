"""The TOML file of `sealift run`: named jobs, what they share, and, line by line, what is wrong with it.

pydantic holds tables against what they may say. Names and values of options are those of `sealift.cli.options`.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails, PydanticCustomError

from sealift.cli.arguments import did_you_mean
from sealift.cli.layers import document, excludes_first, read_value, settings_of, settle, text_of
from sealift.cli.options import FILTERS, Layer, Option
from sealift.cli.tomllines import Place, line_of, lines_of
from sealift.config import Settings, parse_count, parse_duration, parse_rate, refuse_combinations
from sealift.errors import ConfigError
from sealift.selection import Filter, parse_sources
from sealift.timetable import Slot

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""A job's name: it may become part of a file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job."""

    name: str
    sources: tuple[str, ...]
    dest: Path
    settings: Settings
    deadline: time | None = None
    """The local time at which it ends."""
    max_duration: float | None = None
    """Seconds."""
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    """Commands, word by word."""
    metrics: Path | None = None

    def seconds_left(self, began: datetime, now: datetime) -> float | None:
        """Return how long it may take that begins `now`, in a run that `began`; None for as long as it likes.

        The deadline is the first one after the run's beginning: a job whose turn comes later has nothing left.
        """
        left = [] if self.max_duration is None else [self.max_duration]
        if self.deadline is not None:
            left.append((_next(self.deadline, began) - now).total_seconds())
        return min(left, default=None)


def _next(at: time, after: datetime) -> datetime:
    """Return when it is `at` for the first time `after`, by this machine's time zone."""
    day = after.astimezone().date()
    while (moment := datetime.combine(day, at).astimezone()) <= after:
        day += timedelta(days=1)
    return moment


@dataclass(frozen=True, slots=True)
class Jobs:
    """What a file says."""

    jobs: tuple[Job, ...]
    parallel: int
    """How many run at once."""


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """Something that is wrong with a file."""

    line: int
    text: str


class JobFileError(ConfigError):
    """A file that cannot be used, and all that is wrong with it."""

    def __init__(self, path: Path, complaints: Iterable[Complaint]) -> None:
        self.lines = [f"{path}:{each.line}: {each.text}" for each in sorted(set(complaints))]
        super().__init__("; ".join(self.lines))


# What a table may say. Validators take what TOML gives, and raise what pydantic gathers.


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("sealift", "{text}", {"text": text})


def _validated(read: Callable[[object], object]) -> object:
    """Return the type, as pydantic takes it, of what `read` makes of TOML's value; it raises ConfigError."""

    def validate(value: object) -> object:
        try:
            return read(value)
        except ConfigError as error:
            raise _wrong(error.message) from error

    return Annotated[Any, BeforeValidator(validate)]


def _option(option: Option) -> object:
    """Return the type of a setting, as pydantic takes it."""
    return _validated(lambda value: read_value(option, value))


def _sources(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError('write a list, as in ["s3://BUCKET/PREFIX/"]')
    parse_sources(texts)
    return tuple(texts)


def _dest(value: object) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError('write a path, as in "/data/mirror"')
    if value.startswith("s3://"):
        raise ConfigError(f"{value!r} is not a local path: Sealift only downloads")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{value!r}: whose home that is cannot be told: write the whole path") from error


def _deadline(value: object) -> time | None:
    return None if value == "none" else _time_of_day(value)


def _time_of_day(value: object) -> time:
    if isinstance(value, str) and re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        return time.fromisoformat(value)
    if isinstance(value, time):
        return value
    raise ConfigError('write a time of day, as in "05:30"')


def _max_duration(value: object) -> float | None:
    if value == "none":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError('write a duration, as in "3h"')
    return parse_duration(str(value))


def _slots(parse: Callable[[str], float], example: str) -> Callable[[object], tuple[Slot, ...]]:
    """Return a reader of a timetable, whose rates `parse` reads."""

    def read(value: object) -> tuple[Slot, ...]:
        if not isinstance(value, list):
            raise ConfigError(f"write a list, as in [{example}]")
        return tuple(_slot(item, parse, example) for item in value)

    return read


def _slot(item: object, parse: Callable[[str], float], example: str) -> Slot:
    if not isinstance(item, dict) or item.keys() != {"from", "to", "rate"}:
        raise ConfigError(f"each is a table of from, to and rate, as in {example}")
    start, stop = (_time_of_day(item[name]) for name in ("from", "to"))
    if start == stop:
        raise ConfigError(f"from {start:%H:%M} to {stop:%H:%M} is no time at all")
    if isinstance(item["rate"], bool) or not isinstance(item["rate"], int | str):
        raise ConfigError(f"each is a table of from, to and rate, as in {example}")
    return Slot(start, stop, parse(str(item["rate"])))


def _command(value: object) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ConfigError(f"{value!r} cannot be split into words: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError('write a command, as in "mail -s reports ops" or ["mail", "-s", "reports", "ops"]')
    return tuple(words)


_OPTIONS = {
    option.name: option
    for option in settings_of()
    if "mirror" in option.verbs and option.place and (option.place[0] != "display" or option.name == "metrics")
}
"""The settings of a mirror. How runs are shown is the command line's business."""

_FORBID = ConfigDict(extra="forbid")

_FIELDS: dict[str, Any] = {
    "sources": (_validated(_sources), ()),
    "dest": (_validated(_dest), None),
    "deadline": (_validated(_deadline), None),
    "max_duration": (_validated(_max_duration), None),
    "bandwidth": (_validated(_slots(parse_rate, '{from = "08:00", to = "18:00", rate = "50MB/s"}')), ()),
    "kms": (_validated(_slots(parse_count, '{from = "08:00", to = "18:00", rate = 500}')), ()),
    "on_success": (_validated(_command), ()),
    "on_failure": (_validated(_command), ()),
    **{name.replace("-", "_"): (_option(option), None) for name, option in _OPTIONS.items()},
}

_Table = create_model("_Table", __config__=_FORBID, **_FIELDS)

_NOT_SHARED = frozenset({"sources"})
"""What has no place among the defaults."""


class _File(BaseModel):
    model_config = _FORBID

    parallel: Annotated[int, Field(strict=True, ge=1)] = 1
    defaults: dict[str, Any] = {}
    jobs: dict[str, dict[str, Any]]


_NO_OPTIONS = Layer()


def read_jobs(
    path: Path, environ: Mapping[str, str], given: Layer = _NO_OPTIONS, settings_file: Layer | None = None
) -> Jobs:
    """Read the file at `path`, for a run with the options `given`. Raises ConfigError, most of all JobFileError.

    `settings_file` is what that says, if it was read already.
    """
    return _Reader(path, environ, given, settings_file).read()


class _Reader:
    """Reads one file, and goes on where something is wrong, to find the rest of it."""

    def __init__(self, path: Path, environ: Mapping[str, str], given: Layer, settings_file: Layer | None) -> None:
        self._path = path
        self._environ = environ
        self._given = given
        self._settings_file = settings_file
        self._text = text_of(path)  # once: it may be a pipe
        self._document = document(path, self._text)
        self._complaints: list[Complaint] = []

    def read(self) -> Jobs:
        """Return what the file says. Raises JobFileError."""
        try:
            file = _File.model_validate(self._document)
        except ValidationError as error:
            for detail in error.errors():
                self._complain(detail["loc"], _said(detail, _File.model_fields))
            raise JobFileError(self._path, self._complaints) from None
        jobs = [self._job(name, table, file.defaults) for name, table in file.jobs.items()]
        if not jobs:
            self._complain(["jobs"], "there is no job: write a table [jobs.NAME]")
        whole = [job for job in jobs if job is not None]
        self._look_for_clashes(whole, file.parallel)
        if self._complaints:
            raise JobFileError(self._path, self._complaints)
        return Jobs(tuple(whole), file.parallel)

    def _job(self, name: str, table: Mapping[str, object], defaults: Mapping[str, object]) -> Job | None:
        """Return a job, or None where something is wrong with it."""
        here = len(self._complaints)
        where = ("jobs", name)
        if not NAME.fullmatch(name):
            self._complain(where, "a job's name is of letters, digits, '-', '_' and '.'")
        environ = {**self._environ, "JOB": name}
        shared = self._table(("defaults",), defaults, environ, forbidden=_NOT_SHARED)
        own = self._table(where, table, environ)
        if len(self._complaints) > here:
            return None
        both: dict[str, Any] = {**shared, **own}
        for missing in ("sources", "dest"):
            if missing not in both:
                self._complain(where, f"{missing} {'are' if missing == 'sources' else 'is'} missing")
        if both.get("no-sign-request") is False and both.get("request-payer"):
            self._complain(where, "no-sign-request and request-payer exclude each other: only those who sign can pay")
        if len(self._complaints) > here:
            return None
        settings, display = settle(self._given, self._environ, _layer(shared), _layer(own), file=self._settings_file)
        try:
            refuse_combinations(settings)
        except ConfigError as error:
            self._complain(where, error.message)
            return None
        transfer = replace(settings.transfer, bandwidth=both.pop("bandwidth", ()))
        settings = replace(settings, transfer=transfer, kms=replace(settings.kms, timetable=both.pop("kms", ())))
        beside = {key: value for key, value in both.items() if key not in _OPTIONS}
        return Job(name=name, settings=settings, metrics=display.metrics, **beside)

    def _table(
        self,
        where: tuple[str, ...],
        table: Mapping[str, object],
        environ: Mapping[str, str],
        forbidden: frozenset[str] = frozenset(),
    ) -> dict[str, object]:
        """Return what a table says, by the names of options; complain of what is wrong."""
        written: dict[str, str] = {}
        plain: dict[str, object] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name in written:
                self._complain((*where, key), "it is there twice, with - and with _")
            elif name in forbidden:
                self._complain((*where, key), "each job has its own: it has no place in [defaults]")
            else:
                written[name] = key
                plain[name] = self._expanded((*where, key), value, environ)
        try:
            model = _Table.model_validate(plain)
        except ValidationError as error:
            for detail in error.errors():
                field, *rest = detail["loc"]
                text = _said(detail, [known for known in _FIELDS if known not in forbidden])
                self._complain((*where, written[str(field)], *rest), text)
            return {}
        names = {name.replace("-", "_"): name for name in _OPTIONS}
        return {names.get(field, field): getattr(model, field) for field in model.model_fields_set}

    def _expanded(self, where: Sequence[str | int], value: object, environ: Mapping[str, str]) -> object:
        """Return the value with the environment's variables in its texts."""
        if isinstance(value, list):
            return [self._expanded((*where, index), item, environ) for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._expanded((*where, key), item, environ) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        try:
            return string.Template(value).substitute(environ)
        except KeyError as error:
            self._complain(where, f"there is no variable {error.args[0]} in the environment")
        except ValueError:
            self._complain(where, f"in {value!r}, a $ stands before no name: write ${{NAME}} for a variable, $$ for $")
        return value

    def _look_for_clashes(self, jobs: Sequence[Job], parallel: int) -> None:
        """Complain of jobs that would be in each other's way."""
        for this, that in _pairs(jobs):
            where = ("jobs", that.name)
            same = this.dest.absolute() == that.dest.absolute()
            if same and parallel > 1:
                self._complain((*where, "dest"), f"{this.name} has the same, and they run at once")
            state = that.settings.storage.state
            if state is not None and this.settings.storage.state == state and not same:
                self._complain(
                    (*where, "state"), f"{this.name} has the same, with another dest: one for each, as in …/${{JOB}}"
                )
            if that.metrics is not None and this.metrics == that.metrics:
                self._complain((*where, "metrics"), f"{this.name} has the same: one for each, as in …/${{JOB}}.prom")

    @cached_property
    def _lines(self) -> Mapping[Place, int]:
        return lines_of(self._text)

    def _complain(self, where: Sequence[str | int], text: str) -> None:
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).removeprefix(".")
        self._complaints.append(Complaint(line_of(self._lines, where), f"{name}: {text}"))


def _pairs(jobs: Sequence[Job]) -> Iterator[tuple[Job, Job]]:
    for index, later in enumerate(jobs):
        for earlier in jobs[:index]:
            yield earlier, later


def _said(detail: ErrorDetails, known: Iterable[str]) -> str:
    """Return what is wrong, in the words of this project where pydantic's are of its own."""
    if detail["type"] == "extra_forbidden":
        name = str(detail["loc"][-1])
        return f"there is no such setting{did_you_mean(name.replace('-', '_'), known)}"
    if detail["type"] == "missing":
        return "there is no job: write a table [jobs.NAME]"
    return detail["msg"]


def _layer(table: Mapping[str, object]) -> Layer:
    """Return what of a table is an option."""
    filters: list[Filter] = []
    for name in FILTERS & table.keys():
        filters += cast("tuple[Filter, ...]", table[name])
    values = {name: value for name, value in table.items() if name in _OPTIONS and name not in FILTERS}
    return Layer(values, excludes_first(filters))
