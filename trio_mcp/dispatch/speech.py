"""Log messages and progress as JSON-RPC params.

A value that cannot be sent must not fail the handler that sends it: it is dropped, and the log warns once for each handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from trio_mcp.features.json_values import json_number, json_text, json_value
from trio_mcp.features.validation_text import clean
from trio_mcp.observability.logs import event

__all__ = ["message", "progress"]

logger: logging.Logger = logging.getLogger("trio_mcp.tools")


def message(unsaid: set[str], who: str, level: str, data: Any, name: Any) -> dict[str, Any] | None:
    """The params of `notifications/message`; None for a value that cannot be sent.

    `who` is the handler's name in the warning, and `unsaid` the names that have been warned of.
    """

    def params() -> dict[str, Any]:
        said = {"level": level, "data": json_value(data)}
        if name is not None:
            said["logger"] = clean(str(name))
        json_text(said)
        return said

    return _attempt(params, unsaid, who, "a log message")


def progress(unsaid: set[str], who: str, done: Any, total: Any, text: Any) -> dict[str, Any] | None:
    """The params of `notifications/progress` without the token; None as with `message`.

    A total that is no finite number is left out, and the rest is sent.
    """

    def params() -> dict[str, Any] | None:
        number, whole = json_number(done), None if total is None else json_number(total)
        if number is None or (total is not None and whole is None):
            _warn(unsaid, who, "progress", ValueError(f"no finite number: {done if number is None else total!r:.100}"))
        said = {"progress": number, "total": whole, "message": None if text is None else clean(str(text))}
        return None if number is None else {member: value for member, value in said.items() if value is not None}

    return _attempt(params, unsaid, who, "progress")


def _attempt(
    params: Callable[[], dict[str, Any] | None], unsaid: set[str], who: str, what: str
) -> dict[str, Any] | None:
    try:
        return params()
    except Exception as fault:  # user code runs here: a `__str__`, a property, a serializer of a model
        _warn(unsaid, who, what, fault)
        return None


def _warn(unsaid: set[str], who: str, what: str, fault: Exception) -> None:
    if who not in unsaid:
        unsaid.add(who)
        event(logger, logging.WARNING, f"{what} was not sent", handler=who, error=fault)
