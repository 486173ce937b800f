"""A real authorization server on loopback, npm `oidc-provider`, that can be stopped, frozen and started anew with other keys."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import trio

from tests.auth.issuer import rsa_key
from tests.rig.ports import free_ports
from tests.rig.scripts import command
from tests.rig.waiting import PATIENCE
from tools.node import environment, package_file
from trio_mcp.auth.fetching import Response, http_fetch

__all__ = [
    "MACHINE",
    "REGISTERED",
    "RESOURCE_SERVER",
    "SCOPES",
    "AuthorizationServer",
    "Credentials",
    "authorization_server",
]

SCRIPT = Path(__file__).parent / "served" / "authorization_server.mjs"
SCOPES = ("mcp:read", "mcp:write", "mcp:admin")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of a client that the server knows from its configuration."""

    client_id: str
    client_secret: str


MACHINE = Credentials("machine", "the secret of the machine")
"""May get tokens by its credentials alone."""

RESOURCE_SERVER = Credentials("files", "the secret of the files")
"""Who asks what an opaque token is."""

REGISTERED = Credentials("registered", "the secret of the registered one")
"""Redirects to any port of 127.0.0.1, `/callback`."""


class AuthorizationServer:
    """The process; its issuer, and with it all its URLs, stays the same over restarts. What it has granted does not.

    `seconds` is how long a token lives, `renewed_seconds` one that a refresh token has brought; None: as long. `opaque` are parts of
    resource URLs whose tokens are not JWTs. These, and `keys`, may be changed before a restart: the first key signs.
    """

    def __init__(
        self,
        port: int,
        nursery: trio.Nursery,
        *,
        seconds: int = 300,
        renewed_seconds: int | None = None,
        opaque: Sequence[str] = ("opaque",),
    ) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.seconds = seconds
        self.renewed_seconds = renewed_seconds
        self.opaque = [*opaque]
        self.keys = ["one"]
        """Names; each is made when it is first used, and stays the same."""
        self.requests: list[str] = []
        """`GET /jwks`, of all runs so far, and `refused` with the reason for each grant that it refused."""
        self._port = port
        self._nursery = nursery
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "the authorization server does not run"
        return self._process.pid

    async def start(self) -> None:
        """Start it with what it is configured for now, and wait until it listens. Raises MissingNode."""
        await self._nursery.start(self._run)

    async def stop(self) -> None:
        """SIGKILL, and wait for the end."""
        process, self._process = self._process, None
        assert process is not None, "the authorization server does not run"
        process.kill()
        await process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on."""
        os.kill(self.pid, signal.SIGCONT)

    async def token(self, resource: str, *scopes: str) -> str:
        """An access token for the machine."""
        form = {"grant_type": "client_credentials", "resource": resource, "scope": " ".join(scopes)}
        answer = await self.post("/token", form, MACHINE)
        assert answer.status == 200, answer
        return str(json.loads(answer.body)["access_token"])

    async def revoke(self, token: str) -> None:
        """Revoke a token of the machine."""
        answer = await self.post("/token/revocation", {"token": token}, MACHINE)
        assert answer.status == 200, answer

    async def post(self, path: str, form: dict[str, str], client: Credentials) -> Response:
        """Ask one of its endpoints as `client`."""
        pair = base64.b64encode(f"{client.client_id}:{quote(client.client_secret)}".encode()).decode()
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", f"Basic {pair}")]
        return await http_fetch("POST", self.issuer + path, headers, urlencode(form).encode())

    def asked(self, path: str) -> int:
        """How many requests came for `path`."""
        return sum(1 for request in self.requests if request.endswith(f" {path}"))

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        package_file("oidc-provider/package.json")
        process = self._process = await trio.lowlevel.open_process(
            [*command(SCRIPT), json.dumps(self._configuration())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        try:
            await self._read(process, task_status)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                process.kill()
                await process.wait()

    async def _read(self, process: trio.Process, task_status: trio.TaskStatus[None]) -> None:
        assert process.stdout is not None
        rest, listens = b"", False
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"listening "):
                    listens = True
                    task_status.started()
                else:
                    self.requests.append(line.decode())
        assert listens, "the authorization server ended before it listened"

    def _configuration(self) -> dict[str, Any]:
        return {
            "port": self._port,
            "keys": [_private_jwk(name) for name in self.keys],
            "clients": [_client(MACHINE), _client(RESOURCE_SERVER), _registered()],
            "scopes": SCOPES,
            "seconds": self.seconds,
            "renewedSeconds": self.renewed_seconds or self.seconds,
            "opaque": self.opaque,
        }


def _client(who: Credentials) -> dict[str, Any]:
    return {
        "client_id": who.client_id,
        "client_secret": who.client_secret,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
    }


def _registered() -> dict[str, Any]:
    """Native: of a loopback redirect any port will do (RFC 8252 §7.3)."""
    return {
        **_client(REGISTERED),
        "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": ["http://127.0.0.1/callback"],
        "response_types": ["code"],
    }


def _private_jwk(name: str) -> dict[str, Any]:
    entry = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(f"authorization server {name}"), as_dict=True)
    return {
        **{key: value for key, value in entry.items() if key != "key_ops"},
        "kid": name,
        "use": "sig",
        "alg": "RS256",
    }


@asynccontextmanager
async def authorization_server(**options: Any) -> AsyncIterator[AuthorizationServer]:
    """Started; stopped at the end of the block. Raises MissingNode where it is not installed."""
    (port,) = free_ports(1)
    async with trio.open_nursery() as nursery:
        server = AuthorizationServer(port, nursery, **options)
        await server.start()
        yield server
        nursery.cancel_scope.cancel()
