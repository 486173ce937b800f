"""What tasks cost a node: a poll beside a call, a thousand that run, and how late the event loop is meanwhile.

`python -m benchmarks.tasks` runs it. What it shows besides: that the time of an answer does not tell an id of somebody else's task from one
that nobody has, and that a task is found on every node as soon as its client has its id.
"""

import json
import re
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.cluster import redis
from benchmarks.figures import WrongAnswer
from benchmarks.http_client import MODERN, Connection, Opened
from benchmarks.machine import cpu_seconds, pinned, resident
from benchmarks.servers import QUIET
from tools.report import table
from tools.served import Served, ServerFailed, served

__all__ = ["Client", "across_nodes", "costs", "page", "sample"]

APP = Path(__file__).parent / "tasks_app.py"
COMMAND = (sys.executable, "-m", "trio_mcp", "serve", str(APP), "--port", "{port}")
SETTINGS = {**QUIET, "TRIO_MCP_DRAIN_DELAY": "0", "TRIO_MCP_DRAIN_TIMEOUT": "0"}
TASKS = "io.modelcontextprotocol/tasks"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
}
RUNNING, FIRST = 1000, 50
"""Tasks that run at once; what the first ones load stays out of the figure."""
POLLS_PER_SECOND = 100
NODES, READY_SECONDS = 3, 60.0
EXPIRED_SECONDS = 4.0
"""From the first task on, after which those that end at once have expired."""

POLL, CALL = "a poll: CPU, µs", "an ordinary call: CPU, µs"
MEMORY = f"{RUNNING:,} running tasks: KB each"
BUSY = f"{RUNNING:,} running tasks, progress every second: % of a core"
IDLE_LAG = "lag of the loop, idle: ms, one of a hundred / the worst"
POLLED_LAG = f"the same while one task is polled {POLLS_PER_SECOND} times a second"
LOADED_LAG = f"the same, and {RUNNING:,} tasks run"
REFUSED = "of those polls refused with 429, per second"
UNKNOWN, FOREIGN, EXPIRED = (
    f"a poll of {whose}: µs" for whose in ("an unknown id", "another's task", "an expired task")
)

Figures = dict[str, tuple[float, ...]]


