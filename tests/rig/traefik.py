"""A real Traefik on loopback: our static configuration with free ports, a dynamic file that can be replaced, its access log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
import yaml

from tests.rig.http_connection import Broken, fetch
from tests.rig.ports import free_ports
from tests.rig.waiting import PATIENCE, until
from tests.serving.process import ServedProcess
from trio_mcp.cli.export import traefik_static

__all__ = ["MissingTraefik", "Routed", "Traefik", "binary", "traefik"]

_LOGGED_HEADERS = ("Mcp-Session-Id", "Trio-Mcp-Relay", "Set-Cookie", "Cookie")


class MissingTraefik(RuntimeError):
    """Traefik is not installed; the text names the command that installs it."""


def binary() -> Path:
    """Traefik's executable; raises MissingTraefik."""
    found = Path(sys.executable).parent / "traefik"
    if not found.exists():
        raise MissingTraefik("Traefik is not installed here. Install it with: make .venv/.traefik")
    return found


@dataclass(frozen=True, slots=True)
class Routed:
    """A line of the access log: one request, written when its response ended."""

    line: Mapping[str, Any]

    @property
    def method(self) -> str:
        return str(self.line["RequestMethod"])

    @property
    def path(self) -> str:
        return str(self.line["RequestPath"])

    @property
    def status(self) -> int:
        """What the client saw."""
        return int(self.line["DownstreamStatus"])

    @property
    def router(self) -> str:
        """Without its provider: `mcp` for `mcp@file`."""
        return str(self.line.get("RouterName", "")).partition("@")[0]

    @property
    def server(self) -> str:
        """The URL of the node it went to; "" when Traefik itself answered."""
        return str(self.line.get("ServiceURL", ""))

    @property
    def session_id(self) -> str:
        """The request's, "" without one."""
        return str(self.line.get("request_Mcp-Session-Id", ""))

    @property
    def owner(self) -> str:
        """The node that the session id names."""
        return self.session_id.rpartition(".")[0]

    @property
    def relay(self) -> str:
        """`node1 to node2` when node1 relayed it, else ""."""
        return str(self.line.get("origin_Trio-Mcp-Relay", self.line.get("downstream_Trio-Mcp-Relay", "")))


