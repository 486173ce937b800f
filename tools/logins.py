"""The clients people use log in at a real authorization server and use one of our servers: which steps of each succeed."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from tests.rig.authorization_server import authorization_server
from tools.clients import ClientUnderTest, verdicts
from tools.node import environment
from tools.served import served

__all__ = ["LOGIN_CLIENTS", "LOGIN_STEPS", "against_new_servers", "login_document", "logins"]

REPOSITORY = Path(__file__).resolve().parent.parent
GUARDED = REPOSITORY / "tests" / "rig" / "served" / "guarded.py"
BROWSER = REPOSITORY / "tests" / "rig" / "browser.py"
LOGIN_SECONDS = 180
TOKEN_SECONDS, RENEWED_SECONDS = 6, 60
"""How long the token of a login lives, and one that takes its place: clients are seen to get one, and no step is too slow for it."""

LOGIN_STEPS = ("login", "list", "call", "refresh", "step-up")
ALL_BUT_STEP_UP = LOGIN_STEPS[:-1]
"""For clients that do not get more scopes, or not always."""

LOGIN_CLIENTS = (
    ClientUnderTest("trio-mcp login", "login_trio_mcp.py", "legacy", LOGIN_STEPS),
    ClientUnderTest("trio-mcp login", "login_trio_mcp.py", "auto", LOGIN_STEPS),
    ClientUnderTest("Python mcp 2.3", "login_python_2_3.py", "legacy", LOGIN_STEPS),
    ClientUnderTest("Python mcp 2.3", "login_python_2_3.py", "auto", LOGIN_STEPS),
    ClientUnderTest("FastMCP 4.2", "login_fastmcp.py", "auto", LOGIN_STEPS),
    ClientUnderTest("TypeScript sdk 1.32", "login_typescript_1_32.mjs", "legacy", ALL_BUT_STEP_UP),
    ClientUnderTest("TypeScript client 2.4", "login_typescript_2_4.mjs", "legacy", LOGIN_STEPS),
    ClientUnderTest("TypeScript client 2.4", "login_typescript_2_4.mjs", "auto", LOGIN_STEPS),
    ClientUnderTest("mcp-remote 0.15", "login_mcp_remote.mjs", "legacy", ALL_BUT_STEP_UP),
    ClientUnderTest("Inspector CLI 2.12", "login_inspector.py", "legacy", ALL_BUT_STEP_UP),
    ClientUnderTest("Inspector CLI 2.12", "login_inspector.py", "auto", ALL_BUT_STEP_UP),
)


def login_environment(folder: Path) -> dict[str, str]:
    """What a client finds around it: a home in `folder` without files in it, and a browser that logs in."""
    programs = folder / "bin"
    programs.mkdir()
    opener = programs / "xdg-open"
    opener.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{BROWSER}" "$1"\n')
    opener.chmod(opener.stat().st_mode | stat.S_IXUSR)
    usual = environment()
    return {
        **usual,
        "PATH": f"{programs}{os.pathsep}{usual['PATH']}",
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder),
        "BROWSER": f"{opener} %s &",
        "BROWSER_SCRIPT": str(BROWSER),
        "PYTHON": sys.executable,
    }


def _verdicts(client: ClientUnderTest, url: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        return verdicts(client, url, login_environment(Path(folder)), seconds=LOGIN_SECONDS)


def logins(wanted: Callable[[ClientUnderTest], bool]) -> dict[ClientUnderTest, dict[str, str]]:
    """The verdicts of the clients that are `wanted`, each against a server and an authorization server of its own."""
    return {client: trio.run(against_new_servers, client) for client in LOGIN_CLIENTS if wanted(client)}


async def against_new_servers(client: ClientUnderTest) -> dict[str, str]:
    """`ok` or the reason for each step; raises `MissingNode` when something is not installed."""
    async with authorization_server(seconds=TOKEN_SECONDS, renewed_seconds=RENEWED_SECONDS) as server:
        settings = {"ISSUER": server.issuer, "RESOURCE": "http://127.0.0.1:{port}/mcp", "LEEWAY": "0"}
        with served((sys.executable, "-m", "trio_mcp", "serve", str(GUARDED), "--port", "{port}"), settings) as guarded:
            found = await trio.to_thread.run_sync(partial(_verdicts, client, guarded.url))
        refused = [line for line in server.requests if line.startswith("refused ")]
        return {step: said if said == "ok" or not refused else f"{said}; {refused}" for step, said in found.items()}


def login_document(text: str) -> str:
    """The part of docs/clients.md about logins."""
    return (
        "\n## Logins\n\n"
        f"Each client against `tests/rig/served/guarded.py` and npm `oidc-provider` on loopback. The token of a login lives {TOKEN_SECONDS} s,\n"
        f"one that takes its place {RENEWED_SECONDS} s. *login*: from a 401 over the metadata, a registration and the login page to a token;\n"
        "*refresh*: a call after the token has expired, without a person; *step-up*: a tool that needs another scope, from the 403 to its result.\n\n"
        f"{text}\n"
        "A hyphen: on a 403 the client renews its token, and gets the same scopes again (TypeScript 1.32 says `403 after trying\n"
        "upscoping`, the Inspector `auth() returned AUTHORIZED`); mcp-remote gets them in some runs, and in\n"
        "others loses its login to the renewal of a token. `trio-mcp` opens no browser by itself: it names the login that\n"
        "brings the scope. The Inspector needs `MCP_AUTO_OPEN_ENABLED=true` off a terminal.\n"
    )
