"""The real S3 and the real KMS: that they encrypt, refuse on demand, keep what they should, and end."""

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys

import anyio
import pytest
from botocore.exceptions import ClientError

from sealift.errors import ConfigError, SourceError
from sealift.sandbox import servers
from sealift.sandbox.launch import GRPC_OFFSET, free_ports
from sealift.sandbox.servers import Principal, Sandbox, directions, serve
from tests.support.loops import ONE_LOOP
from tests.support.sandbox import require_sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

PLAIN = b"nobody but the keyholder reads this " * 100


@pytest.fixture(autouse=True)
def installed():
    require_sandbox()


def pidfds(sandbox):
    assert len(sandbox.pids()) == 2
    return [os.pidfd_open(pid) for pid in sandbox.pids()]


def assert_ended(descriptors, *, within):
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], within)[0], "a server is still there"
        os.close(descriptor)


async def put(sandbox, key, body=PLAIN, **how):
    async with sandbox.client() as s3:
        await s3.put_object(Bucket=sandbox.bucket, Key=key, Body=body, **how)


async def get(sandbox, key, **how):
    async with sandbox.client(sandbox.reader) as s3:
        answer = await s3.get_object(Bucket=sandbox.bucket, Key=key, **how)
        async with answer["Body"] as body:
            return await body.read()


async def refusal(sandbox, work):
    async with sandbox.client(sandbox.reader) as s3:
        with pytest.raises(s3.exceptions.ClientError) as caught:
            await work(s3)
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


async def get_refusal(sandbox, key):
    return await refusal(sandbox, lambda s3: s3.get_object(Bucket=sandbox.bucket, Key=key))


# Encryption


@ONE_LOOP
async def test_objects_are_sealed_with_the_default_key_and_each_get_asks_the_kms(sandbox):
    await put(sandbox, "servers/default")
    async with sandbox.client(sandbox.reader) as s3:
        head = await s3.head_object(Bucket=sandbox.bucket, Key="servers/default")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", sandbox.keys[0])
    before = await sandbox.decrypts()
    for _ in range(3):
        assert await get(sandbox, "servers/default") == PLAIN
    assert await sandbox.decrypts() - before == 3


@ONE_LOOP
async def test_what_lies_on_the_servers_disk_is_not_the_plain_bytes(sandbox):
    await put(sandbox, "servers/on-disk", PLAIN)
    stored = b"".join(path.read_bytes() for path in (sandbox.directory / "seaweedfs").rglob("*.dat"))
    assert len(stored) > len(PLAIN)
    assert PLAIN[:36] not in stored


@ONE_LOOP
async def test_an_object_may_be_sealed_with_the_second_key(sandbox):
    await put(sandbox, "servers/second", ServerSideEncryption="aws:kms", SSEKMSKeyId=sandbox.keys[1])
    async with sandbox.client(sandbox.reader) as s3:
        head = await s3.head_object(Bucket=sandbox.bucket, Key="servers/second")
    assert head["SSEKMSKeyId"] == sandbox.keys[1]
    assert await get(sandbox, "servers/second") == PLAIN


@ONE_LOOP
async def test_a_range_and_a_pin_are_honoured(sandbox):
    await put(sandbox, "servers/range")
    assert await get(sandbox, "servers/range", Range="bytes=7-20") == PLAIN[7:21]
    status, code = await refusal(
        sandbox, lambda s3: s3.get_object(Bucket=sandbox.bucket, Key="servers/range", IfMatch='"another"')
    )
    assert (status, code) == (412, "PreconditionFailed")


# Principals


async def test_the_reader_may_not_write(sandbox):
    refused = await refusal(sandbox, lambda s3: s3.put_object(Bucket=sandbox.bucket, Key="servers/no", Body=b""))
    assert refused == (403, "AccessDenied")


def test_a_secret_key_is_not_in_the_representation():
    assert "hidden" not in repr(Principal("shown", "hidden"))


async def test_a_client_hears_nothing_of_the_callers_profiles(sandbox, monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[default]\nregion = nowhere\nca_bundle = /nowhere\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "not-ours")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    await put(sandbox, "servers/profile")


# Levers


