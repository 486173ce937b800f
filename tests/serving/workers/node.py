"""A node with workers as a test has it: its supervisor, its workers, clients that use its sessions."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.rig.client import LegacyClient
from tests.rig.http_connection import fetch
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from tests.serving.process import ServedProcess, served

__all__ = ["SERVER", "Clients", "WorkersNode", "node"]

SERVER = Path(__file__).parent / "server.py"


@dataclass
class WorkersNode:
    """A supervisor and what its log says of its workers."""

    run: ServedProcess
    admin_port: int
    count: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.run.port}/mcp"

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines with that name."""
        found = [json.loads(line) for line in self.run.lines if line.startswith("{")]
        return [each for each in found if each["event"] == name]

    @property
    def pids(self) -> set[int]:
        """The workers that are ready, as the log has them."""
        ready = [each["pid"] for each in self.events("worker ready")]
        return {pid for pid in ready if Path(f"/proc/{pid}/stat").exists()}

    async def all_ready(self) -> None:
        """Wait until every place has a worker that is ready."""

        async def asked() -> bool:
            return (await self.metrics()).get("trio_mcp_workers") == self.count

        await until(asked, f"{self.count} workers are ready")

    async def ask_admin(self, path: str, method: str = "GET") -> Any:
        """What the admin listener answers."""
        return await fetch(f"http://127.0.0.1:{self.admin_port}{path}", method=method)

    async def metrics(self) -> dict[str, float]:
        """The samples without labels."""
        page = (await self.ask_admin("/metrics")).body.decode()
        return {
            line.split()[0]: float(line.split()[1]) for line in page.splitlines() if line[:1] != "#" and "{" not in line
        }

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        self.run.process.send_signal(number)

    async def ended(self) -> int:
        """The supervisor's exit code."""
        return await self.run.process.wait()


@asynccontextmanager
async def node(
    *flags: str, workers: int = 2, target: Path = SERVER, certificate: Path | None = None
) -> AsyncIterator[WorkersNode]:
    """Serve `target` with so many workers for the length of the block; all of them are ready. With a certificate over TLS."""
    if certificate is not None:
        flags = (*flags, "--server", "hypercorn", "--certfile", str(certificate))
    (admin_port,) = free_ports(1)
    async with served(
        "--workers", str(workers), "--admin-bind", f"127.0.0.1:{admin_port}", *flags, target=target
    ) as run:
        made = WorkersNode(run, admin_port, workers, "http" if certificate is None else "https")
        try:
            await made.all_ready()
            yield made
        finally:
            # A supervisor that is killed leaves its workers to end by themselves.
            if run.process.poll() is None:
                made.signal(signal.SIGTERM)
                with trio.move_on_after(30, shield=True):
                    await made.ended()


@dataclass
class Clients:
    """Sessions of one node, each of one client, and which process has each."""

    node: WorkersNode
    clients: list[LegacyClient] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    async def open(self, count: int) -> None:
        """Open sessions until there are `count` and every worker has some."""

        async def spread() -> bool:
            client = LegacyClient(self.node.url, fresh=True)
            answer = await client.initialize()
            assert not answer.error, answer
            self.clients.append(client)
            self.owners.append(await self.process(client))
            return len(self.clients) >= count and len(set(self.owners)) == self.node.count

        await until(spread, "every worker has sessions", pause=0)

    async def fill(self, count: int) -> None:
        """Open so many, as many as the node may have: it is 503 until a worker that is full has heard of one with room."""

        async def opened() -> bool:
            client = LegacyClient(self.node.url, fresh=True)
            if (await client.initialize()).status != 200:
                return False
            self.clients.append(client)
            # One that was used makes no room for another.
            self.owners.append(await self.process(client))
            return True

        for number in range(count):
            await until(opened, f"session {number} is opened", pause=0.1)

    async def process(self, client: LegacyClient) -> int:
        """The process that answers the client."""
        answer = await client.tool("process")
        assert not answer.error, answer
        return int(answer.told["process"])


def alive(pid: int) -> bool:
    """Whether there is such a process, that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def all_gone(pids: Sequence[int]) -> None:
    """Wait until none of the processes runs."""

    async def asked() -> bool:
        return not any(alive(pid) for pid in pids)

    await until(asked, "the workers have ended")
