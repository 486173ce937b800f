"""Streamed answers through a real Traefik while every core is busy: how many are cut off, with the remedy and without.

    python -m benchmarks.cut_answers [--calls 5000] [--listens 500] [--write docs/performance.md]

Go's reverse proxy may break off an answer that begins while it still finishes sending the request (golang/go#40747);
deploy/README.md has the remedy. Asserts that with it, which is in the Traefik files as shipped, no answer is cut.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import trio
import yaml

from benchmarks.cut_answers_app import TICKS
from benchmarks.http_client import CLIENT, LEGACY, MODERN
from benchmarks.machine import describe, pinned
from tests.rig.http_connection import Broken, HttpConnection, Response
from tests.rig.traefik import MissingTraefik, traefik
from tools.report import between, table, today
from tools.served import ServerFailed, served
from trio_mcp.cli.export import traefik_dynamic

__all__ = ["VARIANTS", "Cuts", "Variant", "main"]

HERE = Path(__file__).resolve().parent
COMMAND = (sys.executable, "-m", "trio_mcp", "serve", str(HERE / "cut_answers_app.py"), "--port", "{port}")
QUIET = {"TRIO_MCP_LOG_LEVEL": "ERROR", "TRIO_MCP_NODE_ID": "node1", "TRIO_MCP_DRAIN_DELAY": "0"}

AT_ONCE = (1, 16)
"""Clients, each with half of the acts. Each keeps a connection, and makes one call after the other. One client alone has
more answers cut: a node that has nothing else to do answers sooner."""
WORK_SECONDS = 0.02
"""Of every second call, between its progress and its result: longer than the node waits before it streams. The others
have their result at once."""
IDLE_CALLS = 100
ANSWER_SECONDS = 120.0
HEALTH_CHECK_SECONDS = 1.0
COMPARED = 0.3
"""The part of the calls that the variants which are not shipped are given."""
BUSY_SECONDS = 1800.0
"""A bound on the loops that keep the cores busy, in case their parent cannot stop them."""
BUSY_LOOP = """
import os, time
end = time.monotonic() + {seconds}
while time.monotonic() < end and os.getppid() == {parent}:
    for _ in range(100_000):
        pass
"""

T = TypeVar("T")
Act: TypeAlias = Callable[[int], Awaitable[bool]]
"""A call or a listen stream by its number; false when it was cut."""


class WrongAnswer(AssertionError):
    """A wrong answer, or one that was cut where none may be."""


class Unavailable(Exception):
    """Traefik knows of no node: one that has no CPU for half a second misses its health check."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Whether Traefik reads a request before it sends it on, and how long the node waits before it streams, in ms."""

    remedy: bool
    delay: int

    @property
    def name(self) -> str:
        """For the table."""
        return f"{'remedy' if self.remedy else 'no remedy'}, node waits {self.delay} ms"

    def routes(self, node: str) -> str:
        """Traefik's dynamic file for a node at this URL: as shipped, or with a retry that reads nothing first."""
        shipped = traefik_dynamic([node], names=["node1"])
        if self.remedy:
            return shipped
        dynamic = yaml.safe_load(shipped)
        retry = dynamic["http"]["middlewares"]["mcp-retry"]["retry"]
        for part in ("status", "retryNonIdempotentMethod", "maxRequestBodyBytes"):
            del retry[part]
        return str(yaml.safe_dump(dynamic))


SHIPPED = Variant(remedy=True, delay=10)
VARIANTS = (SHIPPED, *(Variant(*each) for each in ((True, 0), (False, 10), (False, 0))))


@dataclass(slots=True)
class Cuts:
    """What one variant did. `cut` and `made` by kind: a protocol version's calls, or listen streams."""

    cut: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    rate: float = 0
    """Calls per second of the newer version, of all clients at once and with all cores busy."""
    first: float = 0
    """Median seconds from a call to its first progress, the cores idle."""


