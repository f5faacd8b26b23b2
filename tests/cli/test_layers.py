from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.cli.arguments import parse
from sealift.cli.layers import Display, built, merged, read_environment, read_toml, settle
from sealift.cli.options import OPTIONS, Layer
from sealift.config import ConnectionSettings, KmsSettings, SelectionSettings, Settings, TransferSettings
from sealift.errors import ConfigError
from sealift.selection import Filter

EXAMPLE = Path(__file__).parents[2] / "config" / "sealift.toml"
MIB = 1024 * 1024


def settled(*argv: str, **environ: str) -> tuple[Settings, Display]:
    return settle(parse(["mirror", "s3://b", "d", *argv]).layer, environ)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sealift.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    return caught.value.message


def test_without_anything_everything_is_default() -> None:
    assert settled() == (Settings(), Display())


def test_the_example_file_is_what_it_says() -> None:
    settings, display = settled("--config", str(EXAMPLE))
    assert settings == Settings(
        connection=ConnectionSettings(
            profile="nightly",
            region="eu-central-1",
            endpoint_url="https://s3.eu-central-1.amazonaws.com",
            request_payer=True,
        ),
        selection=SelectionSettings(
            filters=(Filter("exclude", "*.tmp"), Filter("exclude", "scratch/*"), Filter("include", "scratch/keep/*"))
        ),
        transfer=TransferSettings(part_size=16 * MIB, max_bandwidth=200e6),
        kms=KmsSettings(rps=2000, share=50),
    )
    assert display == Display()


def test_the_example_file_names_every_setting() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for option in OPTIONS:
        if option.place:
            assert f"\n{option.name} = " in text.replace("# ", "")


def test_the_defaults_that_the_help_tells_are_the_defaults() -> None:
    told = {
        option.name: option.read(option.default, option.name)
        for option in OPTIONS
        if option.place and option.default and not option.default.startswith(("AWS_", "no limit"))
    }
    assert len(told) >= 20
    assert built(Layer(told)) == (Settings(), Display())


_TEXTS = {
    "region": st.sampled_from(["eu-north-1", "us-east-1"]),
    "part-size": st.sampled_from(["auto", "9MiB", "12345"]),
    "concurrency": st.sampled_from(["auto", "1", "64"]),
    "max-attempts": st.sampled_from(["1", "5"]),
    "memory": st.sampled_from(["64MiB", "1G"]),
    "allow-http": st.sampled_from(["true", "false"]),
    "no-sign-request": st.sampled_from(["true", "false"]),
}
_LAYERS = st.fixed_dictionaries({}, optional=_TEXTS)


@given(file=_LAYERS, environ=_LAYERS, options=_LAYERS)
def test_options_go_before_variables_before_the_file_before_the_defaults(
    tmp_path_factory: pytest.TempPathFactory, file: dict[str, str], environ: dict[str, str], options: dict[str, str]
) -> None:
    literal = {"true": "true", "false": "false"}
    text = "".join(
        f"{name} = {value if value in literal or name == 'max-attempts' else repr(value)}\n"
        for name, value in file.items()
    )
    path = written(tmp_path_factory.mktemp("settings"), text)
    variables = {f"SEALIFT_{name.upper().replace('-', '_')}": value for name, value in environ.items()}
    got = settled(*(f"--{name}={value}" for name, value in options.items()), SEALIFT_CONFIG=str(path), **variables)
    assert got == settled(*(f"--{name}={value}" for name, value in {**file, **environ, **options}.items()))


def test_filters_add_up_from_the_file_to_the_options(tmp_path: Path) -> None:
    path = written(tmp_path, 'include = ["b"]\nexclude = ["a"]\n')
    settings, _ = settled(
        "--include=e", "--exclude=f", SEALIFT_CONFIG=str(path), SEALIFT_INCLUDE="d\n", SEALIFT_EXCLUDE="c\n\nc2"
    )
    assert [(item.kind[0], item.glob) for item in settings.selection.filters] == [
        ("e", "a"),
        ("i", "b"),
        ("e", "c"),
        ("e", "c2"),
        ("i", "d"),
        ("i", "e"),
        ("e", "f"),
    ]


def test_verbose_and_quiet_take_turns_but_not_in_one_place() -> None:
    assert settled("-v", SEALIFT_QUIET="1")[1] == Display(verbose=True)
    assert settled("-q", SEALIFT_VERBOSE="yes")[1] == Display(quiet=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        settled("-v", "-q")


def test_the_region_is_awss_where_nobody_says_more(tmp_path: Path) -> None:
    path = written(tmp_path, 'region = "eu-north-1"\n')
    assert settle(Layer(), {"AWS_REGION": "us-west-2"})[0].connection.region == "us-west-2"
    assert settle(Layer({"config": path}), {"AWS_REGION": "us-west-2"})[0].connection.region == "eu-north-1"
    assert settle(Layer(), {"AWS_REGION": ""})[0].connection.region is None


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert read_environment({"SEALIFT_REGION": "", "SEALIFT_INCLUDE": "", "OTHER": "x"}) == Layer()


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^SEALIFT_MEMORY: 'much' is not a size"):
        read_environment({"SEALIFT_MEMORY": "much"})
    with pytest.raises(ConfigError, match=r"^SEALIFT_JSON: 'maybe' is neither true nor false"):
        read_environment({"SEALIFT_JSON": "maybe"})


def test_names_may_be_written_with_either_dash(tmp_path: Path) -> None:
    path = written(tmp_path, "part_size = 8388608\nmax-attempts = 3\n")
    assert read_toml(path).values == {"part-size": 8 * MIB, "max-attempts": 3}


def test_what_is_wrong_in_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sealift.toml"
    for text, complaint in {
        'part-sise = "8MiB"': f"{path}: there is no setting 'part-sise', did you mean part-size?",
        "[transfer]\nmemory = 1": f"{path}: there is no setting 'transfer'",
        "max-attempts = true": f"{path}: max-attempts: write a whole number, as in 10",
        "allow-http = 1": f"{path}: allow-http: write true or false",
        "memory = 1.5": f'{path}: memory: write a size, as in "256MiB"',
        'memory = "1.5 furlongs"': f"{path}: memory: '1.5 furlongs' is not a size",
        "memory = -1": f"{path}: memory: '-1' is not a size",
        'include = "*"': f"{path}: include: write a list of patterns",
        "include = [1]": f"{path}: include: write a list of patterns",
        "part-size = 9\npart_size = 9": f"{path}: part-size is there twice",
        "config = 'x'": f"{path}: there is no setting 'config'",
        "memory = ": f"{path}: ",
    }.items():
        assert refusal(written(tmp_path, text)).startswith(complaint)


def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    assert "line 2" in refusal(written(tmp_path, 'region = "r"\nmemory = = 1\n'))
    path = tmp_path / "sealift.toml"
    path.write_bytes(b"region = '\xff'")
    assert "UTF-8" in refusal(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == f"{tmp_path}/none.toml cannot be read: No such file or directory"
    with pytest.raises(ConfigError, match="cannot be read"):
        settled(SEALIFT_CONFIG=str(tmp_path))


def test_home_is_understood_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").touch()
    written(tmp_path, 'ca-bundle = "~/ca.pem"')
    settings, _ = settled(SEALIFT_CONFIG="~/sealift.toml")
    assert settings.connection.ca_bundle == tmp_path / "ca.pem"
    assert settled("--ca-bundle=~/ca.pem")[0] == settings


def test_merging_nothing_gives_nothing() -> None:
    assert merged([]) == Layer()
