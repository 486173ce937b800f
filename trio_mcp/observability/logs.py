"""Log lines: JSON, or text on a terminal; one line per event.

    event(logger, logging.INFO, "session closed", session="3f2a91c0", reason="expired")

    2026-11-20 12:03:04.512 INFO  session closed  session=3f2a91c0 reason=expired
    {"ts":"2026-11-20T12:03:04.512Z","level":"info","event":"session closed","logger":"trio_mcp.sessions",…}

Standard keys, so that dashboards can rely on them: ts level event logger node session client method tool
request_id trace_id span_id duration_ms status reason. An exception adds its leaves (the exceptions inside
the groups) and one traceback.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from trio_mcp.observability.log_writer import LineWriter
from trio_mcp.protocol.errors import UserCodeCrash

__all__ = [
    "LogFormat",
    "configure",
    "event",
    "flush",
    "leaf_lines",
    "leaves",
    "log_stray_errors",
    "printable",
    "session_label",
    "toggle_debug",
]

LogFormat = Literal["auto", "text", "json"]

logger: logging.Logger = logging.getLogger("trio_mcp.logs")

FLUSH_SECONDS = 1.0
"""How long the end of the process waits for the last lines to be written: their reader may have stopped."""

_FIELDS = "mcp_fields"
_COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def event(logger: logging.Logger, level: int, name: str, *, error: BaseException | None = None, **fields: Any) -> None:
    """One log line named `name`; fields that are None are left out."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", name, exc_info=error, extra={_FIELDS: fields}, stacklevel=2)


def session_label(session_id: str) -> str:
    """The part of a session id that logs show: the first 8 characters of its random part."""
    return session_id.rpartition(".")[2][:8]


def configure(
    level: int | str = logging.INFO,
    fmt: LogFormat = "auto",
    stream: TextIO | None = None,
    *,
    node: str | None = None,
) -> None:
    """Send every logger's lines to `stream` (stderr); a second call replaces the first one's handler.

    Handlers that write to stdout or stderr already (`logging.basicConfig`) are removed, so that each line comes once; those for
    files stay. Only programs call this: libraries and mounted apps leave logging to their host.
    """
    target = stream or sys.stderr
    handler = _Handler(target, _formatter(fmt, target, node))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler) or _writes_to_terminal(each)]:
        root.removeHandler(old)
        if isinstance(old, _Handler):
            old.retire()
    root.addHandler(handler)
    root.setLevel(level)


def _writes_to_terminal(handler: logging.Handler) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    # Of this very class: a subclass may send its lines elsewhere as well.
    return type(handler) is logging.StreamHandler and handler.stream in streams


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Wait until the lines so far are written, `seconds` at most."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.flush_within(seconds)


_level_before: int | None = None


def toggle_debug() -> None:
    """Switch to level DEBUG, and back at the next call."""
    global _level_before
    root = logging.getLogger()
    if _level_before is None:
        _level_before = root.level
        root.setLevel(logging.DEBUG)
    else:
        root.setLevel(_level_before)
        _level_before = None


