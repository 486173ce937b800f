"""The suite beside busy loops: what is counted, and that nothing outlives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.waiting import PATIENCE
from tools.suite_under_load import BUSY, Run, busy, closing_line, report, run

PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "x\n===== 1 failed, 5092 passed in 61.20s (0:01:01) =====\nTOTAL 1\n",
            "1 failed, 5092 passed in 61.20s (0:01:01)",
        ),
        ("== 3 passed in 0.1s ==\n== 4 passed in 0.2s ==\n", "4 passed in 0.2s"),
        ("make: *** no rule\n", "no closing line"),
    ],
)
def test_what_pytest_counted_is_its_last_line(text: str, said: str) -> None:
    assert closing_line(text) == said


@pytest.mark.processes
@pytest.mark.parametrize(("code", "status"), [("print('== 2 passed in 0.1s ==')", 0), ("exit(2)", 2)])
def test_a_run_is_green_when_its_command_is(tmp_path: Path, code: str, status: int) -> None:
    with busy(1):
        seen = run((sys.executable, "-c", code), tmp_path / "log", PATIENCE)
    assert (seen.status, seen.green) == (status, status == 0)
    assert seen.closing == ("2 passed in 0.1s" if seen.green else "no closing line")


@pytest.mark.processes
def test_a_run_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    assert run((sys.executable, "-c", code), tmp_path / "log", 0.01).status is None


@pytest.mark.processes
def test_a_busy_loop_ends_with_whoever_started_it() -> None:
    # The pipe is at its end when the loop, which has it too, has ended.
    subprocess.run([sys.executable, "-c", PARENT, BUSY], stdout=subprocess.PIPE, timeout=PATIENCE, check=True)


def test_the_table_has_a_row_for_each_run() -> None:
    rows = report([Run(0, "9 passed in 1s", 6.04, 700.4, Path("a")), Run(None, "no closing line", 60, 1, Path("b"))])
    assert [line.split("|")[2].strip() for line in rows.splitlines()[2:]] == ["green", "**red**"]
    assert "| 6.0" in rows