@ONE_LOOP
async def test_a_throttle_refuses_what_is_beyond_the_rate_until_it_is_taken_back(levers):
    await put(levers, "servers/throttled")
    await levers.throttle(1)
    before = await levers.decrypts()
    answers = []

    async def ask():
        try:
            answers.append(await get(levers, "servers/throttled"))
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])

    async with anyio.create_task_group() as several:
        for _ in range(10):  # one a second is served: of ten at once a slow machine may get two or three
            several.start_soon(ask)
    assert set(answers) == {PLAIN, "InternalError"}
    assert await levers.decrypts() - before == answers.count(PLAIN)
    await put(levers, "servers/not-a-decrypt")
    await levers.unthrottle()
    assert await get(levers, "servers/throttled") == PLAIN


@pytest.mark.parametrize(
    ("pull", "take_back", "counted"), [(Sandbox.deny, Sandbox.allow, 0), (Sandbox.disable, Sandbox.enable, 1)]
)
@ONE_LOOP
async def test_one_key_refuses_while_the_other_serves(levers, pull, take_back, counted):
    await put(levers, "servers/refused")
    await put(levers, "servers/served", ServerSideEncryption="aws:kms", SSEKMSKeyId=levers.keys[1])
    before = await levers.decrypts()
    await pull(levers, levers.keys[0])
    assert await get_refusal(levers, "servers/refused") == (500, "InternalError")
    assert await levers.decrypts() - before == counted
    assert await get(levers, "servers/served") == PLAIN
    await take_back(levers, levers.keys[0])
    assert await get(levers, "servers/refused") == PLAIN


@ONE_LOOP
async def test_a_sealed_kms_serves_nobody_and_comes_back(levers):
    await put(levers, "servers/sealed")
    await levers.seal()
    assert await get_refusal(levers, "servers/sealed") == (500, "InternalError")
    async with levers.client(levers.reader) as s3:
        assert (await s3.head_object(Bucket=levers.bucket, Key="servers/sealed"))["ContentLength"] == len(PLAIN)
    await levers.unseal()
    assert await get(levers, "servers/sealed") == PLAIN


@ONE_LOOP
async def test_everything_can_be_taken_back_at_once(levers):
    await put(levers, "servers/released")
    await levers.throttle(1)
    await levers.deny(levers.keys[0])
    await levers.disable(levers.keys[0])
    await levers.seal()
    await levers.release()
    for _ in range(3):
        assert await get(levers, "servers/released") == PLAIN


# Lives


