"""The requesters of tasks that people use (SEP-2663), against a server: which steps succeed, and how long their users wait."""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tools.clients import ClientUnderTest, command, complete
from tools.node import environment
from tools.report import table
from tools.served import EVERYTHING, served

__all__ = ["TASK_CLIENTS", "TIMED", "Waited", "requesters", "run", "task_document"]

STEPS = ("connect", "plain", "task", "question", "failure")
TIMED = ("task", "question")
CLIENT_SECONDS = 120

TASK_CLIENTS = (
    ClientUnderTest("TypeScript ext-tasks 0.2", "tasks_typescript.mjs", "auto", (*STEPS, "cancellation")),
    ClientUnderTest("FastMCP 4.1 with tasks", "tasks_fastmcp.py", "auto", STEPS),
)


@dataclass(frozen=True, slots=True)
class Waited:
    """What one client could do, and the seconds of its timed steps."""

    verdicts: dict[str, str]
    seconds: dict[str, float]


def run(client: ClientUnderTest, url: str, *, timed: bool = False) -> Waited:
    """Run a client against the server at `url`, or only its timed steps; raises `MissingNode` when it is not installed."""
    done = subprocess.run(
        [*command(client), url, *(["timed"] if timed else [])],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    times = re.findall(rf"^({'|'.join(TIMED)}) (\d+\.\d\d)$", done.stderr, re.MULTILINE)
    return Waited(complete(client, done), {step: float(seconds) for step, seconds in times})


def requesters(wanted: Callable[[ClientUnderTest], bool]) -> dict[ClientUnderTest, Waited]:
    """What those that are `wanted` could do, one after the other against one server; raises MissingNode, ServerFailed."""
    with served(EVERYTHING) as server:
        return {client: run(client, server.url) for client in TASK_CLIENTS if wanted(client)}


def task_document(found: Mapping[ClientUnderTest, Waited]) -> str:
    """The part of docs/clients.md about tasks."""
    steps = (*STEPS, "cancellation")
    rows = [[client.name, *(_cell(waited, step) for step in steps)] for client, waited in found.items()]
    return (
        "\n## Tasks\n\n"
        "Requesters of [tasks](tasks.md) against `examples/everything.py`. *plain*: a call that becomes no task; *task*: a tool of 2 s;\n"
        "*question*: one that a task asks, answered at once; *failure*: of a tool, and an error of the protocol. The seconds are what their users\n"
        "wait; three or more fail the step.\n\n"
        f"{table(('requester', *steps), rows)}\n"
        "A hyphen: FastMCP's client calls a tool and waits, and has nothing that cancels. It sends no `Mcp-Name` for tasks and needs the three\n"
        "lines of [tasks.md](tasks.md).\n"
    )


def _cell(waited: Waited, step: str) -> str:
    verdict = waited.verdicts.get(step)
    if verdict != "ok":
        return "-" if verdict is None else "**no**"
    return f"ok, {waited.seconds[step]:.1f} s" if step in waited.seconds else "ok"
