"""Every blocker, every way to stop, every front: the process ends, and what blocked it is named.

Over WebSockets the suite has a few cells; `make stop-matrix` has them all. Cells that cannot be: the admin's drain on stdio, which has no admin; and while the lifespan begins, for the admin listens after that.
Where the loop is blocked the admin's drain is asked for first: it is the loop that answers it.

A few cells stop a node of two workers. With `TRIO_MCP_WORKERS=4` in the environment (`make workers-matrix`) all cells of `serve` stop one of four.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.rig.waiting import until
from tests.serving.peer import Peer
from tests.serving.process import WORKERS
from tests.transports.listener.frames import handshake, text

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HANGS = 240.0
"""Against hanging only: a cell takes some three seconds, and the blockers ten minutes."""
AT_ONCE = 24 // WORKERS
"""Nodes at a time: some 24 processes."""

FRONTS = {
    "serve": ("serve",),
    "run http": ("run", "-t", "http"),
    "hypercorn": ("serve", "--server", "hypercorn"),
    'mcp.run("http")': ("script", "http"),
    "stdio": ("run",),
    "mcp.run()": ("script",),
}
TWO_WORKERS = "serve, two workers"
WORKERS_FRONTS = {TWO_WORKERS: ("serve", "--workers", "2")}
WEBSOCKET_FRONTS = {
    "serve, over a WebSocket": ("serve", "--websocket"),
    "hypercorn, over a WebSocket": ("serve", "--server", "hypercorn", "--websocket"),
}
STDIO = ("stdio", "mcp.run()")
STOPS = ("SIGTERM", "second SIGTERM", "SIGINT", "drain")


@dataclass(frozen=True)
class Blocker:
    """What it is, and what the log has to say of it."""

    blocks_the_loop: bool
    code: int
    """The process's, when nobody sends a second signal."""
    last_words: str = ""
    named: str = ""


HANDLERS = "stopped with handlers still running"
BLOCKERS = {
    "spin": Blocker(True, 0, HANDLERS, "in spin"),
    "sleep": Blocker(True, 0, HANDLERS, "in sleep"),
    "on_session": Blocker(True, 0, HANDLERS, "in hook"),
    "lifespan_enter": Blocker(True, 0, "stopped before the start was over", "in lifespan"),
    "lifespan_exit": Blocker(True, 1, "cleanup cut short", "in lifespan"),
    "shielded": Blocker(False, 0, HANDLERS, "tools/call shielded"),
    # It holds nothing up: its caller is answered, and the thread is left behind.
    "worker": Blocker(False, 0),
    "thread": Blocker(False, 0, "stopped with threads still running", "stray in blockers.py"),
    "full_stderr": Blocker(False, 0),
    "stalled_reader": Blocker(False, 0, "CLEANED"),
}

Cell = tuple[str, str, str]
"""Front, blocker, stop."""


def cells(fronts: Iterable[str]) -> list[Cell]:
    return [
        (front, blocker, stop)
        for front, blocker, stop in itertools.product(fronts, BLOCKERS, STOPS)
        if not (stop == "drain" and (front in STDIO or blocker == "lifespan_enter"))
    ]


WEBSOCKET_CELLS = cells(WEBSOCKET_FRONTS)
WORKERS_CELLS = {
    ("spin", "SIGTERM"),
    ("sleep", "second SIGTERM"),
    ("on_session", "drain"),
    ("full_stderr", "second SIGTERM"),
    ("lifespan_exit", "SIGINT"),
}
CELLS = (
    [
        *cells(FRONTS),
        *(cell for cell in cells(WORKERS_FRONTS) if cell[1:] in WORKERS_CELLS),
        *(cell for cell in WEBSOCKET_CELLS if cell[1:] in [("shielded", "SIGTERM"), ("stalled_reader", "drain")]),
    ]
    if WORKERS == 1
    else cells(["serve"])
)


class EndedEarly(Exception):
    """The process is gone before the cell was through with it."""


