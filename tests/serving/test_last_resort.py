"""The last resort ends the process, whatever else is stuck, and names it."""

import json
import os
import subprocess
import sys

import pytest

from tests.rig.waiting import PATIENCE

pytestmark = pytest.mark.processes

SCRIPT = """
import logging, signal, sys, threading, time, trio
from trio_mcp.observability.logs import configure
from trio_mcp.serving.last_resort import LastResort, Stage

configure(fmt="json")

def hold_the_lock():
    logging.getLogger().handlers[0].acquire()
    time.sleep(600)

def block():
    time.sleep(600)

def fill():
    for _ in range(5000):
        logging.error("x" * 1000)
    time.sleep(600)

async def main():
    LastResort(lambda: ["tools/call x"]).end_within(0.6, 7, Stage.CALLS)
    {what}

trio.run(main)
"""


def ended(what: str, stderr: int | None = None) -> "subprocess.CompletedProcess[str]":
    script = SCRIPT.replace("{what}", what)
    return subprocess.run([sys.executable, "-c", script], stderr=stderr, timeout=PATIENCE, check=False, text=True)


def test_a_log_whose_lock_is_held_does_not_hold_up_the_last_resort() -> None:
    assert ended("hold_the_lock()").returncode == 7


def test_a_log_that_nobody_takes_does_not_hold_up_the_last_resort() -> None:
    reading, writing = os.pipe()
    try:
        assert ended("fill()", stderr=writing).returncode == 7
    finally:
        os.close(reading)
        os.close(writing)


def test_what_blocks_the_loop_is_named_with_its_stack() -> None:
    done = ended("block()", stderr=subprocess.PIPE)
    assert done.returncode == 7
    blocked, stopped = (json.loads(line) for line in done.stderr.splitlines())
    assert blocked["event"] == "the event loop is blocked"
    assert stopped["event"] == "stopped with handlers still running"
    assert stopped["running"] == "tools/call x"
    for line in (blocked, stopped):
        assert [each.partition(":")[2].partition(" ")[2] for each in line["stack"][:2]] == ["in block", "in main"]


def test_a_loop_that_turns_is_not_called_blocked() -> None:
    done = ended("await trio.sleep(600)", stderr=subprocess.PIPE)
    assert done.returncode == 7
    (stopped,) = (json.loads(line) for line in done.stderr.splitlines())
    assert stopped["event"] == "stopped with handlers still running"
    assert "stack" not in stopped
