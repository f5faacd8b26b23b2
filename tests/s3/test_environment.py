"""What the environment says, held against the SDK itself: the request that it would send in the same circumstances."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import anyio
import pytest
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, DEFAULT_S3_CONFIG_VARS
from botocore.loaders import create_loader
from botocore.utils import get_environ_proxies
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.config import ConnectionSettings
from sealift.s3.endpoints import bucket_url
from sealift.s3.environment import DECIDING, HARMLESS_KEYS, UNDERSTOOD, Environment, environment_access, proxy_for
from sealift.s3.sdksession import SdkSession
from sealift.sandbox.certificate import make_certificate

SETTINGS = ConnectionSettings(allow_http=True)
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "a secret"}
ENVIRON = KEYS | {"AWS_DEFAULT_REGION": "eu-west-1"}


@dataclass
class Asked:
    """The request that the SDK was about to send."""

    base: str
    access_key: str | None
    region: str | None
    token: str | None
    verify: str | bool


class Stop(Exception):
    """The request is known; it is not sent."""


def asked_by_the_sdk(connection: ConnectionSettings, environ: Mapping[str, str]) -> Asked:
    async def ask() -> Asked:
        seen: list[Any] = []

        def look(request: Any, **_: object) -> None:
            seen.append(request)
            raise Stop

        async with SdkSession(connection, connections=1) as session, session.client() as client:
            client.meta.events.register("before-send.s3.GetObject", look)
            with pytest.raises(Stop):
                await client.get_object(Bucket="bucket", Key="key")
            verify = client._endpoint.http_session._verify
        headers = {name: v.decode() if isinstance(v, bytes) else v for name, v in seen[0].headers.items()}
        scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/s3/", headers.get("Authorization", ""))
        return Asked(
            base=seen[0].url,
            access_key=scope[1] if scope else None,
            region=scope[2] if scope else None,
            token=headers.get("X-Amz-Security-Token"),
            verify=verify,
        )

    with patch.dict(os.environ, environ, clear=True):
        return anyio.run(ask)


def expected(access: Environment) -> Asked:
    """What the SDK's request looks like if it sees things as `access` has them."""
    credentials = access.credentials
    return Asked(
        base=f"{bucket_url('bucket', access.region, access.endpoint_url)}/key",
        access_key=credentials.access_key if credentials else None,
        region=access.region if credentials else None,
        token=credentials.token if credentials else None,
        verify=True if access.ca_bundle is None else os.fspath(access.ca_bundle),
    )


