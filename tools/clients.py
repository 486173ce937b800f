"""The official clients against one of our servers: which steps of each succeed."""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.node import PACKAGES, MissingNode, environment, node, package_file
from tools.report import table, today, write
from tools.served import EVERYTHING, ServerFailed, served

__all__ = [
    "CLIENTS",
    "FASTMCP_TASKS",
    "OVER_WEBSOCKET_TOO",
    "STEPS",
    "ClientUnderTest",
    "command",
    "complete",
    "verdicts",
]

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = REPOSITORY / "tests" / "clients"
PYTHON_1_30 = REPOSITORY / ".cache" / "python-1.30" / "bin" / "python"
FASTMCP = REPOSITORY / ".cache" / "fastmcp" / "bin" / "python"
FASTMCP_TASKS = REPOSITORY / ".cache" / "fastmcp-tasks" / "bin" / "python"
"""Its package for tasks is of another release than its newest client."""
OTHER_PYTHONS = {
    "python_1_30.py": (PYTHON_1_30, ".cache/.python-1.30"),
    "login_fastmcp.py": (FASTMCP, ".cache/.fastmcp"),
    "tasks_fastmcp.py": (FASTMCP_TASKS, ".cache/.fastmcp-tasks"),
}
"""Clients that need packages of their own, and how to install those."""
INSPECTOR = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
CLIENT_SECONDS = 120

STEPS = ("connect", "list", "call", "progress", "notification", "elicitation", "resume", "cancellation", "close")
ONE_CONNECTION = tuple(step for step in STEPS if step != "resume")
"""A WebSocket is its session: there is nothing to come back to."""
SESSIONLESS = tuple(step for step in STEPS if step != "resume")
"""2026-07-28 has no resumption."""
OVER_WEBSOCKET_TOO = {"TRIO_MCP_WEBSOCKET": "true"}
"""The environment of the server that all clients meet."""
ONE_SHOT = ("connect", "list", "call")
"""Each command of the Inspector is a process that connects, asks one thing and ends."""


@dataclass(frozen=True, slots=True)
class ClientUnderTest:
    """A client to run, and the steps it must report: one it leaves out is a failure too."""

    name: str
    script: str
    mode: str
    steps: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.name} {self.mode}"


CLIENTS = (
    ClientUnderTest("Python mcp 2.3", "python_2_3.py", "legacy", STEPS),
    ClientUnderTest("Python mcp 2.3", "python_2_3.py", "auto", SESSIONLESS),
    ClientUnderTest("Python mcp 1.30", "python_1_30.py", "legacy", STEPS),
    ClientUnderTest("TypeScript sdk 1.32", "typescript_1_32.mjs", "legacy", STEPS),
    ClientUnderTest("Python mcp 1.30", "python_1_30.py", "websocket", ONE_CONNECTION),
    ClientUnderTest("TypeScript sdk 1.32", "typescript_1_32.mjs", "websocket", ONE_CONNECTION),
    ClientUnderTest("TypeScript client 2.4", "typescript_2_4.mjs", "legacy", STEPS),
    ClientUnderTest("TypeScript client 2.4", "typescript_2_4.mjs", "auto", SESSIONLESS),
    ClientUnderTest("Inspector CLI 2.12", "inspector.py", "legacy", ONE_SHOT),
    ClientUnderTest("Inspector CLI 2.12", "inspector.py", "auto", ONE_SHOT),
)