class Traefik:
    """A running Traefik. `url` is its TLS entry point; its certificate is its own, so clients must not verify it."""

    def __init__(
        self, folder: Path, nursery: trio.Nursery, static: Mapping[str, Any], under: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._under = under
        self.runs: list[ServedProcess] = []
        self._nursery = nursery
        self._dynamic = folder / "dynamic" / "mcp.yaml"
        self._access = folder / "access.log"
        self.port, self.api_port = free_ports(2)
        self._static = _on_loopback(static, {"websecure": self.port, "traefik": self.api_port}, folder)

    @property
    def url(self) -> str:
        """The entry point, without a path."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def mcp_url(self) -> str:
        """What MCP clients are given."""
        return f"{self.url}/mcp"

    @property
    def api(self) -> str:
        """Its own entry point: `/api/…`, `/ping`."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def process(self) -> trio.Process:
        """The latest process."""
        return self.runs[-1].process

    async def start(self) -> None:
        """Start it and wait until it answers."""
        static = self.folder / "traefik.yaml"
        static.write_text(yaml.safe_dump(self._static))
        process = await trio.lowlevel.open_process(
            [*self._under, str(binary()), f"--configFile={static}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=_without_proxies(),
        )
        self.runs.append(ServedProcess(process))
        self._nursery.start_soon(self.runs[-1].read)
        await until(self._answers, "Traefik answers")

    async def stop(self) -> None:
        """SIGKILL, if it was started: after SIGTERM it would wait a minute for streams."""
        if not self.runs:
            return
        if self.process.poll() is None:
            # `strace` would leave what it runs behind.
            for pid in _children(self.process.pid) if self._under else ():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
        await self.process.wait()

    def load(self, dynamic: str) -> None:
        """Replace the dynamic configuration at once: Traefik must never read half a file."""
        draft = self.folder / "draft.yaml"
        draft.write_text(dynamic)
        draft.rename(self._dynamic)

    async def routers(self) -> dict[str, dict[str, Any]]:
        """Its routers by name, those of our file only."""
        listed = await self._ask("/api/http/routers?per_page=1000")
        return {router["name"].partition("@")[0]: router for router in listed if router["provider"] == "file"}

    async def services(self) -> dict[str, dict[str, Any]]:
        """Its services by name, those of our file only."""
        listed = await self._ask("/api/http/services?per_page=1000")
        return {service["name"].partition("@")[0]: service for service in listed if service["provider"] == "file"}

    async def settled(self, dynamic: str) -> None:
        """Wait until what `dynamic` says is loaded, every router is enabled and every server up."""
        http = yaml.safe_load(dynamic)["http"]

        async def asked() -> bool:
            routers, services = await self.routers(), await self.services()
            loaded = set(routers) == set(http["routers"]) and set(services) == set(http["services"])
            return loaded and all(map(_enabled, routers.values())) and all(map(_up, services.values()))

        await until(asked, "every router is enabled, every server up")

    def requests(self) -> list[Routed]:
        """The access log so far, but for a line that is being written."""
        if not self._access.exists():
            return []
        whole, _, _unfinished = self._access.read_text().rpartition("\n")
        return [Routed(json.loads(line)) for line in whole.splitlines()]

    async def _ask(self, path: str) -> Any:
        return (await fetch(f"{self.api}{path}")).json()

    async def _answers(self) -> bool:
        assert self.process.poll() is None, f"Traefik ended:\n{self.runs[-1].log}"
        try:
            return (await fetch(f"{self.api}/ping")).status == 200
        except (OSError, Broken):
            return False


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _on_loopback(static: Mapping[str, Any], ports: Mapping[str, int], folder: Path) -> dict[str, Any]:
    """The static configuration as shipped, but for where it listens, what it reads and what its log keeps."""
    found = json.loads(json.dumps(static))
    found["entryPoints"].setdefault("traefik", {})
    for name, entry_point in found["entryPoints"].items():
        port = ports.get(name) or free_ports(1)[0]
        entry_point["address"] = f"127.0.0.1:{port}"
    found["global"] = {"checkNewVersion": False, "sendAnonymousUsage": False}
    found["api"] = {"insecure": True, "dashboard": False}
    found["ping"] = {"entryPoint": "traefik"}
    found["accessLog"] = {
        "format": "json",
        "filePath": str(folder / "access.log"),
        "fields": {"headers": {"defaultMode": "drop", "names": dict.fromkeys(_LOGGED_HEADERS, "keep")}},
    }
    found["providers"] = {
        "providersThrottleDuration": "100ms",
        "file": {"directory": str(folder / "dynamic"), "watch": True},
    }
    return dict(found)


def _without_proxies() -> dict[str, str]:
    """Traefik's transport would ask them for the nodes."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _enabled(router: Mapping[str, Any]) -> bool:
    return bool(router["status"] == "enabled")


def _up(service: Mapping[str, Any]) -> bool:
    return all(status == "UP" for status in service.get("serverStatus", {}).values())


@asynccontextmanager
async def traefik(folder: Path, dynamic: str, *, under: Sequence[str] = ()) -> AsyncIterator[Traefik]:
    """Traefik with `dynamic` loaded, for the length of the block; it keeps its files in `folder`.

    `under` is a command that runs it, `strace` for example.
    """
    (folder / "dynamic").mkdir(parents=True)
    async with trio.open_nursery() as nursery:
        balancer = Traefik(folder, nursery, yaml.safe_load(traefik_static()), under)
        balancer.load(dynamic)
        try:
            await balancer.start()
            await balancer.settled(dynamic)
            yield balancer
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await balancer.stop()
            nursery.cancel_scope.cancel("Traefik is gone")
