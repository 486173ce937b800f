"""The thread that writes log lines, where there can be none."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from pathlib import Path

import pytest

from trio_mcp.observability.log_writer import LineWriter
from trio_mcp.observability.logs import configure, flush


def test_lines_are_written_when_no_thread_can_be_started_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    reading, writing = os.pipe()
    writer = LineWriter(writing, str)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer.put("one")
    writer.put("two")
    monkeypatch.undo()
    writer.put("three")
    assert writer.flush(20)
    assert os.read(reading, 100) == b"one\ntwo\nthree\n"
    os.close(reading)
    os.close(writing)


def test_a_writer_that_is_closed_writes_what_it_has_in_order_and_its_thread_ends() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, str)
    lines = [f"{n:0100}" for n in range(2_000)]
    for line in lines[:1_999]:
        writer.put(line)
    first = writer._thread
    writer.close()
    writer.put(lines[-1])
    second = writer._thread
    writer.close()
    heard = b""
    while len(heard) < 101 * len(lines):
        heard += os.read(reading, 1 << 16)
    assert heard.decode().splitlines() == lines
    assert writer.flush(20)
    for thread in (first, second):
        assert thread is not None
        thread.join(20)
        assert not thread.is_alive()
    os.close(reading)
    os.close(writing)


def test_configuring_again_ends_the_thread_of_the_handler_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(root, "level", root.level)
    others = set(threading.enumerate())
    with (tmp_path / "log").open("w") as stream:
        for number in range(3):
            configure(logging.INFO, "json", stream)
            logging.getLogger("test").info("line %d", number)
        flush(20)
        ours = set(threading.enumerate()) - others
        configure(logging.INFO, "json", io.StringIO())
        for thread in ours:
            thread.join(20)
            assert not thread.is_alive()
    written = (tmp_path / "log").read_text()
    assert sorted(json.loads(line)["event"] for line in written.splitlines()) == ["line 0", "line 1", "line 2"]
