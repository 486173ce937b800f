"""Where a process stands that does not answer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.rig.waiting import PATIENCE, until
from trio_mcp.serving.workers.deaf import STOP_CLOCK, WRITE_STACK, read_stack

HANGS = """
import sys
from pathlib import Path
from trio_mcp.serving.workers.deaf import write_stack_when_asked

def turns_for_ever():
    print("turns", flush=True)
    while True:
        pass

def begins():
    turns_for_ever()

write_stack_when_asked(Path(sys.argv[1]))
begins()
"""


@pytest.mark.processes
async def test_the_stack_of_a_loop_without_end_is_written_by_a_signal(tmp_path: Path) -> None:
    assert WRITE_STACK is not None
    path = tmp_path / "n.stack"
    process = await trio.lowlevel.open_process([sys.executable, "-c", HANGS, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.receive_some()
        assert path.read_bytes() == b""
        process.send_signal(WRITE_STACK)

        async def written() -> bool:
            return b"<module>" in path.read_bytes()

        await until(written, "the stack is written")
        stack = read_stack(path)
        assert process.poll() is None, "the signal ends nothing"
    finally:
        process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()
    assert stack is not None
    frames = [frame.rpartition(" in ")[2] for frame in stack.split(" < ")]
    assert frames == ["turns_for_ever", "begins", "<module>"]
    assert not path.exists()


def test_without_a_file_or_with_an_empty_one_there_is_no_stack(tmp_path: Path) -> None:
    path = tmp_path / "n.stack"
    assert read_stack(path) is None
    path.touch()
    assert read_stack(path) is None


STARTS = """
import os, socket, sys, time
from trio_mcp.serving.workers.deaf import clock_started_when_told, end_with_supervisor

end_with_supervisor(socket.socket(fileno=int(sys.argv[1])))
"""
IMPORTS = STARTS + "os.write(1, b'blocks'); time.sleep(3600)"
SERVES = (
    STARTS
    + """
with clock_started_when_told(lambda: os.write(1, b"the clock runs")):
    os.write(1, b"blocks")
    while True:
        pass
"""
)


@pytest.mark.processes
@pytest.mark.parametrize("serves", [False, True], ids=["it starts", "it serves"])
async def test_a_worker_whose_main_thread_hangs_when_its_supervisor_ends_does_not_stay_for_ever(serves: bool) -> None:
    assert STOP_CLOCK is not None
    ours, its = socket.socketpair()
    # What a process ignores, those that it starts ignore.
    signal.signal(STOP_CLOCK, signal.SIG_IGN)
    with ours, its:
        command = [sys.executable, "-c", SERVES if serves else IMPORTS, str(its.fileno())]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, pass_fds=[its.fileno()])
        try:
            assert process.stdout is not None
            assert await process.stdout.receive_some() == b"blocks"
            # What can be read on the channel is no end.
            ours.send(b"a message")
            ours.close()
            with trio.fail_after(PATIENCE):
                if serves:
                    assert await process.stdout.receive_some() == b"the clock runs"
                else:
                    assert await process.wait() == -STOP_CLOCK
        finally:
            process.send_signal(signal.SIGKILL)
            with trio.move_on_after(PATIENCE, shield=True):
                await process.wait()
