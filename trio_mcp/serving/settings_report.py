"""Describes the settings to people: every value, where it came from, and what it means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from trio_mcp.serving.setting_sources import Names, strays, unknown_variables
from trio_mcp.serving.setting_types import duration_text, parse_size, size_text
from trio_mcp.serving.settings import NAMES, Settings, load, sources

__all__ = ["Explained", "describe", "explain", "ignored", "of_http", "unknown", "unread"]

_GROUPS_OF_HTTP = frozenset({"Authorization", "Where", "Cluster"})
_SINGLE_OF_HTTP = frozenset({"allowed_hosts", "allowed_origins", "forwarded_allow"})

_TAKEN_WITHOUT_PREFIX = ("AUTH_ISSUER", "AUTH_TOKENS", "AUTH_RESOURCE", "AUTH_JWKS_URI", "AUTH_REQUIRED_SCOPES")
"""Whoever sets one of these wants a guarded server, and would get an open one."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One setting: its value as people write it (secrets masked), where that came from, and what it means."""

    name: str
    value: str
    source: str
    default: str
    variables: tuple[str, ...]
    group: str
    description: str


def describe() -> list[Explained]:
    """Every setting with its default, whatever the environment says."""
    return [_explained(name, Settings.model_fields[name.setting].default, "default") for name in NAMES]


def of_http() -> frozenset[str]:
    """The settings that mean nothing on stdio, by name."""
    return _SINGLE_OF_HTTP | {row.name for row in describe() if row.group in _GROUPS_OF_HTTP}


def explain(**flags: Any) -> list[Explained]:
    """Every setting with its present value; raises SettingsError as `load` does."""
    settings, found = load(**flags), sources(**flags)
    return [_explained(name, getattr(settings, name.setting), found.get(name.setting, "default")) for name in NAMES]


def unknown(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """The `TRIO_MCP_*` variables that are no setting, each with the known name most like it, or None."""
    return unknown_variables(environ, NAMES)


def ignored(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The variables without our prefix that are ignored because their values are not meant for this program."""
    return strays(environ, NAMES)


def unread(environ: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each variable that looks like a setting of this program and has no effect."""
    return [
        *(f"{name} is ignored: its value cannot be meant for trio-mcp" for name in ignored(environ)),
        *(
            f"{name} is no setting of trio-mcp" + (f"; did you mean {hint}?" if hint else "")
            for name, hint in unknown(environ).items()
        ),
        *(
            f"{name} is not read; did you mean TRIO_MCP_{name}?"
            for name in _TAKEN_WITHOUT_PREFIX
            if environ.get(name) and not environ.get(f"TRIO_MCP_{name}")
        ),
    ]


def _explained(name: Names, value: Any, source: str) -> Explained:
    info = Settings.model_fields[name.setting]
    extra = info.json_schema_extra
    return Explained(
        name=name.setting,
        value=_text(info, value),
        source=source,
        default=_text(info, info.default),
        variables=(*name.variables, *([f"{name.variable}_FILE"] if name.secret else [])),
        group=str(extra["group"]) if isinstance(extra, dict) else "",
        description=info.description or "",
    )


def _text(info: FieldInfo, value: Any) -> str:
    match value:
        case None | ():
            return ""
        case bool():
            return str(value).lower()
        case float():
            return duration_text(value)
        case SecretStr():
            return "(set)"
        case tuple():
            return ",".join(value)
        case int() if any(isinstance(each, BeforeValidator) and each.func is parse_size for each in info.metadata):
            return size_text(value)
        case _:
            return str(value)
