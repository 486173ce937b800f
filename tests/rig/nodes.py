"""One node as an operator sees it: a process that can be killed, paused and started anew under the same name and port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from benchmarks.machine import family
from tests.rig.http_connection import Broken, fetch
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from tests.serving.process import ServedProcess
from tests.serving.workers.node import all_gone

__all__ = ["SERVER", "Node"]

SIGNAL_SECONDS = 0.3
"""Between two signals: the second of two pending ones is lost."""
STOP_SECONDS = 20.0
SERVER = Path(__file__).parent / "served" / "server.py"
"""In a folder of its own: modules beside it would hide libraries of the same name, such as `redis`."""


@dataclass(slots=True)
class Node:
    """`trio-mcp serve`, as often as it is started; what all its processes logged."""

    name: str
    nursery: trio.Nursery
    target: Path = SERVER
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_ports(1)[0])
    admin_port: int = field(default_factory=lambda: free_ports(1)[0])
    host: str = "127.0.0.1"
    """The host in its advertised URL."""
    runs: list[ServedProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where peers and Traefik reach it."""
        return f"http://{self.host}:{self.port}"

    @property
    def admin(self) -> str:
        """Its admin listener."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def run(self) -> ServedProcess:
        """The latest process."""
        return self.runs[-1]

    @property
    def process(self) -> trio.Process:
        """The latest process, as Trio has it."""
        return self.run.process

    @property
    def workers(self) -> int:
        """How many it shall have; 1 where it is one process."""
        return int(dict(pairwise(self.flags)).get("--workers", 1))

    @property
    def worker_pids(self) -> list[int]:
        """Those of the workers that run, or start; none where it is one process."""
        return sorted(set(family(self.process.pid)) - {self.process.pid}) if self.alive else []

    @property
    def lines(self) -> list[str]:
        """What all its processes logged, oldest first."""
        return [line for run in self.runs for line in run.lines]

    def events(self, text: str = "") -> list[dict[str, Any]]:
        """Its JSON log lines that contain `text`."""
        return [json.loads(line) for line in self.lines if text in line and line.startswith("{")]

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        await self.launch()
        await self.ready()

    async def launch(self) -> None:
        """Start it and wait for nothing."""
        command = [sys.executable, "-m", "trio_mcp", "serve", str(self.target), "--port", str(self.port)]
        command += [
            "--admin-bind",
            f"127.0.0.1:{self.admin_port}",
            "--advertise-url",
            f"http://{self.host}:{self.port}",
        ]
        process = await trio.lowlevel.open_process(
            [*command, "--log-format", "json", *self.flags],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TRIO_MCP_NODE_ID": self.name, **self.environment},
        )
        self.runs.append(ServedProcess(process))
        self.nursery.start_soon(self.run.read)

    async def ready(self) -> None:
        """Wait until `/readyz` says so; raises AssertionError with its log when it ended instead."""

        async def asked() -> bool:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.run.log}"
            return await self.probe("/readyz") == 200

        await until(asked, f"{self.name} is ready")

    async def probe(self, path: str, patience: float = 2) -> int:
        """The status of `/livez` or `/readyz`; 0 without an answer within so many seconds."""
        with trio.move_on_after(patience):
            try:
                return (await fetch(self.url + path)).status
            except (OSError, Broken):
                return 0
        return 0

    async def boot(self) -> str:
        """The id of the process that answers."""
        return str((await fetch(f"{self.url}/livez")).json()["boot"])

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return bool(self.runs) and self.process.poll() is None

    async def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's memory killer would; to its workers, too."""
        workers = self.worker_pids
        if self.alive:
            self.process.kill()
        await self.process.wait()
        self.signal(signal.SIGKILL, workers)
        await all_gone(workers)

    async def terminate(self) -> int:
        """SIGTERM, as a deploy would, and wait for its end; the exit status."""
        self.process.terminate()
        return await self.process.wait()

    async def stop(self) -> None:
        """End it at once whatever it does: by a second SIGTERM, else by SIGKILL."""
        if self.alive:
            self.resume()
            for patience in (SIGNAL_SECONDS, STOP_SECONDS):
                self.process.terminate()
                with trio.move_on_after(patience):
                    await self.process.wait()
                    return
        await self.kill()

    async def restart(self) -> None:
        """SIGTERM, wait, start anew under the same name and port, wait until it is ready."""
        if self.alive:
            await self.terminate()
        await self.start()

    def pause(self) -> None:
        """SIGSTOP to all its processes: it keeps its sockets and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        self.signal(signal.SIGSTOP, self.worker_pids)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT, self.worker_pids)
        self.process.send_signal(signal.SIGCONT)

    @staticmethod
    def signal(number: signal.Signals, pids: Iterable[int]) -> None:
        """Send that to those of its workers that have not ended."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def metrics(self) -> dict[str, float]:
        """Its metrics, `name{labels}` → value."""
        text = (await fetch(f"{self.admin}/metrics")).body.decode()
        found = re.findall(r"^([a-zA-Z_:][^ ]*(?:\{.*\})?) ([-+.\deNaInf]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over its labels but those given; 0 when it was never counted."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = await self.metrics()
        return sum(
            value
            for key, value in found.items()
            if key.partition("{")[0] == name and all(label in key for label in wanted)
        )

    async def sessions(self) -> list[dict[str, Any]]:
        """The sessions that live on it, by its admin listener."""
        found: list[dict[str, Any]] = (await fetch(f"{self.admin}/sessions")).json()
        return found
