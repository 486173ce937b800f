"""The types of settings, and how people write their values: `30s`, `1h30m`; `4MiB`, `64k`; lists of hosts; log levels."""

from __future__ import annotations

import logging
import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from trio_mcp.serving.cores import parse_workers
from trio_mcp.transports.http.allowed import Hosts, Origins, Proxies

__all__ = [
    "Bind",
    "BindList",
    "CommaList",
    "Count",
    "Duration",
    "EndpointPath",
    "HostList",
    "LogLevel",
    "NetworkList",
    "NodeId",
    "NodeUrl",
    "OriginList",
    "PositiveDuration",
    "RedisPrefix",
    "Size",
    "Workers",
    "duration_text",
    "parse_duration",
    "parse_size",
    "setting",
    "size_text",
]


def setting(default: Any, group: str, description: str, **constraints: Any) -> Any:
    """A field of Settings; `group` is its heading in `--help` and in the README's table."""
    return Field(default, description=description, json_schema_extra={"group": group}, **constraints)


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

_BYTES = {
    "": 1,
    "b": 1,
    # A bare letter is binary, as in nginx and Docker.
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")


def parse_duration(value: Any) -> float:
    """Seconds of `30s`, `1h30m`, `500ms`, or of a bare number of seconds; ValueError otherwise."""
    if isinstance(value, str):
        value = _seconds(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a duration such as 30s, 5m, 1h or a number of seconds")
    return float(value)


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        parts = _DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return None
        return math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(value: Any) -> int:
    """Bytes of `4MiB`, `64k` (1024), `1MB` (1000), or of a bare number of bytes; ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError("expected a size such as 4MiB, 64k or a number of bytes")
    return int(float(match[1]) * _BYTES[match[2].lower()])


def duration_text(seconds: float) -> str:
    """The shortest exact spelling in one unit: `30m`, `25s`, `500ms`."""
    for unit in ("h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:g}ms"


def size_text(count: int) -> str:
    """The shortest exact spelling in one unit: `4MiB`, `32KiB`, `1000`."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit.lower()] == 0:
            return f"{count // _BYTES[unit.lower()]}{unit}"
    return str(count)


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
"""Seconds, zero allowed."""

PositiveDuration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
"""Seconds, more than zero."""

Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
"""Bytes, more than zero."""


def _comma_list(value: Any) -> Any:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and all(isinstance(part, str) for part in parts):
        return tuple(item.strip() for part in parts for item in part.split(",") if item.strip())
    return value


_LEVELS = {name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}


def _level_name(value: Any) -> Any:
    """The name of a level that logging knows by name or number; for a number between two levels the upper one, which passes the same lines."""
    text = str(value).strip().upper()
    number = int(text) if text.isdecimal() else logging.getLevelNamesMapping().get(text)
    if number is None:
        return value
    return next((name for name, level in _LEVELS.items() if level >= number), "CRITICAL")


def _hosts(entries: tuple[str, ...]) -> tuple[str, ...]:
    Hosts(entries)
    return entries


def _origins(entries: tuple[str, ...]) -> tuple[str, ...]:
    Origins(entries)
    return entries


def _networks(entries: tuple[str, ...]) -> tuple[str, ...]:
    Proxies(entries)
    return entries


def _bind(bind: str) -> str:
    # Imported here: most processes are told a host and a port, or nothing.
    from trio_mcp.transports.listener.binds import check_bind

    check_bind(bind)
    return bind


def _binds(entries: tuple[str, ...]) -> tuple[str, ...]:
    for entry in entries:
        _bind(entry)
    return entries


def _formed(pattern: str, words: str) -> AfterValidator:
    """Text that matches `pattern` as a whole; else `words` say what it should be."""
    whole = re.compile(pattern)

    def check(text: str) -> str:
        if whole.fullmatch(text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)


EndpointPath = Annotated[str, _formed(r"/[^\s?#]*", "a path begins with a slash and has no space, ? or #, as /mcp")]

NodeId = Annotated[str, _formed(r"[A-Za-z0-9-]{1,63}", "a node id has 1 to 63 of A-Z a-z 0-9 and -, as node1")]

NodeUrl = Annotated[
    str, _formed(r"http://[^\s/?#]+/?", "expected http://host:port and no path, as http://10.0.0.7:8000")
]
"""Nodes speak plain HTTP to each other: TLS ends at the balancer."""

RedisPrefix = Annotated[str, _formed(r"[^\s:]{1,64}", "a prefix has 1 to 64 characters, and no space or colon, as mcp")]

Count = Annotated[int, Field(ge=1)]

Workers = Annotated[int, BeforeValidator(parse_workers)]
"""How many processes serve the node."""

CommaList = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]

Bind = Annotated[str, AfterValidator(_bind)]
"""An address to listen on."""

BindList = Annotated[CommaList, AfterValidator(_binds)]
"""Several of them."""

HostList = Annotated[CommaList, AfterValidator(_hosts)]
"""What a Host header may say."""

OriginList = Annotated[CommaList, AfterValidator(_origins)]
"""What an Origin header may say."""

NetworkList = Annotated[CommaList, AfterValidator(_networks)]
"""Addresses and networks of proxies."""

LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level_name)]
"""A level that logging knows, by name or number."""
