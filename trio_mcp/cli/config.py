"""`config`: every setting, its value, and where the value came from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from trio_mcp.cli.flags import NO_FLAGS, SettingsFlags, given
from trio_mcp.cli.show import print_json, print_rows
from trio_mcp.serving.explain import Explained, describe, explain

__all__ = ["config", "markdown"]


def config(
    target: str | None = None,
    /,
    *,
    as_json: Annotated[
        bool, Parameter("--json", negative=(), show_default=False, help="One JSON document on stdout.")
    ] = False,
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
        flag = f"`--{row.name.replace('_', '-')}`" if row.name != "secret" else "(no flag)"
        lines.append(f"| {flag} | {variables} | {default} | {row.description} |")
    return "\n".join(lines)