@contextmanager
def home(config: str | None = None, credentials: str | None = None) -> Iterator[dict[str, str]]:
    """A home directory with AWS's files; yields the variable that leads there."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / ".aws").mkdir()
        for name, text in (("config", config), ("credentials", credentials)):
            if text is not None:
                (Path(place) / ".aws" / name).write_text(text)
        yield {"HOME": place}


def test_keys_and_region_of_the_environment_are_all_that_is_needed() -> None:
    with home() as place:
        access = environment_access(SETTINGS, ENVIRON | place)
        assert access is not None
        assert access.credentials is not None
        assert (access.credentials.access_key, access.credentials.secret_key) == ("AKIDENVIRONMENT", "a secret")
        assert (access.region, access.endpoint_url, access.ca_bundle) == ("eu-west-1", None, None)
        assert expected(access) == asked_by_the_sdk(SETTINGS, ENVIRON | place)


URL = "http://127.0.0.1:8333"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = tmp_path_factory.mktemp("certificates") / "ca.pem"
    bundle.write_bytes(make_certificate().chain)
    return bundle


@pytest.mark.parametrize(
    ("connection", "variables", "config", "credentials"),
    [
        ({}, {"AWS_SESSION_TOKEN": "t"}, None, None),
        ({}, {"AWS_SECURITY_TOKEN": "older", "AWS_SESSION_TOKEN": "newer"}, None, None),
        ({}, {"AWS_SECURITY_TOKEN": "", "AWS_SESSION_TOKEN": "newer"}, None, None),
        ({}, {"AWS_SESSION_TOKEN": ""}, None, None),
        ({"sign": False}, {}, None, None),
        ({"sign": False}, {"AWS_ACCESS_KEY_ID": ""}, None, None),
        ({"region": "ap-southeast-2"}, {}, None, None),
        ({"region": "us-east-1"}, {}, None, None),
        ({"region": "us-gov-west-1"}, {}, None, None),
        ({}, {"AWS_DEFAULT_REGION": None}, None, None),
        ({}, {"AWS_DEFAULT_REGION": None, "AWS_ENDPOINT_URL": URL}, None, None),
        ({}, {"AWS_DEFAULT_REGION": None, "AWS_REGION": "us-west-2"}, None, None),
        ({}, {"AWS_REGION": "us-west-2"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": URL}, None, None),
        ({}, {"AWS_ENDPOINT_URL": URL + "/"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "http://[::1]:8333"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:65535"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://minio.example.org", "AWS_DEFAULT_REGION": "garage"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://other.example", "AWS_ENDPOINT_URL_S3": URL}, None, None),
        ({}, {"AWS_ENDPOINT_URL": URL, "AWS_ENDPOINT_URL_S3": ""}, None, None),
        ({}, {"AWS_ENDPOINT_URL": ""}, None, None),
        ({}, {"AWS_ENDPOINT_URL_STS": "https://sts.example"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": URL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": URL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "1"}, None, None),
        ({"endpoint_url": URL}, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None, None),
        ({"endpoint_url": URL}, {"AWS_ENDPOINT_URL_S3": "https://other.example"}, None, None),
        ({}, {}, "[default]\nregion = us-west-2\noutput = json\n", None),
        ({}, {"AWS_DEFAULT_REGION": None}, "[default]\nregion = us-west-2\n", None),
        ({}, {"AWS_DEFAULT_REGION": None}, "[profile default]\nregion = us-west-2\n", None),
        ({}, {"AWS_DEFAULT_REGION": None}, '[profile  "default"]\nregion = us-west-2\n', None),
        ({}, {}, "[profile default-west]\nendpoint_url = https://other.example\n", None),
        ({}, {}, None, "[profile default]\nendpoint_url = https://other.example\n"),
        ({}, {"AWS_DEFAULT_REGION": None}, "[default]\nREGION: us-west-2\n", "[default]\nregion = eu-north-1\n"),
        ({}, {"AWS_DEFAULT_REGION": None}, None, "[default]\nregion = eu-north-1\n"),
        ({"region": "sa-east-1"}, {}, "[default]\nregion = us-west-2\n", None),
        ({}, {}, "[default]\naws_access_key_id = x\naws_secret_access_key = y\naws_session_token = z\n", None),
        ({}, {}, None, "[default]\naws_access_key_id = x\naws_secret_access_key = y\n"),
        ({}, {}, "[default]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = other\n", None),
        ({}, {}, "[profile other]\nendpoint_url = https://a.example\n[services s]\ns3 =\n  endpoint_url = x\n", None),
        ({}, {"AWS_CONFIG_FILE": os.devnull}, "[default]\nendpoint_url = https://other.example\n", None),
        ({}, {"AWS_CONFIG_FILE": ""}, "[default]\nendpoint_url = https://other.example\n", None),
        ({}, {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}, None, "[default]\nendpoint_url = https://other.example\n"),
        ({}, {"AWS_CONFIG_FILE": "~/.aws/credentials"}, None, "[default]\nregion = eu-north-1\n"),
        ({}, {"AWS_CA_BUNDLE": ""}, None, None),
        ({}, {"AWS_CA_BUNDLE": "BUNDLE"}, None, None),
        ({"ca_bundle": "BUNDLE"}, {"AWS_CA_BUNDLE": "/nowhere"}, None, None),
        ({}, {"AWS_MAX_ATTEMPTS": "7", "AWS_RETRY_MODE": "adaptive", "AWS_EXECUTION_ENV": "x"}, None, None),
        ({}, {"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/x"}, None, None),
    ],
)  # fmt: skip
def test_where_the_environment_says_it_all_the_sdk_says_the_same(
    connection: dict[str, Any],
    variables: dict[str, str | None],
    config: str | None,
    credentials: str | None,
    certificates: Path,
) -> None:
    variables = {name: os.fspath(certificates) if value == "BUNDLE" else value for name, value in variables.items()}
    if connection.get("ca_bundle") == "BUNDLE":
        connection = connection | {"ca_bundle": certificates}
    with home(config, credentials) as place:
        environ = {name: value for name, value in (ENVIRON | place | variables).items() if value is not None}
        access = environment_access(replace(SETTINGS, **connection), environ)
        assert access is not None
        assert expected(access) == asked_by_the_sdk(replace(SETTINGS, **connection), environ)


@pytest.mark.parametrize(
    ("connection", "variables", "config", "credentials"),
    [
        ({"profile": "work"}, {}, None, None),
        *(({}, {name: ""}, None, None) for name in sorted(DECIDING)),
        ({}, {"AWS_ACCESS_KEY_ID": None}, None, None),
        ({}, {"AWS_ACCESS_KEY_ID": ""}, None, None),
        ({}, {"AWS_SECRET_ACCESS_KEY": None}, None, None),
        ({}, {"AWS_SECRET_ACCESS_KEY": ""}, None, None),
        ({}, {"AWS_ACCESS_KEY_ID": "AKID\r\nx: y"}, None, None),
        ({}, {"AWS_SESSION_TOKEN": "a b"}, None, None),
        ({}, {"AWS_DEFAULT_REGION": ""}, None, None),
        ({}, {"AWS_DEFAULT_REGION": "us-iso-east-1"}, None, None),
        ({}, {"AWS_DEFAULT_REGION": "fips-us-east-1"}, None, None),
        ({}, {"AWS_DEFAULT_REGION": "aws-global"}, None, None),
        ({}, {"AWS_DEFAULT_REGION": "garage"}, None, None),
        ({}, {"AWS_DEFAULT_REGION": "aws-global", "AWS_ENDPOINT_URL": URL}, None, None),
        ({}, {"AWS_DEFAULT_REGION": "eu west", "AWS_ENDPOINT_URL": URL}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://s3-accelerate.amazonaws.com"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://s3.cn-north-1.amazonaws.com.cn"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://example.org/s3"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://user:password@example.org"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://example.org?x"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://under_score.example"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "https://example.org:65536"}, None, None),
        ({}, {"AWS_ENDPOINT_URL": "example.org"}, None, None),
        ({"endpoint_url": ""}, {}, None, None),
        ({}, {}, "[default]\nendpoint_url = https://other.example\n", None),
        ({}, {}, "[default]\ns3 =\n  addressing_style = path\n", None),
        ({}, {}, "[default]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = https://other.example\n", None),
        ({}, {}, "[default]\nca_bundle = /x\n", None),
        ({}, {}, "[default]\nuse_fips_endpoint = true\n", None),
        ({}, {}, "[default]\ndefaults_mode = standard\n", None),
        ({}, {}, "[default]\nsomething_new = 1\n", None),
        ({}, {}, "[profile 'default']\nendpoint_url = https://other.example\n", None),
        ({}, {}, '[profile "default"]\nendpoint_url = https://other.example\n', None),
        ({}, {}, "[default]\n[profile default]\n", None),
        ({}, {}, "no section", None),
        ({}, {}, "[default]\n[default]\n", None),
        ({}, {}, None, "[default]\nendpoint_url = https://other.example\n"),
        ({}, {"AWS_CONFIG_FILE": "$HOME/.aws/credentials"}, None, None),
        ({}, {"AWS_CONFIG_FILE": "~somebody/config"}, None, None),
        ({}, {"AWS_CONFIG_FILE": "~/.aws/credentials"}, None, "[default]\nendpoint_url = https://other.example\n"),
    ],
)  # fmt: skip
def test_what_could_change_the_answer_is_left_to_the_sdk(
    connection: dict[str, Any], variables: dict[str, str | None], config: str | None, credentials: str | None
) -> None:
    with home(config, credentials) as place:
        environ = {name: value for name, value in (ENVIRON | place | variables).items() if value is not None}
        assert environment_access(replace(SETTINGS, **connection), environ) is None


@pytest.mark.parametrize("name", sorted(HARMLESS_KEYS - {"region"}))
def test_what_a_profile_may_say_changes_nothing(name: str) -> None:
    value = {"max_attempts": "7", "retry_mode": "adaptive", "duration_seconds": "900"}.get(name, "x")
    for environ in (ENVIRON, ENVIRON | {"AWS_ENDPOINT_URL": URL}):
        with home(f"[default]\n{name} = {value}\n") as place:
            access = environment_access(SETTINGS, environ | place)
            assert access is not None
            assert expected(access) == asked_by_the_sdk(SETTINGS, environ | place)


PARTITIONS = {
    region: partition["id"]
    for partition in create_loader().load_data("partitions")["partitions"]
    for region in partition["regions"]
}


@pytest.mark.parametrize("region", sorted(PARTITIONS))
def test_every_region_is_reached_as_the_sdk_reaches_it(region: str) -> None:
    environ = KEYS | {"AWS_DEFAULT_REGION": region, "HOME": "/nowhere"}
    access = environment_access(SETTINGS, environ)
    ordinary = PARTITIONS[region] in {"aws", "aws-us-gov", "aws-cn"} and not region.endswith("-global")
    assert (access is not None) == ordinary
    if access is not None:
        assert expected(access) == asked_by_the_sdk(SETTINGS, environ)


def test_a_file_that_cannot_be_read_as_text_is_left_to_the_sdk() -> None:
    with home() as place:
        (Path(place["HOME"]) / ".aws" / "config").write_bytes(b"[default]\nregion = \xff\xfe\n")
        assert environment_access(SETTINGS, ENVIRON | place) is None


def test_every_variable_that_the_sdk_reads_is_known_here() -> None:
    """A new version of the SDK may read another one: then somebody has to say what it means for S3."""
    harmless = {
        "AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_EC2_METADATA_V1_DISABLED", "AWS_IMDS_USE_IPV6",
        "AWS_CSM_HOST", "AWS_CSM_PORT", "AWS_CSM_CLIENT_ID", "AWS_ENDPOINT_DISCOVERY_ENABLED",
        "AWS_STS_REGIONAL_ENDPOINTS", "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS", "AWS_SDK_UA_APP_ID",
        "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", "AWS_DISABLE_REQUEST_COMPRESSION",
        "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    }  # fmt: skip
    read: set[str] = set()
    for _, variable, _, _ in [*BOTOCORE_DEFAUT_SESSION_VARIABLES.values(), *DEFAULT_S3_CONFIG_VARS.values()]:
        read |= {variable} if isinstance(variable, str) else set(variable or ())
    assert read - harmless - DECIDING - UNDERSTOOD == set()


VARIABLES = {
    "AWS_ACCESS_KEY_ID": ["", "AKIDOTHER"],
    "AWS_SECRET_ACCESS_KEY": ["", "secret"],
    "AWS_SESSION_TOKEN": ["", "token"],
    "AWS_DEFAULT_REGION": ["", "eu-west-1", "us-east-1", "cn-north-1", "garage"],
    "AWS_ENDPOINT_URL": ["", URL, "https://other.example"],
    "AWS_ENDPOINT_URL_S3": ["", "http://localhost:9000/"],
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": ["", "true", "TRUE", "no"],
    "AWS_USE_DUALSTACK_ENDPOINT": ["true"],
    "AWS_PROFILE": ["default"],
}
LINES = ["region = us-west-2", "region = eu-north-1", "output = text", "endpoint_url = https://third.example",
         "s3 =\n  addressing_style = virtual", "use_dualstack_endpoint = true"]  # fmt: skip


@settings(max_examples=60)
@given(
    st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VARIABLES.items()}),
    st.none() | st.lists(st.sampled_from(LINES), max_size=2, unique_by=lambda line: line.split()[0]),
    st.none() | st.lists(st.sampled_from(LINES), max_size=2, unique_by=lambda line: line.split()[0]),
    st.sampled_from([{}, {"sign": False}, {"region": "sa-east-1"}, {"endpoint_url": "http://127.0.0.1:1"}]),
)
def test_an_answer_without_the_sdk_is_the_sdks(
    variables: dict[str, str], config: list[str] | None, credentials: list[str] | None, connection: dict[str, Any]
) -> None:
    files = [None if lines is None else "\n".join(["[default]", *lines, ""]) for lines in (config, credentials)]
    with home(*files) as place:
        access = environment_access(replace(SETTINGS, **connection), KEYS | place | variables)
        if access is not None:
            assert expected(access) == asked_by_the_sdk(replace(SETTINGS, **connection), KEYS | place | variables)


HOSTS = st.sampled_from(
    ["b.s3.eu-west-1.amazonaws.com", "localhost:8333", "127.0.0.1:9000", "[::1]:9000", "EXAMPLE.org", "a.example.org:1"]
)
PROXY = st.sampled_from(["", "http://proxy:3128", "proxy:3128"])
NO_PROXY = st.sampled_from(
    ["", "*", "localhost", "127.0.0.1", ".amazonaws.com, localhost", "example.org:443,EXAMPLE.ORG", "[::1]", "::1", ","]
)


@given(
    st.sampled_from(["http", "https"]),
    HOSTS,
    st.fixed_dictionaries(
        {},
        optional={
            "HTTP_PROXY": PROXY, "http_proxy": PROXY, "HTTPS_PROXY": PROXY, "https_proxy": PROXY, "Https_Proxy": PROXY,
            "ALL_PROXY": PROXY, "NO_PROXY": NO_PROXY, "no_proxy": NO_PROXY, "REQUEST_METHOD": st.just("GET"),
        },
    ),
)  # fmt: skip
def test_a_proxy_is_used_where_the_sdk_uses_one(scheme: str, host: str, environ: dict[str, str]) -> None:
    url = f"{scheme}://{host}/key"
    with patch.dict(os.environ, environ, clear=True):
        theirs = get_environ_proxies(url).get(urlsplit(url).scheme)
    assert proxy_for(url, environ) == theirs


def test_neither_the_environment_nor_its_proxies_need_the_sdk() -> None:
    program = (
        "import sys\nfrom sealift.config import ConnectionSettings\nfrom sealift.s3.environment import *\n"
        f"environ = {ENVIRON!r}\nassert environment_access(ConnectionSettings(), environ)\n"
        "assert proxy_for('https://example.org', environ) is None\n"
        "from sealift.s3 import heads, refusal, signing\n"
        "print(*sorted({'botocore', 'aiobotocore', 'aioboto3', 'aiohttp'} & set(sys.modules)))"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert (done.stdout, done.stderr) == ("\n", "")