def log_stray_errors() -> None:
    """Log warnings, and exceptions of threads and finalizers, which Python would print on several lines."""
    logging.captureWarnings(capture=True)
    logger = logging.getLogger("trio_mcp.process")

    def in_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else None
        event(logger, logging.ERROR, "thread failed", thread=name, error=args.exc_value)

    def in_finalizer(args: Any) -> None:
        event(logger, logging.ERROR, args.err_msg or "error ignored", where=repr(args.object), error=args.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = in_finalizer


class _Handler(logging.Handler):
    """The handler that `configure` installs, of a class of its own so that it can be found again."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        try:
            self._writer: LineWriter | None = LineWriter(stream.fileno(), self._notice)
        except io.UnsupportedOperation:
            # No descriptor, so a buffer in memory, which never blocks.
            self._writer = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # as `logging` does: an argument whose `str` raises must not fail the code that logs it
            return self.handleError(record)
        self._put(line)

    def handleError(self, record: logging.LogRecord) -> None:
        """Log, in place of a record, that it cannot be formatted: wrong arguments, or their `str` raises."""
        where = f"{record.pathname}:{record.lineno}"
        self._put(self._own_line("log line cannot be formatted", where=where, error=type(sys.exception()).__name__))

    def _put(self, line: str) -> None:
        if self._writer is not None:
            self._writer.put(line)
        else:
            # When the stream is closed, the line is lost and the node goes on.
            with suppress(OSError, ValueError):
                self._stream.write(line + "\n")

    def flush_within(self, seconds: float) -> None:
        if self._writer is not None:
            self._writer.flush(seconds)

    def flush(self) -> None:
        """`logging.shutdown` calls this when the process ends."""
        self.flush_within(FLUSH_SECONDS)

    def retire(self) -> None:
        """End the writer's thread once the lines so far are written. `close` does not: at the end of the process more may come."""
        if self._writer is not None:
            with self.lock or nullcontext():
                self._writer.close()

    def _notice(self, count: int) -> str:
        return self._own_line("log lines dropped", count=count)

    def _own_line(self, name: str, **fields: Any) -> str:
        extra = {_FIELDS: fields}
        return self.format(logger.makeRecord(logger.name, logging.WARNING, "", 0, "%s", (name,), None, extra=extra))


def _formatter(fmt: LogFormat, stream: TextIO, node: str | None) -> logging.Formatter:
    terminal = stream.isatty()
    if fmt == "json" or (fmt == "auto" and not terminal):
        return _JsonFormatter(node)
    return _TextFormatter(color=terminal and not os.environ.get("NO_COLOR"))


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Those of an event of ours; of any other line what its author gave as `extra=`."""
    fields = getattr(record, _FIELDS, None)
    if fields is None:
        fields = {key: value for key, value in vars(record).items() if key not in _OF_EVERY_RECORD}
    return {key: value for key, value in fields.items() if value is not None}


class _JsonFormatter(logging.Formatter):
    def __init__(self, node: str | None) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if self._node is not None:
            line["node"] = self._node
        own = hasattr(record, _FIELDS)
        # The standard keys of another's line are ours to write: whoever reads the log relies on them.
        line |= {key: value for key, value in _fields(record).items() if own or key not in line}
        error = _error(record)
        if error is not None:
            line |= {"error": leaf_lines(error), "traceback": _traceback(error)}
        return json.dumps(line, default=str, ensure_ascii=False, separators=(",", ":"))


class _TextFormatter(logging.Formatter):
    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")[:23]
        parts = [f"{when} {self._level(record.levelname)} {printable(record.getMessage())}"]
        parts += [f"{key}={_value(value)}" for key, value in _fields(record).items()]
        text = f"{parts[0]}  {' '.join(parts[1:])}".rstrip()
        error = _error(record)
        if error is None:
            return text
        trace = (printable(line) for line in _traceback(error).split("\n"))
        return "\n".join([text, *(f"  {line}" for line in leaf_lines(error)), *trace])

    def _level(self, name: str) -> str:
        padded = f"{name:<7}"
        return f"\x1b[{_COLORS.get(name, '0')}m{padded}\x1b[0m" if self._color else padded


def printable(text: str, keep: str = "") -> str:
    """The text with control characters escaped, but those in `keep`: text of clients must not forge lines or control a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _value(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and text and not any(character in text for character in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=True)


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside the groups, or the exception itself."""
    if isinstance(error, UserCodeCrash):
        yield from leaves(error.raised)
    elif isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    else:
        yield error


def leaf_lines(error: BaseException) -> list[str]:
    """`ValueError: bad day (server.py:12 in forecast)` for each leaf."""
    return [_leaf_line(leaf) for leaf in leaves(error)]


def _leaf_line(leaf: BaseException) -> str:
    name = printable("".join(traceback.format_exception_only(leaf)).strip().partition("\n")[0])
    frames = traceback.extract_tb(leaf.__traceback__)
    if not frames:
        return name
    return f"{name} ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name})"


def _traceback(error: BaseException) -> str:
    """The traceback of the only leaf, or of the group when there are several."""
    only = list(leaves(error))
    return "".join(traceback.format_exception(only[0] if len(only) == 1 else error)).rstrip()
