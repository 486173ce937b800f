"""The first official client, of 2024-11-05, can do on stdio all that its version has."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.clients import SCRIPTS, ClientUnderTest, complete

pytestmark = [pytest.mark.processes, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".cache" / "python-1.1" / "bin" / "python"
CLIENT = ClientUnderTest(
    "Python mcp 1.1",
    "python_1_1.py",
    "stdio",
    (
        "connect",
        "list",
        "call",
        "content",
        "progress",
        "resources",
        "prompts",
        "completion",
        "logging",
        "unasked",
    ),
)


def test_every_step_of_the_client_works() -> None:
    assert PYTHON.exists(), "mcp 1.1 is not installed. Install it with: make .cache/.python-1.1"
    server = [sys.executable, "-m", "trio_mcp", "run", str(REPOSITORY / "examples" / "everything.py")]
    done = subprocess.run(
        [PYTHON, SCRIPTS / CLIENT.script, *server],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert complete(CLIENT, done) == dict.fromkeys(CLIENT.steps, "ok")