def verdicts(
    client: ClientUnderTest, url: str, environ: Mapping[str, str] | None = None, *, seconds: int = CLIENT_SECONDS
) -> dict[str, str]:
    """`ok` or the reason for each step `client` must report; raises `MissingNode` when it is not installed.

    `environ` is the client's environment in place of the usual one, `seconds` how long it may take.
    """
    try:
        done = subprocess.run(
            [*command(client), url, client.mode],
            env=environment() if environ is None else environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(client.steps, f"the client did not end within {seconds} s")
    return complete(client, done)


def complete(client: ClientUnderTest, done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """A step that was never reached says how the client ended."""
    lines = done.stdout.strip().splitlines()
    try:
        said: Mapping[str, str] = json.loads(lines[-1]) if lines else {}
    except ValueError:
        said = {}
    ending = f"not reached (exit {done.returncode}) {done.stderr.strip()[-500:]}".strip()
    return {step: said.get(step, ending) for step in client.steps}


def command(client: ClientUnderTest) -> list[str]:
    """What runs it, before the URL and the mode; raises `MissingNode` when it is not installed."""
    if client.script.endswith(".mjs"):
        return [str(node()), str(_beside_packages(client.script))]
    return [str(_python(client)), str(SCRIPTS / client.script), *_inspector(client)]


def _python(client: ClientUnderTest) -> Path:
    if client.script not in OTHER_PYTHONS:
        return Path(sys.executable)
    python, step = OTHER_PYTHONS[client.script]
    if not python.exists():
        raise MissingNode(f"{client.name} is not installed. Install it with: make {step}")
    return python


def _inspector(client: ClientUnderTest) -> list[str]:
    return [str(node()), str(package_file(INSPECTOR))] if client.script.endswith("inspector.py") else []


def _beside_packages(script: str) -> Path:
    """Node looks for packages beside the script, so a script runs from where they are installed."""
    package_file("@modelcontextprotocol/client/package.json")
    for path in SCRIPTS.glob("*.mjs"):
        shutil.copy(path, PACKAGES / path.name)
    return PACKAGES / script


def _table(results: Mapping[ClientUnderTest, Mapping[str, str]], steps: Sequence[str]) -> str:
    rows = [
        [client.name, client.mode, *(_cell(found.get(step)) for step in steps)] for client, found in results.items()
    ]
    return table(("client", "mode", *steps), rows)


def _cell(verdict: str | None) -> str:
    return "-" if verdict is None else "ok" if verdict == "ok" else "**no**"


def _document(text: str) -> str:
    return (
        "# Clients\n\n"
        f"`make clients` on {today()}, each client against `examples/everything.py`. *legacy* is a session of 2025-11-25, "
        "*auto* is what the client negotiates by itself: 2026-07-28; *websocket* is a session of 2025-11-25 over a WebSocket.\n\n"
        f"{text}\n"
        "A hyphen: the client or the version has no such thing (2026-07-28 has no resumption, and a WebSocket is its session;\n"
        "the Inspector's commands are one request each, `tools/list` with `--strict`). TypeScript's client 1.32 drops a progress\n"
        "notification that reaches it over WebSocket in one read with the result: of three it sees two or three.\n"
    )


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description="Run the clients people use against a server.")
    ask.add_argument("--command", help="another server; {port} is filled in")
    ask.add_argument("--only", default="", help="clients whose name contains this")
    ask.add_argument("--write", type=Path, help="write the result to this Markdown file")
    return ask.parse_args()


def _run(start: Sequence[str], wanted: Callable[[ClientUnderTest], bool]) -> dict[ClientUnderTest, dict[str, str]]:
    with served(start, OVER_WEBSOCKET_TOO) as server:
        return {client: verdicts(client, server.url) for client in CLIENTS if wanted(client)}


def main() -> int:
    """`python -m tools.clients`: 0 when every client could do everything."""
    # Imported here, since they import this module.
    from tools.logins import LOGIN_STEPS, login_document, logins
    from tools.task_clients import requesters, task_document

    given = _arguments()

    def wanted(client: ClientUnderTest) -> bool:
        return given.only.lower() in client.id.lower()

    try:
        results = _run(shlex.split(given.command) if given.command else EVERYTHING, wanted)
        waited = {} if given.command else requesters(wanted)
        logged_in = {} if given.command else logins(wanted)
    except (MissingNode, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    text, login_text, task_text = _table(results, STEPS), _table(logged_in, LOGIN_STEPS), task_document(waited)
    print(text, task_text, login_text, sep="\n")
    verdicts_of_tasks = ((client, found.verdicts) for client, found in waited.items())
    all_found = [*results.items(), *verdicts_of_tasks, *logged_in.items()]
    faults = [
        (client, step, verdict) for client, found in all_found for step, verdict in found.items() if verdict != "ok"
    ]
    for client, step, verdict in faults:
        print(f"{client.id}: {step}: {verdict}")
    if given.write:
        write(given.write, _document(text) + task_text + login_document(login_text))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