class TraefikClient:
    """Speaks to Traefik in one version, on a connection that it keeps as long as nothing is cut."""

    def __init__(self, url: str, version: str) -> None:
        self._url = url
        self._version = version
        self._session = ""
        self._connection: HttpConnection | None = None
        self._id = 0

    async def open(self) -> None:
        """Open a session, where the version has them."""
        params = {"protocolVersion": self._version, "capabilities": {}, "clientInfo": CLIENT}
        while self._version == LEGACY and not self._session:
            response = await self._whole("initialize", params)
            self._session = response.header("mcp-session-id") if response else ""

    async def call(self, number: int) -> bool:
        """Whether the stream of a call came to its end, with the result."""
        return await self._tool("report", work=WORK_SECONDS if number % 2 else 0)

    async def first(self) -> float | None:
        """Seconds until a call's first progress is here; None when it was cut off."""
        began = time.perf_counter()
        try:
            connection = await self._connected()
            await self._send(connection, "tools/call", {"name": "report", "arguments": {"work": WORK_SECONDS}})
            _require(await connection.head())
            await _heard(connection, b"notifications/progress")
            taken = time.perf_counter() - began
            while await connection.chunk():
                pass
        except Broken:
            return None
        return taken

    async def listen(self, _number: int) -> bool:
        """Whether a listen stream told of a change before it was closed."""
        connection = await HttpConnection.open(self._url)
        try:
            await self._send(connection, "subscriptions/listen", {"notifications": {"resourceSubscriptions": [TICKS]}})
            _require(await connection.head())
            await _heard(connection, b"notifications/subscriptions/acknowledged")
            ticked = await self._tool("tick")
            await _heard(connection, b"notifications/resources/updated")
        except Broken:
            return False
        finally:
            connection.close()
        return ticked

    def close(self) -> None:
        """Close the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _tool(self, name: str, **arguments: float) -> bool:
        response = await self._whole("tools/call", {"name": name, "arguments": arguments})
        return response is not None and b'"result"' in response.body

    async def _whole(self, method: str, params: dict[str, Any]) -> Response | None:
        """The whole response, None when it was cut off."""
        try:
            connection = await self._connected()
            await self._send(connection, method, params)
            response = await connection.response()
        except Broken:
            return None
        _require(response)
        return response

    async def _connected(self) -> HttpConnection:
        if self._connection is None or not self._connection.reusable:
            self.close()
            self._connection = await HttpConnection.open(self._url)
        return self._connection

    async def _send(self, connection: HttpConnection, method: str, params: dict[str, Any]) -> None:
        self._id += 1
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        meta: dict[str, Any] = {"progressToken": self._id}
        if self._version == MODERN:
            prefix = "io.modelcontextprotocol/"
            meta |= {
                f"{prefix}protocolVersion": MODERN,
                f"{prefix}clientCapabilities": {},
                f"{prefix}clientInfo": CLIENT,
            }
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": method, "mcp-name": params.get("name", "")}
        elif self._session:
            headers |= {"mcp-session-id": self._session, "mcp-protocol-version": LEGACY}
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": {**params, "_meta": meta}}
        await connection.request("POST", "/mcp", {k: v for k, v in headers.items() if v}, json.dumps(message).encode())


def _require(response: Response) -> None:
    if response.status == 503:
        raise Unavailable
    if response.status != 200:
        raise WrongAnswer(f"{response.status} {response.body[:200]!r}")


async def _heard(connection: HttpConnection, text: bytes) -> None:
    """Read a stream until `text` comes; raises Broken when it ends before."""
    said = b""
    while text not in said:
        part = await connection.chunk()
        if not part:
            raise Broken("the stream ended")
        said += part


async def _served(act: Callable[[], Awaitable[T]]) -> T:
    """What `act` comes to, begun again while there is no node to serve it; raises WrongAnswer when that takes too long."""
    with trio.move_on_after(ANSWER_SECONDS):
        while True:
            try:
                return await act()
            except Unavailable:
                await trio.sleep(HEALTH_CHECK_SECONDS)
    raise WrongAnswer(f"no answer within {ANSWER_SECONDS:g} s")


async def _cut(act: Sequence[Act], count: int) -> int:
    """How many of `count` acts were cut, one after the other by each of those who act."""
    numbers, cut = iter(range(count)), 0

    async def acting(one: Act) -> None:
        nonlocal cut
        for number in numbers:
            whole = await _served(partial(one, number))
            cut += not whole

    async with trio.open_nursery() as nursery:
        for one in act:
            nursery.start_soon(acting, one)
    return cut


@contextmanager
def busy_cores() -> Iterator[None]:
    """Every core busy for the length of the block; raises WrongAnswer when one was not."""
    loop = BUSY_LOOP.format(seconds=BUSY_SECONDS, parent=os.getpid())
    command = (sys.executable, "-c", loop)
    loops = [subprocess.Popen(pinned(command, str(core))) for core in sorted(os.sched_getaffinity(0))]
    try:
        yield
        if any(each.poll() is not None for each in loops):
            raise WrongAnswer("a core was not kept busy to the end")
    finally:
        for each in loops:
            each.kill()
            each.wait()


async def measure(variant: Variant, node: str, calls: int, listens: int, folder: Path) -> Cuts:
    """Both versions' calls and the listen streams through a Traefik of their own; raises WrongAnswer."""
    found = Cuts()
    async with traefik(folder, variant.routes(node)) as balancer:
        clients = {
            version: [TraefikClient(balancer.url, version) for _ in range(max(AT_ONCE))] for version in (LEGACY, MODERN)
        }
        for client in clients[LEGACY]:
            await _served(client.open)
        firsts = [await _served(clients[MODERN][0].first) for _ in range(IDLE_CALLS)]
        found.first = statistics.median(each for each in firsts if each is not None)
        loads: dict[str, tuple[Sequence[Act], int]] = {
            LEGACY: ([each.call for each in clients[LEGACY]], calls),
            MODERN: ([each.call for each in clients[MODERN]], calls),
            "listen": ([each.listen for each in clients[MODERN]], listens),
        }
        with busy_cores():
            for kind, (act, count) in loads.items():
                part = count // len(AT_ONCE)
                for clients_at_once in AT_ONCE:
                    began = time.perf_counter()
                    found.cut[kind] += await _cut(act[:clients_at_once], part)
                    found.made[kind] += part
                    if kind == MODERN and clients_at_once == max(AT_ONCE):
                        found.rate = part / (time.perf_counter() - began)
        for client in (*clients[LEGACY], *clients[MODERN]):
            client.close()
    return found


