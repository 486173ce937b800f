"""The commands. Each is imported when it is asked for: `version` needs no server, `call` no settings."""

from __future__ import annotations

from cyclopts import App

from trio_mcp.observability.build import version

__all__ = ["app", "import_commands"]

app = App(
    "trio-mcp",
    help="MCP servers on Trio.",
    help_epilogue="`--traceback` with any command shows where an error came from.",
    help_format="markdown",
    version=version,
    # Ctrl+C has one exit code, given where all others are.
    suppress_keyboard_interrupt=False,
)
for name, where in {
    "serve": "trio_mcp.cli.serve:serve",
    "run": "trio_mcp.cli.serve:run",
    "demo": "trio_mcp.cli.serve:demo",
    "inspect": "trio_mcp.cli.look:inspect",
    "list": "trio_mcp.cli.look:list_",
    "call": "trio_mcp.cli.look:call",
    "check": "trio_mcp.cli.check.command:check",
    "sessions": "trio_mcp.cli.sessions:sessions",
    "drain": "trio_mcp.cli.drain:drain",
    "export": "trio_mcp.cli.export.command:export",
    "config": "trio_mcp.cli.config:config",
    "version": "trio_mcp.cli.version:version",
}.items():
    app.command(where, name=name)


def import_commands() -> None:
    """All of them: a list of commands tells what each does, and only they know."""
    for name in app:
        if not name.startswith("-"):
            app[name]
