"""A real Traefik with the static file we ship, but for where it listens and whom it asks for routes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import yaml

from tests.deploy.shipped import parsed
from tests.rig.http_connection import Broken, HttpConnection, Response, fetch
from tests.rig.ports import free_ports
from tests.rig.traefik import binary
from tests.rig.waiting import until
from trio_mcp.transports.listener import Receive, Scope, Send, open_listeners, serve

__all__ = ["Balancer", "Pod", "balancer"]


class Balancer:
    """A running Traefik; `url` is its entry point, `own_url` its own, `file` its configuration, `log` what it writes to."""

    def __init__(self, folder: Path, provider: Mapping[str, Any], *, dev: bool) -> None:
        self.log = folder / "traefik.log"
        self.file = folder / "traefik.yaml"
        static = parsed("traefik/dev/traefik.yaml" if dev else "traefik/traefik.yaml")
        ports = dict(zip((*static["entryPoints"], "traefik"), free_ports(4), strict=False))
        static["entryPoints"]["traefik"] = {}
        for name, entry_point in static["entryPoints"].items():
            entry_point["address"] = f"127.0.0.1:{ports[name]}"
        # Throttled to two seconds, as it is by default, every change of a test would take that long.
        static["providers"] = {"providersThrottleDuration": "100ms", **provider}
        self.file.write_text(yaml.safe_dump({**static, "api": {"insecure": True, "dashboard": False}}))
        self.url = f"http://127.0.0.1:{ports['web']}" if dev else f"https://127.0.0.1:{ports['websecure']}"
        self.plain_url = f"http://127.0.0.1:{ports['web']}"
        self.internal_url = f"http://127.0.0.1:{ports['internal']}"
        self.own_url = f"http://127.0.0.1:{ports['traefik']}"
        self._api = f"{self.own_url}/api/http"

    async def open(self) -> trio.Process:
        """Start it; raises MissingTraefik when it is not installed."""
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        command = [str(binary()), f"--configFile={self.file}"]
        with self.log.open("wb") as log:
            return await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.file.parent, env=clean
            )

    async def get(self, path: str, *, host: str = "", **headers: str) -> Response:
        """A request through the entry point, on a connection of its own."""
        connection = await HttpConnection.open(self.url)
        try:
            connection.host = host or connection.host
            await connection.request("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})
            return await connection.response()
        finally:
            connection.close()

    async def listed(self, what: str) -> dict[str, Any]:
        """`routers`, `services` or `middlewares` by name, without Traefik's own; none while it starts."""
        try:
            response = await fetch(f"{self._api}/{what}?per_page=1000")
        except (OSError, Broken):
            return {}
        found = response.json() if response.status == 200 else []
        return {each["name"].partition("@")[0]: each for each in found if each["provider"] != "internal"}

    async def loaded(self, routers: int) -> dict[str, Any]:
        """Wait for so many routers; all of them must be enabled."""

        async def asked() -> dict[str, Any]:
            found = await self.listed("routers")
            return found if len(found) == routers else {}

        found = await until(asked, f"{routers} routers in Traefik")
        assert {router["status"] for router in found.values()} == {"enabled"}
        return found

    def access_log(self) -> list[dict[str, Any]]:
        """Its lines, one for each request that has ended."""
        whole, _, _unfinished = self.log.read_text().rpartition("\n")
        lines = (line for line in whole.splitlines() if line.startswith("{"))
        return [line for line in map(json.loads, lines) if "RouterName" in line]


@asynccontextmanager
async def balancer(folder: Path, provider: Mapping[str, Any], *, dev: bool = False) -> AsyncIterator[Balancer]:
    """Traefik for the length of the block; `provider` is what stands under `providers`."""
    found = Balancer(folder, provider, dev=dev)
    process = await found.open()
    try:
        yield found
    finally:
        # By SIGTERM it would wait for its graceTimeOut.
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()


class Pod:
    """What answers with its own name, and to probes as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.ready = True
        self.heard: list[bytes] = []
        """The names of every header it was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200, but for a probe that fails."""
        self.heard += [header for header, _ in scope["headers"]]
        failing = {"/livez": not self.alive, "/readyz": not self.ready}.get(scope["path"], False)
        await send({"type": "http.response.start", "status": 503 if failing else 200, "headers": []})
        await send({"type": "http.response.body", "body": self.name.encode()})

    async def listen(self, nursery: trio.Nursery, port: int, host: str = "127.0.0.1") -> trio.CancelScope:
        """Serve there until the scope is cancelled: then connections are refused."""

        async def run(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            listeners = await open_listeners([f"{host}:{port}"])
            with trio.CancelScope() as scope:
                task_status.started(scope)
                await serve(self, listeners)

        found: trio.CancelScope = await nursery.start(run)
        return found