@ONE_LOOP
async def test_a_life_waits_for_no_server_that_lingers_and_what_was_written_in_it_can_be_read_in_the_next(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(servers, "GRACE", 0.1)
    data = tmp_path / "data"
    async with Sandbox(data) as first:
        await put(first, "kept")
        await put(first, "kept too", ServerSideEncryption="aws:kms", SSEKMSKeyId=first.keys[1])
        await first.disable(first.keys[0])  # as a test that was killed would leave it
        admin = first.admin
        descriptors = pidfds(first)
        _, seaweedfs = [server._process for server in first._servers]
    assert_ended(descriptors, within=0)
    assert seaweedfs.returncode == -signal.SIGKILL, "SIGTERM alone would take it 31 s"
    assert (data / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700
    async with Sandbox(data) as second:
        assert second.admin == admin
        assert await get(second, "kept") == PLAIN
        assert await get(second, "kept too") == PLAIN


@ONE_LOOP
async def test_without_a_directory_nothing_is_left():
    async with Sandbox() as sandbox:
        directory, descriptors = sandbox.directory, pidfds(sandbox)
        port = int(sandbox.endpoint_url.rpartition(":")[2])
        socket_file = anyio.Path(f"/tmp/seaweedfs-s3-grpc-{port + GRPC_OFFSET}.sock")
        assert await socket_file.exists()
    assert_ended(descriptors, within=0)
    assert not directory.exists()
    assert not await socket_file.exists()


async def test_a_cancelled_sandbox_ends_its_servers():
    with anyio.CancelScope() as scope:
        async with Sandbox() as sandbox:
            descriptors = pidfds(sandbox)
            scope.cancel()
            await anyio.sleep_forever()
    assert_ended(descriptors, within=0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_servers_end_with_a_process_that_was_killed(number):
    script = (
        "import anyio, json\n"
        "from sealift.sandbox.servers import Sandbox\n"
        "async def main():\n"
        "    async with Sandbox() as sandbox:\n"
        "        print(json.dumps([sandbox.pids(), str(sandbox.directory)]), flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        pids, directory = json.loads(process.stdout.readline())
        descriptors = [os.pidfd_open(pid) for pid in pids]
        process.send_signal(number)
        assert_ended(descriptors, within=20)
    subprocess.run(["rm", "-rf", directory], check=True)


@ONE_LOOP
async def test_several_sandboxes_start_at_once():
    async with contextlib.AsyncExitStack() as stack:
        started = [Sandbox() for _ in range(3)]
        async with anyio.create_task_group() as together:
            for number, sandbox in enumerate(started):

                async def start(sandbox=sandbox, number=number):
                    await sandbox.__aenter__()
                    stack.push_async_exit(sandbox)
                    await put(sandbox, "whose", str(number).encode())

                together.start_soon(start)
        assert [await get(sandbox, "whose") for sandbox in started] == [b"0", b"1", b"2"]


@ONE_LOOP
async def test_whichever_port_was_taken_meanwhile_there_is_another_try(monkeypatch):
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        answers = [free_ports(7) for _ in range(4)]
        # OpenBao's API, and three of SeaweedFS's five. OpenBao needs its second one only with data to keep.
        for answer, taken in zip(answers, [0, 2, 4, 6], strict=True):
            answer[taken] = squatter.getsockname()[1]
        monkeypatch.setattr(servers, "free_ports", lambda count: answers.pop() if answers else free_ports(count))
        async with Sandbox() as sandbox:
            assert not answers
            await put(sandbox, "there")


async def test_two_sandboxes_do_not_share_a_directory(sandbox):
    with pytest.raises(ConfigError, match="another sandbox runs on"):
        async with Sandbox(sandbox.directory):
            pass


@ONE_LOOP
async def test_a_server_that_does_not_start_is_named_and_shows_its_log(tmp_path):
    (tmp_path / "openbao").mkdir()
    (tmp_path / "openbao" / "vault.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SourceError, match=r"KMS \(OpenBao\) ended by itself(.|\n)*invalid database"):
        async with Sandbox(tmp_path):
            pass


@ONE_LOOP
async def test_a_server_that_dies_is_noticed():
    async with Sandbox() as sandbox:
        os.kill(sandbox.pids()[1], signal.SIGKILL)
        with anyio.fail_after(5), pytest.raises(SourceError, match=r"S3 \(SeaweedFS\) ended by itself"):
            await sandbox.watch()


# TLS


@ONE_LOOP
async def test_https_is_served_with_a_certificate_that_the_bundle_vouches_for():
    async with Sandbox(tls=True) as sandbox:
        await put(sandbox, "sealed twice")
        assert await get(sandbox, "sealed twice") == PLAIN
        assert sandbox.environment()["AWS_CA_BUNDLE"] == str(sandbox.ca_bundle)
        port = int(sandbox.endpoint_url.rpartition(":")[2])
        context = ssl.create_default_context(cafile=sandbox.ca_bundle)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for name in ("localhost", "127.0.0.1"):
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname=name) as secure,
            ):
                assert secure.version() == "TLSv1.3"
        with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


# The command


@ONE_LOOP
async def test_serving_announces_an_environment_that_a_shell_takes():
    announced, said = anyio.Event(), []

    def announce(text):
        said.append(text)
        announced.set()

    async with anyio.create_task_group() as together:

        async def run():
            await serve(data=None, tls=False, announce=announce)

        together.start_soon(run)
        with anyio.fail_after(30):
            await announced.wait()
        together.cancel_scope.cancel()
    taken = await anyio.run_process(["/bin/sh", "-c", f"{said[0]}\nenv"], env={})
    environment = taken.stdout.decode()
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:" in environment
    assert "AWS_ACCESS_KEY_ID=SANDBOXREADER" in environment
    assert "AWS_ACCESS_KEY_ID=SANDBOXADMIN" in said[0]


async def test_the_directions_name_the_second_key(sandbox):
    assert sandbox.keys[1] in directions(sandbox)
