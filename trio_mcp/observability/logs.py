"""Log lines: JSON when a machine reads them, text when a person does; always one line per event.

    event(logger, logging.INFO, "session closed", session="3f2a91c0", reason="expired")

    2026-11-20 12:03:04.512 INFO  session closed  session=3f2a91c0 reason=expired
    {"ts":"2026-11-20T12:03:04.512Z","level":"info","event":"session closed","logger":"trio_mcp.sessions",…}

Standard keys, so that dashboards can rely on them: ts level event logger node session client method tool
request_id trace_id span_id duration_ms status reason. An exception adds its leaves (what really went wrong, without the
groups around it) and one traceback.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from trio_mcp.protocol.errors import UserCodeCrash

__all__ = ["LogFormat", "configure", "event", "leaf_lines", "leaves", "printable", "session_label"]

LogFormat = Literal["auto", "text", "json"]

_FIELDS = "mcp_fields"
_COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def event(logger: logging.Logger, level: int, name: str, *, error: BaseException | None = None, **fields: Any) -> None:
    """One log line named `name`; fields that are None are left out."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", name, exc_info=error, extra={_FIELDS: fields}, stacklevel=2)


def session_label(session_id: str) -> str:
    """What logs show of a session: the first 8 characters of the id's random part."""
    return session_id.rpartition(".")[2][:8]


def configure(
    level: int | str = logging.INFO,
    fmt: LogFormat = "auto",
    stream: TextIO | None = None,
    *,
    node: str | None = None,
) -> None:
    """Send every logger's lines to `stream` (stderr); a second call replaces the first one's handler.

    Only a program calls this. A library or a mounted app leaves logging to its host.
    """
    target = stream or sys.stderr
    handler = _Handler(target)
    handler.setFormatter(_formatter(fmt, target, node))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that `configure` can find and replace it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """A closed or full stderr costs the line, not the node: there is nowhere left to complain."""


def _formatter(fmt: LogFormat, stream: TextIO, node: str | None) -> logging.Formatter:
    terminal = stream.isatty()
    if fmt == "json" or (fmt == "auto" and not terminal):
        return _JsonFormatter(node)
    return _TextFormatter(color=terminal and not os.environ.get("NO_COLOR"))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in getattr(record, _FIELDS, {}).items() if value is not None}


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
        line |= _fields(record)
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
    """Control characters escaped but those to `keep`: a stranger's words must not forge a line or drive the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _value(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and text and not any(character in text for character in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=True)


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """What really went wrong: the exceptions inside the groups, or the exception itself."""
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
    """One traceback for one fault: the leaf's own when there is only one, else the group's."""
    only = list(leaves(error))
    return "".join(traceback.format_exception(only[0] if len(only) == 1 else error)).rstrip()
