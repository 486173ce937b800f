"""Log messages and progress as JSON-RPC params.

A value that cannot be sent must not fail the handler that sends it: it is dropped, and the log warns once for each handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from trio_mcp.features.json_values import json_number, json_text, json_value
from trio_mcp.features.validation_text import clean
from trio_mcp.observability.logs import event

__all__ = ["Extra", "log_here", "message", "progress", "progress_text"]

logger: logging.Logger = logging.getLogger("trio_mcp.tools")


Extra: TypeAlias = Mapping[str, Any] | None
"""Fields of a log message beside its text."""


def message(warned: set[str], who: str, level: str, data: Any, name: Any, extra: Extra = None) -> dict[str, Any] | None:
    """The params of `notifications/message`; None for a value that cannot be sent.

    `who` is the handler's name in the warning, and `warned` the names that have been warned of. With `extra`, the data is an object
    of it and `message`, which is `data`.
    """

    def params() -> dict[str, Any]:
        sent = {"level": level, "data": json_value(data if extra is None else _with_extra(data, extra))}
        if name is not None:
            sent["logger"] = clean(str(name))
        json_text(sent)
        return sent

    return _attempt(params, warned, who, "a log message")


def progress(warned: set[str], who: str, done: Any, total: Any, text: Any) -> dict[str, Any] | None:
    """The params of `notifications/progress` without the token; None as with `message`.

    A total that is no finite number is left out, and the rest is sent.
    """

    def params() -> dict[str, Any] | None:
        number, whole = json_number(done), None if total is None else json_number(total)
        if number is None or (total is not None and whole is None):
            _warn(warned, who, "progress", ValueError(f"no finite number: {done if number is None else total!r:.100}"))
        sent = {"progress": number, "total": whole, "message": None if text is None else clean(str(text))}
        return None if number is None else {member: value for member, value in sent.items() if value is not None}

    return _attempt(params, warned, who, "progress")


def progress_text(params: Mapping[str, Any]) -> str:
    """The params of progress as one line: "3/40 a.txt"."""
    count = f"{params['progress']:g}" + (f"/{params['total']:g}" if "total" in params else "")
    return f"{count} {params['message']}" if params.get("message") else count


def log_here(who: str, params: Mapping[str, Any], *, task: str) -> None:
    """Write a log message to the server's own log: what a task says has no client that reads it."""
    told = {"handler": who, "task": task[:8], "source": params.get("logger"), "data": params["data"]}
    event(logger, _LOGGED_AS[params["level"]], "a task says", **told)


_LOGGED_AS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "emergency": logging.CRITICAL,
}


def _with_extra(data: Any, extra: Any) -> dict[str, Any]:
    # Code without types may give anything.
    return {"message": data, **(extra if isinstance(extra, Mapping) else {"extra": extra})}


def _attempt(
    params: Callable[[], dict[str, Any] | None], warned: set[str], who: str, what: str
) -> dict[str, Any] | None:
    try:
        return params()
    except Exception as fault:  # user code runs here: a `__str__`, a property, a serializer of a model
        _warn(warned, who, what, fault)
        return None


def _warn(warned: set[str], who: str, what: str, fault: Exception) -> None:
    if who not in warned:
        warned.add(who)
        event(logger, logging.WARNING, f"{what} was not sent", handler=who, error=fault)