@dataclass
class Process:
    """One that the forker started, and what it has said on stderr."""

    folder: Path
    blocker: str
    workers: int = 1
    stderr: int = -1
    pid: int = 0
    status: int | None = None
    text: str = ""
    started: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    heard: trio.Event = field(default_factory=trio.Event)
    deaf: bool = False
    """Whether nobody reads its stderr any more."""

    async def says(self, words: str, times: int = 1) -> None:
        """Wait until it has."""
        while self.text.count(words) < times:
            if self.ended.is_set():
                raise EndedEarly(f"exit {self.status} before it said {words!r}\n{self.text}")
            self.heard = trio.Event()
            await self.heard.wait()

    async def listen(self, stderr: trio.abc.ReceiveStream) -> None:
        """Read its stderr until it is closed, or nobody reads it any more."""
        async for chunk in stderr:
            self.text += chunk.decode()
            self.heard.set()
            if self.deaf:
                return

    def read_rest(self) -> None:
        """Whatever it said last, once it has ended."""
        with suppress(BlockingIOError):
            while not self.deaf:
                self.text += os.read(self.stderr, 65536).decode()

    def events(self, name: str) -> list[dict[str, Any]]:
        # The last line may still be on its way.
        lines = [json.loads(line) for line in self.text.split("\n")[:-1] if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    @property
    def port(self) -> int:
        return int(self.events("ready")[0]["endpoint"].split(":")[2].partition("/")[0])

    def catches(self, number: signal.Signals) -> bool:
        """Whether it has a handler of its own."""
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False

    def signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            os.kill(self.pid, number)


class Forker:
    """Starts processes, and hears of their ends."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._reports = process.stdin, process.stdout
        self._starting = trio.Lock()
        self._started, self._pids = trio.open_memory_channel[int](1)
        self._running: dict[int, Process] = {}
        self._early: dict[int, int] = {}

    async def start(self, process: Process, argv: list[str], env: dict[str, str], pipes: dict[str, str]) -> None:
        async with self._starting:
            order = {"argv": argv, "env": env, "folder": str(process.folder), **pipes}
            await self._orders.send_all(json.dumps(order).encode() + b"\n")
            process.pid = await self._pids.receive()
            self._running[process.pid] = process
            if process.pid in self._early:
                self._ended(process.pid, self._early.pop(process.pid))

    async def hear(self) -> None:
        buffer = b""
        async for chunk in self._reports:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "status" in said:
                    self._ended(said["pid"], said["status"])
                else:
                    await self._started.send(said["pid"])

    def _ended(self, pid: int, status: int) -> None:
        process = self._running.pop(pid, None)
        if process is None:
            self._early[pid] = status
            return
        process.status = status
        process.ended.set()
        process.heard.set()


@asynccontextmanager
async def forking() -> AsyncIterator[Forker]:
    # Without coverage: it writes its data from whichever thread ends the process, which crashes an interpreter that is ending.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment = {**kept, "PYTHONPATH": str(ROOT)}
    async with trio.open_nursery() as nursery:
        program = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.serving.forker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        forker = Forker(program)
        nursery.start_soon(forker.hear)
        try:
            yield forker
        finally:
            program.kill()
            with trio.CancelScope(shield=True):
                await program.wait()
            nursery.cancel_scope.cancel("the test is over")


def settings(front: str, blocker: str, stop: str) -> dict[str, str]:
    """Short windows; where something has to happen within one, longer; where the second signal has to end it, endless."""
    cleanup, window = "0.2", "0.2"
    if stop == "drain":
        window = "5"
    elif stop == "second SIGTERM":
        cleanup = window = "600"
    elif blocker == "stalled_reader":
        # Its cleanup takes no time, and is not to be cut.
        cleanup = "60"
    found = {"LOG_FORMAT": "json", "DRAIN_TIMEOUT": window, "CLEANUP_TIMEOUT": cleanup}
    if front not in STDIO:
        found |= {"PORT": "0", "ADMIN_BIND": "unix:admin"}
    return {f"TRIO_MCP_{name}": value for name, value in found.items()}


def words(front: str) -> list[str]:
    """What the process is started with."""
    command, *rest = (FRONTS | WORKERS_FRONTS | WEBSOCKET_FRONTS)[front]
    server = str(HERE / "blockers.py")
    return [server, *rest] if command == "script" else [command, server, *rest]


@asynccontextmanager
async def started(forker: Forker, folder: Path, cell: Cell) -> AsyncIterator[tuple[Process, Talk]]:
    front, blocker, _ = cell
    process = Process(folder, blocker, 2 if front == TWO_WORKERS else WORKERS)
    pipes = {name: str(folder / name) for name in ("stdin", "stdout", "stderr")}
    for path in pipes.values():
        os.mkfifo(path)
    # For reading and writing: opening waits for nobody, and nobody sees an end of file by accident.
    ends = {name: os.open(path, os.O_RDWR | os.O_NONBLOCK) for name, path in pipes.items()}
    process.stderr = ends["stderr"]
    async with AsyncExitStack() as stack:
        stdin, stdout, stderr = [await stack.enter_async_context(trio.lowlevel.FdStream(ends[n])) for n in pipes]
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(process.listen, stderr)
        await forker.start(process, words(front), {"BLOCKER": blocker, **settings(*cell)}, pipes)
        try:
            async with AsyncExitStack() as peers:
                talk = WebSocketTalk if front in WEBSOCKET_FRONTS else Talk
                yield process, talk(process, stdin if front in STDIO else None, stdout, peers)
        finally:
            process.signal(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.ended.wait()
            nursery.cancel_scope.cancel("the cell is over")


class Talk:
    """The client's part, whatever carries it."""

    def __init__(
        self, process: Process, stdin: trio.abc.SendStream | None, stdout: trio.abc.ReceiveStream, stack: AsyncExitStack
    ) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self._stack = stack
        self._ids = itertools.count(1)

    async def ready(self) -> None:
        if self._stdin is None:
            workers = self._process.workers
            return await self._process.says('"worker ready"' if workers > 1 else '"event":"ready"', workers)
        await self._line("ping", {})
        await self._stdout.receive_some()

    async def tool(self, name: str) -> Peer | None:
        """Call it; read nothing."""
        params = {"name": name, "arguments": {}}
        if self._stdin is not None:
            await self._line("tools/call", {**params, "_meta": META})
            return None
        peer = await self._connect()
        await peer.modern(next(self._ids), "tools/call", params, name)
        return peer

    async def trigger(self, times: int) -> None:
        """Have the hook of the session go on, which is in one of the workers."""
        with trio.CancelScope() as said:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._trigger_all)
                await self._process.says("BEGAN", times)
                said.cancel("it goes on")

    async def _trigger_all(self) -> None:
        peer = await self.tool("trigger")
        while self._process.workers > 1 and peer is not None:
            await peer.answer()
            peer = await self.tool("trigger")

    async def initialize(self) -> None:
        """Ask for a session; read nothing."""
        if self._stdin is not None:
            return await self._line("initialize", OFFER)
        peer = await self._connect()
        await peer.request("POST", {}, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": OFFER})

    async def drain(self) -> None:
        assert b" 202 " in await self._admin(b"POST /drain")

    async def is_draining(self) -> bool:
        """As the admin tells it, where nobody reads the log."""
        return b"draining" in await self._admin(b"GET /readyz")

    @property
    def is_stdio(self) -> bool:
        return self._stdin is not None

    async def _admin(self, request: bytes) -> bytes:
        async with await trio.open_unix_socket(self._process.folder / "admin") as admin:
            await admin.send_all(request + b" HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            return bytes(await admin.receive_some())

    async def _connect(self) -> Peer:
        stream = await trio.open_tcp_stream("127.0.0.1", self._process.port)
        return Peer(await self._stack.enter_async_context(stream))

    async def _line(self, method: str, params: dict[str, Any]) -> None:
        assert self._stdin is not None
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        await self._stdin.send_all(json.dumps(message).encode() + b"\n")


class WebSocketTalk(Talk):
    """All of it on one WebSocket, which is open before the stop begins: a node that drains accepts none."""

    _socket: trio.SocketStream | None = None

    async def ready(self) -> None:
        await super().ready()
        if self._socket is None:
            self._socket = (await self._connect()).stream
            await self._socket.send_all(handshake("GET /mcp HTTP/1.1", Host="localhost"))
            assert b" 101 " in await self._socket.receive_some()

    async def tool(self, name: str) -> Peer | None:
        await self._line("tools/call", {"name": name, "arguments": {}, "_meta": META})
        return None

    async def initialize(self) -> None:
        await self._line("initialize", OFFER)

    async def _line(self, method: str, params: dict[str, Any]) -> None:
        assert self._socket is not None
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        await self._socket.send_all(text(json.dumps(message)))


OFFER = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


async def begin(process: Process, talk: Talk, times: int = 1) -> None:
    """Have the blocker block."""
    match process.blocker:
        case "lifespan_enter":
            await process.says("BEGAN")
        case "lifespan_exit":
            await talk.ready()
        case "on_session":
            await talk.ready()
            if times == 1:
                await talk.initialize()
                await process.says("BEGAN")
            await talk.trigger(times + 1)
        case "full_stderr":
            await talk.ready()
            # Something has to keep a drain open.
            await talk.tool("wait")
            await process.says("BEGAN", times)
            process.deaf = True
            for _ in range(40):
                peer = await talk.tool("crash")
                if peer is not None:
                    await peer.answer()
        case "stalled_reader":
            await talk.ready()
            await talk.tool("flood")
            await process.says("BEGAN", times)
        case tool:
            await talk.ready()
            await talk.tool(tool)
            await process.says("BEGAN", times)


async def stop(process: Process, talk: Talk, how: str) -> None:
    """Have it block, and stop it; the order is the cell's."""
    if how == "drain":
        await talk.ready()
        if BLOCKERS[process.blocker].blocks_the_loop and process.blocker != "lifespan_exit":
            if process.blocker == "on_session":
                # A node that drains opens none.
                await talk.initialize()
                await process.says("BEGAN")
            waiting = process.text.count("BEGAN") + 1
            await talk.tool("wait")
            await process.says("BEGAN", waiting)
            await talk.drain()
            await process.says('"event":"draining"')
            return await begin(process, talk, 2)
        await begin(process, talk)
        return await talk.drain()
    await begin(process, talk)
    process.signal(signal.SIGINT if how == "SIGINT" else signal.SIGTERM)
    if how == "second SIGTERM":
        await _until_heeded(process, talk)
        process.signal(signal.SIGTERM)


async def _until_heeded(process: Process, talk: Talk) -> None:
    """Two signals that wait are one: the first has to be taken. Then the second has its default action; a supervisor tells that it stops."""

    async def has_default_action() -> bool:
        return process.ended.is_set() or not process.catches(signal.SIGTERM)

    if process.workers > 1 and process.deaf:
        await until(talk.is_draining, "the first signal is taken")
    elif process.workers > 1:
        await process.says('"event":"node stops"')
    else:
        await until(has_default_action, "the first signal is taken", pause=0.01)
    if BLOCKERS[process.blocker].blocks_the_loop and not talk.is_stdio:
        await process.says("the event loop is blocked")


async def check(forker: Forker, folder: Path, cell: Cell, limiter: trio.CapacityLimiter) -> str | None:
    """None, or what is wrong with the cell."""
    front, _, how = cell
    found: str | None = f"{cell}: hangs"
    try:
        async with limiter:
            with trio.move_on_after(HANGS):
                async with started(forker, folder, cell) as (process, talk):
                    await stop(process, talk, how)
                    await process.ended.wait()
                    process.read_rest()
                    found = verdict(front, how, process)
    except* (EndedEarly, OSError, trio.BrokenResourceError) as failed:
        found = f"{cell}: {failed.exceptions}"
    return found


def verdict(front: str, how: str, process: Process) -> str | None:
    blocker = BLOCKERS[process.blocker]
    codes = (
        {-signal.SIGTERM if process.workers == 1 else 128 + signal.SIGTERM}
        if how == "second SIGTERM"
        else {blocker.code}
    )
    if how == "second SIGTERM" and front in STDIO:
        # Its calls have a second and a half from the first signal on, whatever the windows are.
        codes.add(blocker.code)
    wrong = []
    if process.status not in codes:
        wrong.append(f"exit {process.status}, not {codes}")
    if how != "second SIGTERM" and blocker.last_words and blocker.last_words not in process.text:
        wrong.append(f"does not say {blocker.last_words!r}")
    second = how == "second SIGTERM"
    hears = blocker.blocks_the_loop and front not in STDIO
    if (not second or hears) and blocker.named not in process.text:
        wrong.append(f"does not name {blocker.named!r}")
    return f"{front}, {process.blocker}, {how}: {'; '.join(wrong)}\n{process.text}" if wrong else None


FEW = 3
"""Cells that may have missed their time because of other work; more of them show a fault."""


async def failing(wanted: Sequence[Cell], folder: Path) -> list[str]:
    """What is wrong with each of the cells. Their bounds are real seconds, so that one may miss its time on a busy machine: a few are tried
    again, one by one.
    """
    wrong: dict[Cell, str] = {}
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def one(cell: Cell, name: str) -> None:
        of_cell = folder / name
        of_cell.mkdir()
        found = await check(forker, of_cell, cell, limiter)
        if found is not None:
            wrong[cell] = found

    async with forking() as forker:
        async with trio.open_nursery() as nursery:
            for number, cell in enumerate(wanted):
                nursery.start_soon(one, cell, str(number))
        if len(wrong) <= FEW:
            for number, cell in enumerate([*wrong]):
                del wrong[cell]
                await one(cell, f"alone{number}")
    return list(wrong.values())


async def test_whatever_blocks_a_stop_ends_the_process_and_the_blocker_is_named(tmp_path: Path) -> None:
    wrong = await failing(CELLS, tmp_path)
    assert not wrong, "\n\n".join(wrong)
