"""WebSockets through nginx, as docs/websocket.md says that it is set up: `python -m tools.websocket_nginx`.

Exits 1, and says what was other than it should be.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import trio
from trio_websocket import ConnectionRejected

from tests.rig.http_connection import Broken, fetch
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from tests.rig.websocket import websocket
from tools.checks import Wrong, done, exit_code, expect
from tools.clients import CLIENTS, verdicts
from tools.node import MissingNode
from tools.served import EVERYTHING, Served, ServerFailed, served

__all__ = ["main"]

QUIET_SECONDS = 1
"""proxy_read_timeout, which is 60 unless set."""
STOP_SECONDS = 10.0
CONFIGURATION = """
worker_processes 1;
daemon off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{node};
            proxy_set_header Host $http_host;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout {quiet}s;
        }}
    }}
}}
"""


@asynccontextmanager
async def nginx(node: int) -> AsyncIterator[str]:
    """One that passes everything on to the node on that port; the URL of the endpoint through it. Raises Wrong where it is not installed."""
    program = which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise Wrong("nginx is not installed. Install it with: make websocket-nginx (or: apt-get install nginx-light)")
    (port,) = free_ports(1)
    with TemporaryDirectory() as folder:
        settings = Path(folder) / "nginx.conf"
        settings.write_text(CONFIGURATION.format(port=port, node=node, quiet=QUIET_SECONDS))
        command = [program, "-p", folder, "-c", str(settings), "-e", str(Path(folder) / "error.log")]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"

        async def answers() -> bool:
            try:
                return (await fetch(f"{url}/livez")).status == 200
            except (OSError, Broken):
                return False

        try:
            await until(answers, "nginx answers")
            yield f"{url}/mcp"
        finally:
            process.terminate()
            with trio.move_on_after(STOP_SECONDS, shield=True):
                await process.wait()


async def clients_get_through(url: str, server: Served) -> None:
    """Those that people use."""
    for client in CLIENTS:
        if client.mode == "websocket":
            found = await trio.to_thread.run_sync(verdicts, client, url)
            expect(client.id, found, dict.fromkeys(client.steps, "ok"))


async def pings_keep_it_open(url: str, server: Served) -> None:
    """With a ping every 0.3 s nothing is quiet for as long as nginx waits."""
    async with websocket(url) as client:
        await client.initialize()
        with trio.move_on_after(3 * QUIET_SECONDS):
            expect("the end of a quiet connection", await client.ended(), None)
        expect("a call after that", await client.tool("add", a=1, b=2), "3")


async def refusals_get_through(url: str, server: Served) -> None:
    """With the status that a client gets without nginx."""
    for status, protocols, headers in ((400, ["foo"], []), (403, ["mcp"], [("origin", "https://evil.example")])):
        try:
            async with websocket(url, protocols=protocols, headers=headers):
                raise Wrong(f"it was accepted, not refused with {status}")
        except ConnectionRejected as refused:
            expect("the status", refused.status_code, status)


async def a_stop_gets_through(url: str, server: Served) -> None:
    """1001 from the node, which is told to stop."""
    async with websocket(url) as client:
        await client.initialize()
        server.process.send_signal(signal.SIGTERM)
        expect("the end", await client.ended(), 1001)


async def quiet_ones_are_cut(url: str, server: Served) -> None:
    """Why `--keepalive` has to be below proxy_read_timeout."""
    async with websocket(url) as client:
        await client.initialize()
        expect("the end without pings", await client.ended(), 1006)
    async with websocket(url) as client:
        await client.initialize()
        server.process.kill()
        expect("the end of a node that was killed", await client.ended(), 1006)


CHECKS = {
    "0.3": (clients_get_through, pings_keep_it_open, refusals_get_through, a_stop_gets_through),
    "15": (quiet_ones_are_cut,),
}


async def run() -> None:
    """Every check, with the `--keepalive` that it is about."""
    for keepalive, checks in CHECKS.items():
        flags = ("--websocket", "--keepalive", keepalive, "--drain-timeout", "2")
        with served((*EVERYTHING, *flags)) as server:
            async with nginx(server.port) as url:
                for check in checks:
                    await check(url, server)
                    done(check)


def main() -> int:
    """0 when all is as it should be."""
    return exit_code(run, MissingNode, ServerFailed)


if __name__ == "__main__":
    sys.exit(main())
