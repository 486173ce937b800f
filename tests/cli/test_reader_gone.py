"""`trio-mcp … | head`: the reader closes the pipe early."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.processes
@pytest.mark.parametrize(
    "command", [["list", "examples/everything.py", "--json"], ["version"], ["--help"]], ids=lambda it: it[0]
)
def test_a_reader_that_is_gone_is_no_failure_and_nothing_is_said_of_it(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "trio_mcp", *command], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