def run(variant: Variant, calls: int, listens: int) -> Cuts:
    """Measure one variant with a node of its own; raises WrongAnswer."""
    part = 1.0 if variant == SHIPPED else COMPARED
    settings = {**QUIET, "TRIO_MCP_STREAM_DELAY": str(variant.delay / 1000)}
    with served(COMMAND, settings) as node, tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{node.port}"
        found = trio.run(partial(measure, variant, url, int(calls * part), int(listens * part), Path(folder)))
    print(_row(variant, found), flush=True)
    if variant.remedy and found.cut.total():
        raise WrongAnswer(f"{variant.name}: {found.cut.total()} answers were cut")
    return found


def _single(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _single(each)
    else:
        yield error


COLUMNS = (
    "",
    f"cut / calls of {LEGACY}",
    f"cut / calls of {MODERN}",
    "cut / listen streams",
    "calls/s, cores busy",
    "ms to the first progress, cores idle",
)


def _row(variant: Variant, found: Cuts) -> list[str]:
    cuts = [f"{found.cut[kind]:,} / {made:,}" for kind, made in found.made.items()]
    shipped = "as shipped: " if variant == SHIPPED else ""
    return [shipped + variant.name, *cuts, f"{found.rate:,.0f}", f"{found.first * 1000:.1f}"]


def main() -> int:
    """`python -m benchmarks.cut_answers`."""
    ask = argparse.ArgumentParser(prog="benchmarks.cut_answers", description=__doc__)
    ask.add_argument(
        "--calls", type=int, default=1000, help="of each version, with the files as shipped; the others get 30 %%"
    )
    ask.add_argument("--listens", type=int, default=100, help="listen streams, likewise")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    rows: list[list[str]] = []
    try:
        rows += [_row(variant, run(variant, given.calls, given.listens)) for variant in VARIANTS]
    except* (MissingTraefik, ServerFailed, WrongAnswer) as errors:
        print(*_single(errors), sep="\n", file=sys.stderr)
    if not rows:
        return 1
    text = table(COLUMNS, rows)
    print(text)
    if given.write:
        machine = f"{len(os.sched_getaffinity(0))} cores, busy, {describe()}"
        between(given.write, "cut answers", f"`python -m benchmarks.cut_answers` on {today()}: {machine}.\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
