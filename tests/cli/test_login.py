"""`login`, and then `list` and `call`, against a server of ours and a real authorization server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.rig.authorization_server import MACHINE, REGISTERED, AuthorizationServer, authorization_server
from tools.served import served
from trio_mcp.cli.login.token_store import TokenStore

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

GUARDED = Path(__file__).parent.parent / "rig" / "served" / "guarded.py"
SERVE = (sys.executable, "-m", "trio_mcp", "serve", str(GUARDED), "--port", "{port}")


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands against the guarded server, with a home of its own and a browser that logs in."""

    url: str
    server: AuthorizationServer
    environ: dict[str, str]

    async def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "trio_mcp", *words]
        return await trio.run_process(
            command, stdin=stdin.encode(), capture_stdout=True, capture_stderr=True, check=False, env=self.environ
        )

    async def good(self, *words: str, stdin: str = "") -> str:
        """What it prints, when it succeeds."""
        done = await self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    async def refused(self, *words: str) -> str:
        """What it says on stderr, when its exit code is 3."""
        done = await self.run(*words)
        assert done.returncode == 3, done
        return done.stderr.decode()

    @property
    def store(self) -> TokenStore:
        return TokenStore.of(self.environ)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with authorization_server() as server:
        with served(SERVE, {"ISSUER": server.issuer, "RESOURCE": "http://127.0.0.1:{port}/mcp"}) as guarded:
            home = {"XDG_STATE_HOME": str(tmp_path), "BROWSER": f"{sys.executable} -m tests.rig.browser %s"}
            yield Shell(guarded.url, server, {**os.environ, **home})


@pytest.mark.requirement("auth-79")
async def test_a_person_logs_in_uses_the_server_and_logs_out(shell: Shell) -> None:
    told = await shell.refused("list", shell.url)
    assert "needs the scope mcp:read" in told
    assert "trio-mcp login" in told
    assert "with mcp:read until" in await shell.good("login", shell.url)
    assert "add" in await shell.good("list", shell.url)
    for era in ([], ["--legacy"]):
        assert await shell.good("call", shell.url, "add", "a=1", "b=2", *era) == "3\n"
        assert (await shell.good("call", shell.url, "whoami", *era)).startswith("ann by ")
    assert "logged out" in await shell.good("logout", shell.url)
    await shell.refused("list", shell.url)
    assert (await shell.run("logout", shell.url)).returncode == 2


@pytest.mark.requirement("auth-79")
async def test_a_scope_that_lacks_is_named_and_can_be_asked_for(shell: Shell) -> None:
    await shell.good("login", shell.url)
    for era in ([], ["--legacy"]):
        told = await shell.refused("call", shell.url, "write", "text=a", *era)
        assert "--scope 'mcp:read mcp:write'" in told
    await shell.good("login", shell.url, "--scope", "mcp:read mcp:write")
    assert await shell.good("call", shell.url, "write", "text=a") == "wrote a\n"


@pytest.mark.requirement("auth-79")
async def test_a_token_that_is_refused_is_renewed_without_a_person(shell: Shell) -> None:
    await shell.good("login", shell.url)
    grant = shell.store.find(shell.url)
    assert grant is not None
    asked = shell.server.asked("/token")
    path = shell.store.path(grant.resource, grant.issuer)
    path.write_text(json.dumps({**json.loads(path.read_text()), "access_token": grant.access_token[:-8] + "AAAAAAAA"}))
    assert await shell.good("call", shell.url, "add", "a=1", "b=2") == "3\n"
    assert await shell.good("call", shell.url, "add", "a=2", "b=2") == "4\n"
    assert shell.server.asked("/token") == asked + 1


async def test_a_registered_client_with_a_secret_logs_in(shell: Shell) -> None:
    flags = ["--client-id", REGISTERED.client_id, "--client-secret", "-", "--issuer", shell.server.issuer]
    await shell.good("login", shell.url, *flags, stdin=REGISTERED.client_secret)
    assert shell.server.asked("/reg") == 0
    assert await shell.good("call", shell.url, "whoami") == "ann by registered\n"


async def test_a_machine_needs_no_browser(shell: Shell) -> None:
    flags = ["--client-credentials", "--client-id", MACHINE.client_id]
    done = await shell.run("login", shell.url, *flags)
    assert (done.returncode, b"needs --client-id and --client-secret" in done.stderr) == (1, True)
    shell.environ["TRIO_MCP_CLIENT_SECRET"] = MACHINE.client_secret
    await shell.good("login", shell.url, *flags)
    assert await shell.good("call", shell.url, "whoami") == "machine by machine\n"


async def test_a_token_of_ones_own(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(await shell.server.token(shell.url, "mcp:read"))
    assert await shell.good("call", shell.url, "add", "a=1", "b=2", "--bearer", f"@{file}") == "3\n"
    assert await shell.good("call", shell.url, "add", "a=1", "b=2", "--bearer", "-", stdin=file.read_text()) == "3\n"
    shell.environ["TRIO_MCP_BEARER"] = file.read_text()
    assert await shell.good("call", shell.url, "add", "a=1", "b=2") == "3\n"
    assert "for another audience" in await shell.refused(
        "list", shell.url, "--bearer", await shell.server.token("http://127.0.0.1:1/mcp", "mcp:read")
    )


async def test_a_check_says_where_to_log_in_and_with_a_login_is_green(shell: Shell) -> None:
    told = await shell.run("check", shell.url, "--connections", "1", "--json")
    assert told.returncode == 3
    assert {each["level"] for each in json.loads(told.stdout)["findings"]} == {"ok"}
    await shell.good("login", shell.url)
    report = json.loads(await shell.good("check", shell.url, "--connections", "1", "--json"))
    assert any(f"{shell.server.issuer} is reachable" in each["text"] for each in report["findings"])
