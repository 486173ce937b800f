"""The requesters of tasks that people use (SEP-2663), against a server: which steps succeed, and how long their users wait."""

import re
import subprocess
from dataclasses import dataclass

from tools.clients import ClientUnderTest, command, complete
from tools.node import environment

__all__ = ["TASK_CLIENTS", "Waited", "run"]

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


def run(client: ClientUnderTest, url: str) -> Waited:
    """Run a client against the server at `url`; raises `MissingNode` when it is not installed."""
    done = subprocess.run(
        [*command(client), url],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    times = re.findall(rf"^({'|'.join(TIMED)}) (\d+\.\d\d)$", done.stderr, re.MULTILINE)
    return Waited(complete(client, done), {step: float(seconds) for step, seconds in times})
