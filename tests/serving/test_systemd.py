"""What a node tells systemd, whose part is played by the test: a datagram socket, the environment, a listening descriptor 3."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
import trio

from tests.rig.http_connection import fetch
from tests.serving.workers.node import SERVER
from trio_mcp.serving.systemd import Notifier, ready

WATCHDOG_SECONDS = 0.2


class Manager:
    """The socket that services tell their state."""

    def __init__(self, path: Path) -> None:
        self._socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = path
        self.heard: list[str] = []

    async def __aenter__(self) -> Self:
        await self._socket.bind(str(self.path))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._socket.close()

    async def hears(self, state: str) -> None:
        """Wait for a message that has the line."""
        while True:
            self.heard.append((await self._socket.recv(4096)).decode())
            if state in self.heard[-1].splitlines():
                return


@asynccontextmanager
async def service(manager: Manager, flags: Sequence[str]) -> AsyncIterator[tuple[trio.Process, int]]:
    """`trio-mcp serve` as systemd starts it, with a socket; the process and its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        # systemd passes the socket as descriptor 3.
        command = f'exec "$0" "$@" 3<&{listening.fileno()}'
        serve = [sys.executable, "-m", "trio_mcp", "serve", str(SERVER), "--bind", "fd://3", "--allowed-hosts", "*"]
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(manager.path),
            "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000)),
        }
        process = await trio.lowlevel.open_process(
            ["bash", "-c", command, *serve, *flags],
            env=environment,
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process, port
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_node_says_when_it_is_ready_that_it_lives_and_that_it_stops(workers: int, tmp_path: Path) -> None:
    async with (
        Manager(tmp_path / "notify") as manager,
        service(manager, ["--workers", str(workers)]) as (process, port),
    ):
        await manager.hears("READY=1")
        assert (await fetch(f"http://127.0.0.1:{port}/readyz")).status == 200
        await manager.hears("WATCHDOG=1")
        if workers > 1:
            process.send_signal(signal.SIGHUP)
            while not any("RELOADING=1" in each for each in manager.heard):
                await manager.hears("RELOADING=1")
            (reloading,) = [each for each in manager.heard if "RELOADING=1" in each]
            assert "MONOTONIC_USEC=" in reloading
            await manager.hears("READY=1")
        process.terminate()
        await manager.hears("STOPPING=1")
        assert await process.wait() == 0


def test_the_environment_is_not_passed_on_to_processes_that_the_node_starts() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "X": "1"}
    notifier = Notifier.taken_from(environ)
    assert (notifier.address, notifier.watchdog) == ("/run/notify", 30.0)
    assert environ == {"X": "1"}


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1000000"}, 1.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000000"}, None),
        ({}, None),
    ],
    ids=["for another process", "for any", "off", "nonsense", "a socket of another kind", "no manager"],
)
def test_the_watchdog_is_told_only_where_it_asks_for_this_process(
    environ: dict[str, str], watchdog: float | None
) -> None:
    assert Notifier.taken_from(dict(environ)).watchdog == watchdog


@pytest.mark.sockets
def test_a_name_in_the_abstract_namespace_and_a_manager_that_is_gone() -> None:
    name = f"@trio-mcp-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:])
        Notifier(name).tell(ready)
        assert listening.recv(100) == ready
    Notifier(name).tell(ready)
    Notifier().tell(ready)
