"""A default is written once: what signatures, options and settings have is what `trio_mcp/defaults.py` says."""

from __future__ import annotations

import ast
import inspect
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

import trio_mcp
from trio_mcp import MCPServer, defaults
from trio_mcp.cluster.cluster import ClusterOptions
from trio_mcp.dispatch.options import Options
from trio_mcp.serving.settings import Settings
from trio_mcp.sessions.hub import HubOptions
from trio_mcp.streams.budget import StreamBounds
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.listener import Limits

VALUES = {name: value for name, value in vars(defaults).items() if name.isupper()}
SETTINGS = {name: info.default for name, info in Settings.model_fields.items()}

OTHER_NAMES: dict[str, dict[type, str]] = {
    "sse_after": {Pace: "sse_after"},
    "stream_delay": {Pace: "stream_delay"},
    "keepalive": {Pace: "keep_alive", ClusterOptions: "keep_alive"},
    "retry_interval": {Pace: "retry"},
    "write_timeout": {
        Options: "write_timeout",
        Limits: "write_seconds",
        ClusterOptions: "write_timeout",
    },
    "max_events": {StreamBounds: "events"},
    "max_stream_bytes": {StreamBounds: "stream_bytes"},
    "max_session_bytes": {StreamBounds: "session_bytes"},
    "event_retention": {StreamBounds: "keep_seconds"},
    "max_head": {Limits: "head_bytes"},
    "head_timeout": {Limits: "head_seconds"},
    "max_body": {Limits: "body_bytes"},
    "body_timeout": {Limits: "body_seconds"},
    "connection_idle_timeout": {Limits: "idle_seconds"},
    "max_sessions": {HubOptions: "max_sessions"},
    "session_idle_timeout": {HubOptions: "session_idle_timeout"},
    "request_timeout": {Options: "request_timeout"},
    "page_size": {Options: "page_size"},
    "max_in_flight": {Options: "max_in_flight"},
    "max_listen_streams": {Options: "max_listen_streams"},
}


def _default(kind: type, name: str) -> Any:
    (field,) = (each for each in fields(kind) if each.name == name)
    assert field.default is not MISSING
    return field.default


@pytest.mark.parametrize("setting", OTHER_NAMES)
def test_a_setting_and_what_it_sets_have_one_default(setting: str) -> None:
    for kind, name in OTHER_NAMES[setting].items():
        assert _default(kind, name) == SETTINGS[setting], kind


def test_the_signature_of_http_app_has_the_defaults_of_the_settings() -> None:
    signature = inspect.signature(MCPServer.http_app).parameters
    shared = [name for name in SETTINGS if name in signature and SETTINGS[name] not in (None, ())]
    assert {name: signature[name].default for name in shared} == {name: SETTINGS[name] for name in shared}
    assert {"max_sessions", "max_body", "session_idle_timeout", "path"} <= set(shared)


def test_every_default_is_read_and_none_is_written_a_second_time() -> None:
    names = {*SETTINGS, *(name for kinds in OTHER_NAMES.values() for name in kinds.values())}
    read: set[str] = set()
    for file in Path(trio_mcp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.ImportFrom(module="trio_mcp.defaults", names=imported):
                    read.update(each.name for each in imported)
                case ast.Attribute(value=ast.Name(id="defaults"), attr=name):
                    read.add(name)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value)) if name in names:
                    assert isinstance(value, bool) or not isinstance(value, int | float), f"{file}:{node.lineno}"
    assert set(VALUES) <= read