class Client:
    """One connection of one user that asks one thing after the other; each knows its answer."""

    def __init__(self, port: int, user: str = "ann") -> None:
        self._connection = Connection(port)
        self._user = user

    def ask(self, method: str, params: Mapping[str, Any]) -> Opened:
        headers = {
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
            "Mcp-Name": str(params.get("taskId") or params["name"]),
            "Authorization": self._user,
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        return self._connection.post(message, headers)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The result; raises WrongAnswer."""
        return result_of(self.ask("tools/call", {"name": name, "arguments": arguments}))

    def begin(self, name: str, **arguments: Any) -> str:
        """The id of a new task; raises WrongAnswer."""
        return str(self.call(name, **arguments)["taskId"])

    def poll(self, task_id: str) -> Opened:
        return self.ask("tasks/get", {"taskId": task_id})

    def close(self) -> None:
        self._connection.close()


def result_of(opened: Opened) -> dict[str, Any]:
    """What a response says, one that came as a stream too; raises WrongAnswer."""
    found = re.search(rb'\{"jsonrpc".*\}', opened.body)
    answer = json.loads(found[0]) if found else {}
    if opened.status != 200 or "result" not in answer:
        raise WrongAnswer(f"{opened.status} {opened.body[:300]!r}")
    result: dict[str, Any] = answer["result"]
    return result


def sample(running: Served, seconds: float, tasks: int = RUNNING) -> Figures:
    """Every figure once, on a server that was just started."""
    client, other, pid = Client(running.port), Client(running.port, "bob"), running.process.pid
    began = time.monotonic()
    mine = [client.begin("soon_expired") for _ in range(tasks)]
    others = [other.begin("over_at_once") for _ in range(tasks)]
    for _ in range(FIRST):
        client.begin("works", seconds=3600)
    found: Figures = {IDLE_LAG: _lag(client, seconds)}
    found[POLLED_LAG], found[REFUSED] = _polled(running.port, client.begin("works", seconds=3600), seconds)
    before = resident(pid)
    ids = [client.begin("works", seconds=3600) for _ in range(tasks)]
    found[MEMORY] = ((resident(pid) - before) / len(ids) / 1000,)
    used = cpu_seconds(pid)
    time.sleep(seconds)
    found[BUSY] = (100 * (cpu_seconds(pid) - used) / seconds,)
    found[LOADED_LAG], _ = _polled(running.port, client.begin("works", seconds=3600), seconds)
    found[CALL] = (_each(pid, len(ids), lambda _: client.call("add", a=2, b=3)),)
    found[POLL] = (_each(pid, len(ids), lambda number: result_of(client.poll(ids[number]))),)
    time.sleep(max(0.0, began + EXPIRED_SECONDS - time.monotonic()))
    found |= _unequal(client, mine, others)
    for each in (client, other):
        each.close()
    return found


def _each(pid: int, count: int, ask: Any) -> float:
    """Processor time of the server for each of so many requests, in µs."""
    before = cpu_seconds(pid)
    for number in range(count):
        ask(number)
    return (cpu_seconds(pid) - before) / count * 1e6


def _lag(client: Client, seconds: float) -> tuple[float, ...]:
    found = client.call("lag", seconds=seconds)["structuredContent"]
    return found["p99"], found["worst"]


def _polled(port: int, task_id: str, seconds: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The lag while that task is polled, and how many polls were refused each second."""
    over, statuses, clients = threading.Event(), Counter[int](), [Client(port), Client(port)]

    def poll() -> None:
        began = time.monotonic()
        for number in range(sys.maxsize):
            if over.wait(max(0.0, began + number / POLLS_PER_SECOND - time.monotonic())):
                return
            statuses[clients[0].poll(task_id).status] += 1

    polling = threading.Thread(target=poll)
    polling.start()
    try:
        lag = _lag(clients[1], seconds)
    finally:
        over.set()
        polling.join()
        for each in clients:
            each.close()
    if not {200} <= {*statuses} <= {200, 429}:
        raise WrongAnswer(f"polls were answered {dict(statuses)}")
    return lag, (statuses[429] / seconds,)


def _unequal(client: Client, mine: list[str], others: list[str]) -> Figures:
    """The median time of an answer to ids of each kind, asked in turn; raises WrongAnswer where the answers differ."""
    kinds = {UNKNOWN: [each[::-1] for each in mine], FOREIGN: others, EXPIRED: mine}
    names = list(kinds)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers = set()
    for number in range(len(mine)):
        for turn in range(len(kinds)):
            # Another one is the first each time: what comes after it may be slower on a busy machine.
            kind = names[(number + turn) % len(names)]
            began = time.perf_counter()
            opened = client.poll(kinds[kind][number])
            times[kind].append(time.perf_counter() - began)
            answers.add((opened.status, opened.body))
    if len(answers) != 1 or b"-32602" not in next(iter(answers))[1]:
        raise WrongAnswer(f"not the same answer: {answers}")
    return {kind: (statistics.median(seen) * 1e6,) for kind, seen in times.items()}


def across_nodes(tasks: int) -> tuple[str, Figures]:
    """Begin so many tasks on three nodes in turn, and ask each node for each at once: how many were found, of how many times asked.

    And the median time of an answer by a node that has to ask Redis, to ids of each kind.
    """
    found = asked = 0
    with ExitStack() as stack:
        settings = {**SETTINGS, "TRIO_MCP_REDIS_URL": stack.enter_context(redis()), "TRIO_MCP_SECRET": "b" * 43}
        nodes = [
            stack.enter_context(served(COMMAND, {**settings, "TRIO_MCP_NODE_ID": f"node{number}"}))
            for number in range(NODES)
        ]
        for node in nodes:
            _await_ready(node.port)
        clients = [Client(node.port) for node in nodes]
        bob = Client(nodes[0].port, "bob")
        began = time.monotonic()
        mine = [clients[0].begin("soon_expired") for _ in range(tasks)]
        for number in range(tasks):
            task_id = clients[number % NODES].begin("over_at_once")
            statuses = [client.poll(task_id).status for client in clients]
            asked += len(statuses)
            found += statuses.count(200)
        others = [bob.begin("over_at_once") for _ in range(tasks)]
        time.sleep(max(0.0, began + EXPIRED_SECONDS - time.monotonic()))
        times = {f"{kind}, through Redis": figure for kind, figure in _unequal(clients[1], mine, others).items()}
        for client in (*clients, bob):
            client.close()
    return f"{found:,} of {asked:,}", times


def _await_ready(port: int) -> None:
    """A node that has not joined its cluster yet cannot tell what is unknown. Raises ServerFailed."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        asked = HTTPConnection("127.0.0.1", port, timeout=READY_SECONDS)
        asked.request("GET", "/readyz")
        status = asked.getresponse().status
        asked.close()
        if status == HTTPStatus.OK:
            return
        time.sleep(0.05)
    raise ServerFailed(f"the node on port {port} does not get ready")


def costs(rounds: int, seconds: float, tasks: int = RUNNING) -> Figures:
    """The median of each figure, each round on a server of its own."""
    samples = []
    for _ in range(rounds):
        with served(pinned(COMMAND), SETTINGS) as running:
            samples.append(sample(running, seconds, tasks))
        print({name: tuple(round(part, 1) for part in parts) for name, parts in samples[-1].items()}, flush=True)
    return {
        name: tuple(statistics.median(part) for part in zip(*(each[name] for each in samples), strict=True))
        for name in samples[0]
    }


def page(figures: Figures, found: str) -> str:
    """A line for each figure."""
    rows = [[name, " / ".join(map(_number, parts))] for name, parts in sorted(figures.items(), key=_place)]
    return table(("figure", "measured"), [*rows, [f"found at once on each of {NODES} nodes", found]])


_ORDER = (CALL, POLL, MEMORY, BUSY, IDLE_LAG, POLLED_LAG, LOADED_LAG, REFUSED)


def _place(figure: tuple[str, tuple[float, ...]]) -> int:
    """Those that are not in the order come after it, as they are."""
    return _ORDER.index(figure[0]) if figure[0] in _ORDER else len(_ORDER)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"
