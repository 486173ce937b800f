"""A real redis-server on loopback that can be stopped, frozen and started anew; Sentinels that watch one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.rig.ports import free_ports
from tests.rig.waiting import PATIENCE, until

__all__ = ["Monitor", "RedisServer", "redis_sentinel", "redis_server"]

INSTALL = "sudo apt-get install redis-server"


class RedisServer:
    """A redis-server that can be stopped and started again on the same port and folder."""

    def __init__(self, folder: Path, port: int, arguments: Sequence[str]) -> None:
        self.folder = folder
        self.port = port
        self._arguments = arguments
        self._process: trio.Process | None = None

    @property
    def url(self) -> str:
        """What TRIO_MCP_REDIS_URL takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "redis-server does not run"
        return self._process.pid

    async def start(self, *, empty: bool = False) -> None:
        """Start it and wait until it answers; what the folder keeps comes back unless it shall be `empty`."""
        if empty:
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = await trio.lowlevel.open_process(
            [*_command(), *self._arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=self.folder
        )
        await until(self._answers, f"redis-server answers on port {self.port}", pause=0.02)

    async def stop(self) -> None:
        """SIGKILL, and wait for the end; also when it is frozen, or stopped already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        await process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on."""
        os.kill(self.pid, signal.SIGCONT)

    async def ask(self, *words: str) -> Any:
        """The reply to one command, on a connection of its own; an error of Redis' raises AssertionError."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            connection = _RespConnection(stream)
            await connection.send(*words)
            return await connection.reply()

    @asynccontextmanager
    async def monitor(self) -> AsyncIterator[Monitor]:
        """See every command that Redis gets during the block."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream, trio.open_nursery() as nursery:
            connection = _RespConnection(stream)
            await connection.send("MONITOR")
            assert await connection.reply() == b"OK"
            monitor = Monitor()
            nursery.start_soon(monitor.collect, connection)
            yield monitor
            nursery.cancel_scope.cancel("seen enough")

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"redis-server ended:\n{self._log()}"
        try:
            return bool(await self.ask("PING"))
        except (OSError, trio.BrokenResourceError):
            return False
        except AssertionError as refusal:
            return "LOADING" not in str(refusal)  # one that wants a password is ready all the same

    def _log(self) -> str:
        log = self.folder / "redis.log"
        return log.read_text() if log.exists() else "(no log)"


class Monitor:
    """What MONITOR says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def collect(self, connection: _RespConnection) -> None:
        """Until the connection ends."""
        while line := await connection.line():
            self.lines.append(line[1:].decode())

    async def says(self, text: str) -> str:
        """Wait for a line with `text` in it."""

        async def asked() -> str:
            return next((line for line in self.lines if text in line), "")

        return await until(asked, f"Redis is asked for {text}")


class _RespConnection:
    """A connection that speaks as much of Redis' protocol as tests need."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""

    async def send(self, *words: str) -> None:
        parts = [word.encode() for word in words]
        await self._stream.send_all(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        )

    async def reply(self) -> Any:
        line = await self.line()
        kind, value = line[:1], line[1:]
        assert kind != b"-", value.decode()
        match kind:
            case b":":
                return int(value)
            case b"$":
                return None if value == b"-1" else (await self._take(int(value) + 2))[:-2]
            case b"*":
                return None if value == b"-1" else [await self.reply() for _ in range(int(value))]
            case _:
                return value

    async def line(self) -> bytes:
        """Without its end; empty when the connection ended."""
        while b"\r\n" not in self._rest:
            if not await self._more():
                return b""
        line, self._rest = self._rest.split(b"\r\n", 1)
        return line

    async def _take(self, count: int) -> bytes:
        while len(self._rest) < count:
            if not await self._more():
                raise trio.BrokenResourceError("Redis closed the connection")
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    async def _more(self) -> bool:
        data = await self._stream.receive_some(65536)
        self._rest += data
        return bool(data)


@asynccontextmanager
async def redis_server(
    folder: Path, *, port: int | None = None, appendonly: bool = False, extra: Sequence[str] = ()
) -> AsyncIterator[RedisServer]:
    """Started, with its files in a folder within `folder`; killed at the end of the block."""
    port = port or free_ports(1)[0]
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--logfile", "redis.log"]
    arguments += ["--appendonly", "yes" if appendonly else "no", "--repl-diskless-sync-delay", "0", *extra]
    async with _running(RedisServer(folder / f"redis-{port}", port, arguments)) as server:
        yield server


@asynccontextmanager
async def redis_sentinel(
    folder: Path, watched: RedisServer, *, name: str = "mymaster", extra: Sequence[str] = ()
) -> AsyncIterator[RedisServer]:
    """A Sentinel that decides alone; `extra` are lines for its configuration."""
    (port,) = free_ports(1)
    home = folder / f"sentinel-{port}"
    home.mkdir(parents=True)
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        'logfile "redis.log"',
        f"sentinel monitor {name} 127.0.0.1 {watched.port} 1",
        f"sentinel down-after-milliseconds {name} 500",
        f"sentinel failover-timeout {name} 2000",
        *extra,
    ]
    (home / "sentinel.conf").write_text("\n".join(lines) + "\n")
    async with _running(RedisServer(home, port, ["sentinel.conf", "--sentinel"])) as sentinel:
        yield sentinel


@asynccontextmanager
async def _running(server: RedisServer) -> AsyncIterator[RedisServer]:
    try:
        await server.start()
        yield server
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await server.stop()


def _command() -> list[str]:
    found = shutil.which("redis-server")
    assert found is not None, f"redis-server is missing: {INSTALL}"
    return [found]
