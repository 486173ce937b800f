"""Reads the values of settings from where they are given: flag > environment > env file > config file > default."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trio_mcp.protocol.errors import McpError

__all__ = ["Layer", "Names", "SettingsError", "layers", "nearest", "strays", "unknown_variables"]

PREFIX = "TRIO_MCP_"

OF_COMMANDS = frozenset({"TRIO_MCP_BEARER", "TRIO_MCP_BEARER_URL", "TRIO_MCP_CLIENT_SECRET"})
"""What commands that use a server read, and servers do not."""


class SettingsError(McpError):
    """The settings cannot be used; the text has one line for each fault, with the place the value came from."""


@dataclass(frozen=True, slots=True)
class Names:
    """The environment variables of a setting: `TRIO_MCP_…` first, then `aliases`, which platforms set."""

    setting: str
    aliases: tuple[str, ...] = ()
    secret: bool = False
    readable: Callable[[str], bool] | None = None
    """Whether the value of an alias can be meant for this setting. Where it cannot, it is another program's, and ignored."""

    @property
    def variable(self) -> str:
        return PREFIX + self.setting.upper()

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable, *self.aliases)


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place, by setting; `origin` says where each was found, such as `node.toml: port`."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def add(self, setting: str, value: Any, origin: str) -> None:
        self.values[setting] = value
        self.origin[setting] = origin


def layers(flags: Mapping[str, Any], environ: Mapping[str, str], names: Collection[Names]) -> list[Layer]:
    """Every place that gives values, strongest first; a flag that is None was not given.

    Raises SettingsError when a file that was asked for cannot be read.
    """
    given = Layer()
    for setting, value in flags.items():
        if value is not None:
            given.add(setting, value, f"flag --{setting.replace('_', '-')}")
    environment = _from_variables(environ, names, "environment {}".format)
    found = [given, environment]
    env_file = _first(found, "env_file")
    if env_file is not None:
        found.append(_from_variables(_read_env_file(Path(env_file)), names, f"{env_file}: {{}}".format))
    config = _first(found, "config")
    if config is not None:
        found.append(_from_toml(Path(config)))
    return found


def _first(found: Iterable[Layer], setting: str) -> Any:
    return next((layer.values[setting] for layer in found if setting in layer.values), None)


def _from_variables(variables: Mapping[str, str], names: Collection[Names], origin: Callable[[str], str]) -> Layer:
    layer = Layer()
    for name in names:
        for variable in name.variables:
            # An empty variable counts as unset: `FOO=` is how compose files and manifests clear one.
            if variables.get(variable) and not _is_stray(name, variable, variables):
                layer.add(name.setting, variables[variable], origin(variable))
                break
        else:
            path = variables.get(f"{name.variable}_FILE") if name.secret else None
            if path:
                layer.add(name.setting, _read(Path(path)).strip(), origin(f"{name.variable}_FILE"))
    return layer


def _is_stray(name: Names, variable: str, variables: Mapping[str, str]) -> bool:
    return variable in name.aliases and name.readable is not None and not name.readable(variables[variable])


def strays(variables: Mapping[str, str], names: Collection[Names]) -> list[str]:
    """The variables without our prefix that are set, and ignored because their values are not meant for this program."""
    return [
        alias for name in names for alias in name.aliases if variables.get(alias) and _is_stray(name, alias, variables)
    ]


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read {path}: {reason}") from error


def _read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines; `#` comments, an `export` before the name and quotes around the value are dropped."""
    variables = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"{path}:{number}: expected NAME=value")
        variables[name.strip()] = _unquoted(value.strip())
    return variables


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.partition(" #")[0].rstrip()


def _from_toml(path: Path) -> Layer:
    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    layer = Layer()
    for key, value in table.items():
        layer.add(key.replace("-", "_"), value, f"{path}: {key}")
    return layer


def unknown_variables(environ: Mapping[str, str], names: Collection[Names]) -> dict[str, str | None]:
    """The `TRIO_MCP_*` variables that are no setting, each with the known name most like it, or None."""
    known = OF_COMMANDS | {name.variable for name in names} | {f"{name.variable}_FILE" for name in names if name.secret}
    unknown = [name for name in environ if name.startswith(PREFIX) and name not in known]
    return {name: nearest(name, known) for name in sorted(unknown)}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word of `known` that `word` may be a misspelling of; None when none is similar."""
    return next(iter(get_close_matches(word, sorted(known), n=1, cutoff=0.75)), None)
