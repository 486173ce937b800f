"""Every setting as a flag: `session_idle_timeout` is `--session-idle-timeout`."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

from cyclopts import Group, Parameter
from pydantic import BeforeValidator

from trio_mcp.serving.explain import Explained, describe
from trio_mcp.serving.settings import Settings

__all__ = ["NO_FLAGS", "SettingsFlags", "given"]

_ALIASES = {"port": "-p", "bind": "-b", "log_level": "-l"}


def _flag(row: Explained) -> tuple[str, Any, Any]:
    default = f" [default: {row.default}]" if row.default else ""
    parameter = Parameter(
        alias=_ALIASES.get(row.name),
        group=Group(row.group, sort_key=_GROUPS.index(row.group)),
        help=row.description + default,
        negative=() if row.name in ("bind", "admin_hosts", "allowed_hosts", "allowed_origins") else None,
    )
    return row.name, Annotated[_kind(row.name), parameter], field(default=None)


def _kind(name: str) -> Any:
    """What the command line takes; what Settings reads by its own rules stays text."""
    info = Settings.model_fields[name]
    if get_origin(info.annotation) is tuple:
        return list[str] | None
    plain = not any(isinstance(each, BeforeValidator) for each in info.metadata)
    if plain and (info.annotation in (bool, int) or get_origin(info.annotation) is Literal):
        return info.annotation | None  # type: ignore[operator]
    return str | None


_ROWS = [row for row in describe() if row.name != "secret"]
# A secret on a command line is a secret in `ps`.
_GROUPS = list(dict.fromkeys(row.group for row in _ROWS))

if TYPE_CHECKING:

    class SettingsFlags:
        """One field for each setting, None where the flag was not given."""
else:
    _fields = [_flag(row) for row in _ROWS]
    # cyclopts takes a class for one of ours, to be opened up into flags, only by its module.
    _namespace = {"__module__": __name__}
    SettingsFlags = Parameter(name="*")(
        make_dataclass("SettingsFlags", _fields, frozen=True, kw_only=True, namespace=_namespace)
    )

NO_FLAGS = SettingsFlags()


def given(flags: SettingsFlags) -> dict[str, Any]:
    """The flags that were given, as keywords of Settings."""
    return {name: value for name, value in vars(flags).items() if value is not None}
