import io
import json
import logging
from collections.abc import Iterator

import pytest

from trio_mcp.observability import logs


@pytest.fixture(autouse=True)
def restored_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


logger = logging.getLogger("trio_mcp.tests")


def crash() -> Exception:
    try:
        raise ValueError("disk is full")
    except ValueError as error:
        return error


def test_off_a_terminal_each_line_is_one_json_object_with_the_standard_keys() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream, node="node-b")
    logs.event(logger, logging.INFO, "session closed", session="3f2a91c0", reason="expired", client=None)
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "event": "session closed",
        "logger": "trio_mcp.tests",
        "node": "node-b",
        "session": "3f2a91c0",
        "reason": "expired",
    }


def test_on_a_terminal_a_line_is_text_and_coloured_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    logs.configure("INFO", "auto", stream)
    logger.info("ready on %s", "127.0.0.1")
    assert "\x1b[32mINFO" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    logs.configure("INFO", "auto", stream)
    logs.event(logger, logging.INFO, "call", tool="add", duration_ms=1.23456, status=200, reason="two words")
    assert stream.getvalue().endswith('INFO    call  tool=add duration_ms=1.23 status=200 reason="two words"\n')


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_what_a_line_of_somebody_elses_has_as_extra_is_shown(fmt: logs.LogFormat) -> None:
    stream = io.StringIO()
    logs.configure("INFO", fmt, stream, node="node-b")
    logging.getLogger("shop").info("sold %s", "a pear", extra={"customer": "ann", "price": 2.5, "note": None})
    if fmt == "text":
        assert stream.getvalue().endswith("INFO    sold a pear  customer=ann price=2.5\n")
        return
    line = json.loads(stream.getvalue())
    del line["ts"]
    assert line == {
        "level": "info",
        "event": "sold a pear",
        "logger": "shop",
        "node": "node-b",
        "customer": "ann",
        "price": 2.5,
    }


def test_extra_does_not_take_the_place_of_a_standard_key() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream, node="node-b")
    logging.getLogger("shop").info("sold", extra={"event": "forged", "level": 3, "ts": 1, "node": "x", "logger": "y"})
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["node"], line["logger"]) == ("sold", "info", "node-b", "shop")
    assert line["ts"].endswith("Z")


def test_configuring_twice_writes_each_line_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("INFO", "text", first)
    logs.configure("INFO", "text", second)
    logger.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_an_event_below_the_level_writes_nothing() -> None:
    stream = io.StringIO()
    logs.configure("WARNING", "text", stream)
    logs.event(logger, logging.INFO, "session opened")
    assert stream.getvalue() == ""


def test_a_group_of_exceptions_is_told_by_its_leaves() -> None:
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("inner", [crash()]), KeyError("x")])
    lines = logs.leaf_lines(group)
    assert lines[0].startswith("ValueError: disk is full (test_logs.py:")
    assert lines[1] == "KeyError: 'x'"


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_one_fault_writes_one_traceback(fmt: logs.LogFormat) -> None:
    stream = io.StringIO()
    logs.configure("INFO", fmt, stream)
    logs.event(logger, logging.ERROR, "handler crashed", error=ExceptionGroup("outer", [crash()]), tool="add")
    assert stream.getvalue().count("Traceback (most recent call last)") == 1
    assert "unhandled" not in stream.getvalue()
    assert "disk is full" in stream.getvalue()


def test_two_leaves_are_both_named_above_the_groups_traceback() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)
    logs.event(logger, logging.ERROR, "node failed", error=ExceptionGroup("outer", [crash(), KeyError("x")]))
    assert "  ValueError: disk is full (" in stream.getvalue()
    assert "  KeyError: 'x'\n" in stream.getvalue()


def test_a_clients_words_cannot_forge_a_line_or_drive_the_terminal() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)
    logger.info("hello\n2026 CRITICAL forged %s", "\x1b[2J")
    logs.event(logger, logging.INFO, "call", tool='x\nreason="none')
    assert stream.getvalue().count("\n") == 2
    logs.event(logger, logging.ERROR, "request failed", error=ValueError("no city \x1b[2J"))
    assert "no city" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_closed_stream_costs_the_line_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)
    stream.close()
    logger.info("nobody hears this")
    assert capsys.readouterr().err == ""


def test_a_session_is_shown_by_the_first_eight_characters_of_its_random_part() -> None:
    assert logs.session_label("node-b.3f2a91c0aabbccdd") == "3f2a91c0"
