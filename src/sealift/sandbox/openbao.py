"""OpenBao's HTTP API, as far as the sandbox needs it: the KMS behind the S3 server, and its levers."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

import anyio
import anyio.to_thread

from sealift.errors import SourceError

LEASE = "87600h"
"""Ten years, for tokens and metrics: the S3 server does not renew its token, and OpenBao's own 768 h pass in a long
sandbox's life."""

PATIENCE = 10.0
"""Seconds for one request on loopback, among many."""

_UNSEAL_PATIENCE = 30.0
"""Seconds; a single raft voter takes up to 3 to elect itself."""

_COUNTER = re.compile(r"^vault_route_update_transit__count (\d+)", re.MULTILINE)

_POLICY = """\
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/keys/*" { capabilities = ["read"] }
"""
_DENIAL = 'path "transit/decrypt/%s" { capabilities = ["deny"] }\n'


class ApiError(SourceError):
    """OpenBao refused (`status`), or did not answer (None)."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message, code="OpenBao")
        self.status = status


class OpenBao:
    """A client of one server. Has no state of any event loop: it may be used from every thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.token = ""
        self._denied: set[str] = set()
        self._own_updates = 0
        # The environment's proxies are for other hosts than this one.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, patience: float = PATIENCE
    ) -> dict[str, Any]:
        """Make one request below /v1/ and return the answer, `{}` where there is none. Raises ApiError."""
        text = await anyio.to_thread.run_sync(self._call, method, path, body, patience)
        answer: dict[str, Any] = json.loads(text) if text else {}
        return answer

    async def initialize(self) -> tuple[str, str]:
        """Make a fresh server's master key; return the key that unseals it, and its root token."""
        made = await self.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        return made["keys"][0], made["root_token"]

    async def seal(self) -> None:
        """Take the KMS down: it answers 503 to everything, and its keys are out of its memory."""
        await self.call("PUT", "sys/seal", {})

    async def unseal(self, key: str) -> None:
        """Bring it back, and return when it serves. Raises ApiError, also when that takes more than 30 s."""
        await self.call("PUT", "sys/unseal", {"key": key})
        with anyio.move_on_after(_UNSEAL_PATIENCE):
            while True:
                try:
                    await self.call("GET", "sys/health")
                except ApiError as error:
                    if error.status not in (429, 503):  # a raft follower that is about to be elected; still sealed
                        raise
                    await anyio.sleep(0.02)
                else:
                    return
        raise ApiError(f"OpenBao was unsealed and does not serve after {_UNSEAL_PATIENCE:g} s", None)

    async def set_up(self, keys: tuple[str, ...]) -> str:
        """Make the transit engine and its `keys` where they are missing, take every lever back, return a new token.

        The token may use the keys, as S3 may use a customer's, and nothing else.
        """
        if "transit/" not in await self.call("GET", "sys/mounts"):
            await self.call("POST", "sys/mounts/transit", {"type": "transit"})
        for key in keys:
            await self._update(f"transit/keys/{key}", {"type": "aes256-gcm96"})
        await self.release(keys)
        made = await self.call(
            "POST", "auth/token/create-orphan", {"policies": ["s3"], "no_default_policy": True, "ttl": LEASE}
        )
        token: str = made["auth"]["client_token"]
        return token

    async def release(self, keys: tuple[str, ...]) -> None:
        """Take throttle, denials and disabled keys back."""
        await self.unthrottle()
        self._denied.clear()
        await self._write_policy()
        for key in keys:
            await self.enable(key)

    async def transit_calls(self) -> int:
        """Return how many data keys the engine has wrapped or unwrapped, or failed to, since the server started."""
        text = await anyio.to_thread.run_sync(self._call, "GET", "sys/metrics?format=prometheus", None, PATIENCE)
        found = _COUNTER.search(text)
        return (int(found[1]) if found else 0) - self._own_updates

    async def throttle(self, rate: int) -> None:
        """Answer 429 to decrypts beyond `rate` a second."""
        await self.call(
            "POST", "sys/quotas/rate-limit/decrypts", {"path": "transit/decrypt/*", "rate": rate, "interval": "1s"}
        )

    async def unthrottle(self) -> None:
        """Take the throttle back."""
        await self.call("DELETE", "sys/quotas/rate-limit/decrypts")

    async def deny(self, key: str) -> None:
        """Deny the S3 server's token the decrypts of one key: 403, by policy."""
        self._denied.add(key)
        await self._write_policy()

    async def allow(self, key: str) -> None:
        """Take a denial back."""
        self._denied.discard(key)
        await self._write_policy()

    async def disable(self, key: str) -> None:
        """Make one key unusable for anything: transit's soft delete, which keeps the key and refuses to use it."""
        await self.call("DELETE", f"transit/keys/{key}/soft-delete")

    async def enable(self, key: str) -> None:
        """Take a soft delete back."""
        await self._update(f"transit/keys/{key}/soft-delete-restore", {})

    async def _write_policy(self) -> None:
        text = _POLICY + "".join(_DENIAL % key for key in sorted(self._denied))
        await self.call("PUT", "sys/policies/acl/s3", {"policy": text})

    async def _update(self, path: str, body: dict[str, Any]) -> None:
        """Write below transit/, where the counter counts this, too."""
        await self.call("POST", path, body)
        self._own_updates += 1

    def _call(self, method: str, path: str, body: dict[str, Any] | None, patience: float) -> str:
        request = urllib.request.Request(  # noqa: S310  (always http://127.0.0.1)
            f"{self.address}/v1/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.token} if self.token else {},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=patience) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode("utf-8", "replace").strip()
            raise ApiError(f"OpenBao refused {method} {path}: {error.code} {said}", error.code) from None
        except OSError as error:
            raise ApiError(f"OpenBao does not answer {method} {path}: {error}", None) from error
