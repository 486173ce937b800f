"""The thread that writes log lines, where there can be none."""

from __future__ import annotations

import os
import threading

import pytest

from trio_mcp.observability.log_writer import LineWriter


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
