"""Settings in layers: the options over the SEALIFT_* variables, over the TOML file, over the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sealift.cli.arguments import as_filter, did_you_mean
from sealift.cli.options import BY_NAME, FILTERS, OPTIONS, Layer, Option
from sealift.config import (
    ConnectionSettings,
    KmsSettings,
    SelectionSettings,
    Settings,
    StorageSettings,
    TransferSettings,
)
from sealift.errors import ConfigError
from sealift.retry import RetrySettings
from sealift.selection import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How a run is shown."""

    progress: bool = True
    json: bool = False
    verbose: bool = False
    quiet: bool = False
    log_format: str = "text"
    metrics: Path | None = None


def settle(
    given: Layer, environ: Mapping[str, str], *jobs: Layer, file: Layer | None = None
) -> tuple[Settings, Display]:
    """Return the settings that the options `given`, the environment and the settings file amount to.

    What a file of `jobs` says lies between the settings `file`, which is read if it was not yet, and the environment.
    Raises ConfigError that names the option, the variable, or the file and its key.
    """
    from_file = settings_file(given, environ) if file is None else file
    return built(merged([_aws(environ), from_file, *jobs, read_environment(environ), given]))


def settings_file(given: Layer, environ: Mapping[str, str]) -> Layer:
    """Read the settings file that the options `given` or the environment name, if one is named. Raises ConfigError."""
    config = BY_NAME["config"]
    path = given.values.get("config")
    if path is None and environ.get(config.variable):
        path = config.read(environ[config.variable], config.variable)
    return read_toml(path) if isinstance(path, Path) else Layer()


def _aws(environ: Mapping[str, str]) -> Layer:
    """Return what AWS_REGION says: the AWS CLI and the other SDKs read it, Python's does not."""
    region = environ.get("AWS_REGION")
    return Layer({"region": region} if region else {})


def read_environment(environ: Mapping[str, str]) -> Layer:
    """Read the SEALIFT_* variables. Empty ones are as good as unset. Raises ConfigError."""
    values: dict[str, object] = {}
    filters: list[Filter] = []
    for option in settings_of():
        text = environ.get(option.variable, "")
        if not text:
            continue
        if option.name in FILTERS:
            filters += [
                as_filter(option, option.read(line, option.variable)) for line in text.split("\n") if line.strip()
            ]
        else:
            values[option.name] = option.read(text, option.variable)
    return Layer(values, excludes_first(filters))


def read_toml(path: Path) -> Layer:
    """Read a settings file. Raises ConfigError."""
    values: dict[str, object] = {}
    filters: list[Filter] = []
    known = {option.name: option for option in settings_of()}
    seen: set[str] = set()
    for key, value in document(path, text_of(path)).items():
        name = key.replace("_", "-")
        if name not in known:
            raise ConfigError(f"{path}: there is no setting {key!r}{did_you_mean(name, known)}")
        if name in seen:
            raise ConfigError(f"{path}: {name} is there twice, with - and with _")
        seen.add(name)
        option = known[name]
        try:
            read = read_value(option, value)
        except ConfigError as error:
            raise ConfigError(f"{path}: {key}: {error.message}") from error
        if name in FILTERS:
            filters += cast("tuple[Filter, ...]", read)
        else:
            values[name] = read
    return Layer(values, excludes_first(filters))


def read_value(option: Option, value: object) -> object:
    """Read what TOML says of an option: of --include and --exclude, a tuple of filters. Raises ConfigError."""
    if type(value) not in option.kind.toml:
        raise ConfigError(f"write {option.kind.expects}")
    if not isinstance(value, list):
        return option.kind.read(str(value).lower() if isinstance(value, bool) else str(value))
    if not all(isinstance(item, str) for item in value):
        raise ConfigError(f"write {option.kind.expects}")
    return tuple(as_filter(option, option.kind.read(item)) for item in value)


def merged(layers: Sequence[Layer]) -> Layer:
    """Lay each layer over those before it. Filters add up: the last that matches wins, whoever wrote it.

    Raises ConfigError where one layer is both verbose and quiet; of two layers, the later one wins.
    """
    values: dict[str, object] = {}
    filters: list[Filter] = []
    for layer in layers:
        if layer.values.get("verbose") and layer.values.get("quiet"):
            raise ConfigError("verbose and quiet exclude each other: leave one of them out")
        for one, other in (("verbose", "quiet"), ("quiet", "verbose")):
            if layer.values.get(one):
                values.pop(other, None)
        values.update(layer.values)
        filters += layer.filters
    return Layer(values, tuple(filters))


def built(layer: Layer) -> tuple[Settings, Display]:
    """Return the settings that `layer` and the defaults make."""
    sections: dict[str, dict[str, Any]] = {
        "connection": {},
        "selection": {"filters": layer.filters},
        "transfer": {},
        "storage": {},
        "kms": {},
        "retry": {},
        "display": {},
    }
    for name, value in layer.values.items():
        place = BY_NAME[name].place
        if place is not None:
            section, field = place
            sections[section][field] = value
    settings = Settings(
        connection=ConnectionSettings(**sections["connection"]),
        selection=SelectionSettings(**sections["selection"]),
        transfer=TransferSettings(**sections["transfer"]),
        storage=StorageSettings(**sections["storage"]),
        kms=KmsSettings(**sections["kms"]),
        retry=RetrySettings(**sections["retry"]),
    )
    return settings, Display(**sections["display"])


def settings_of() -> list[Option]:
    """Return the options that may stand in a settings file."""
    return [option for option in OPTIONS if option.place]


def document(path: Path, text: str) -> dict[str, object]:
    """Return what the `text` of the TOML file at `path` says. Raises ConfigError."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def text_of(path: Path) -> str:
    """Return the text of a TOML file. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text, which TOML has to be") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def excludes_first(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    """Put excludes before includes: where there is no order of writing, what is included was meant to stay."""
    return tuple(sorted(filters, key=lambda item: item.kind == "include"))
