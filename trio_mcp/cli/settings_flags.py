"""Every setting on the command line: as a flag (`session_idle_timeout` is `--session-idle-timeout`), and in `config`'s table."""

from __future__ import annotations

from dataclasses import asdict, field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

from cyclopts import Group, Parameter
from pydantic import BeforeValidator

from trio_mcp.cli.arguments import Json
from trio_mcp.cli.output import print_json, print_note, print_rows
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.settings_report import Explained, describe, explain, unread

__all__ = ["NO_FLAGS", "SettingsFlags", "config", "given", "markdown"]

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
    """The type that the command line converts to; where Settings has a rule of its own, the text is kept."""
    info = Settings.model_fields[name]
    if get_origin(info.annotation) is tuple:
        return list[str] | None
    plain = not any(isinstance(each, BeforeValidator) for each in info.metadata)
    if plain and (info.annotation in (bool, int) or get_origin(info.annotation) is Literal):
        return info.annotation | None  # type: ignore[operator]
    return str | None


_NO_FLAG = frozenset({"secret", "auth_introspection_client_secret"})
"""Everyone on the host can read a command line with `ps`."""

_ROWS = [row for row in describe() if row.name not in _NO_FLAG]
_GROUPS = list(dict.fromkeys(row.group for row in _ROWS))

if TYPE_CHECKING:

    class SettingsFlags:
        """One field for each setting, None where the flag was not given."""
else:
    _fields = [_flag(row) for row in _ROWS]
    # cyclopts opens a class up into flags only when its module is not one of the standard library's.
    _namespace = {"__module__": __name__}
    SettingsFlags = Parameter(name="*")(
        make_dataclass("SettingsFlags", _fields, frozen=True, kw_only=True, namespace=_namespace)
    )

NO_FLAGS = SettingsFlags()


def given(flags: SettingsFlags) -> dict[str, Any]:
    """The settings whose flags were given, by name."""
    return {name: value for name, value in vars(flags).items() if value is not None}


def config(
    target: str | None = None,
    /,
    *,
    as_json: Json = False,
    as_markdown: Annotated[
        bool,
        Parameter(
            "--markdown",
            negative=(),
            show_default=False,
            help="The table of all settings for a README, with defaults only.",
        ),
    ] = False,
    flags: SettingsFlags = NO_FLAGS,
) -> int:
    """Show every setting, its value, and where the value came from; secrets are masked.

    Parameters
    ----------
    target
        A server to import first, as `serve` would: its file may change the environment.
    """
    if as_markdown:
        print(markdown(describe()))
        return 0
    if target is not None:
        from trio_mcp.serving.loader import load_target

        load_target(target)
    rows = explain(**given(flags))
    for sentence in unread():
        print_note(sentence)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_rows([(row.name, row.value or "-", row.source) for row in rows], head=("setting", "value", "source"))
    return 0


def markdown(rows: list[Explained]) -> str:
    """The settings table of the README."""
    lines = ["| Setting | Environment | Default | Meaning |", "|---|---|---|---|"]
    for row in rows:
        variables = ", ".join(f"`{name}`" for name in row.variables)
        default = f"`{row.default}`" if row.default else "-"
        flag = f"`--{row.name.replace('_', '-')}`" if row.name not in _NO_FLAG else "(no flag)"
        lines.append(f"| {flag} | {variables} | {default} | {row.description} |")
    return "\n".join(lines)
