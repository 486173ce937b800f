"""The commands of `trio-mcp`. Each is imported when it is used: `version` needs no server, `call` no settings."""

from __future__ import annotations

from cyclopts import App

from trio_mcp.observability.build import version

__all__ = ["app", "import_commands"]

app: App = App(
    "trio-mcp",
    help="MCP servers on Trio.",
    help_epilogue="`--traceback` with any command shows where an error came from.",
    help_format="markdown",
    version=version,
    # `execute` gives the exit code of Ctrl+C, as it does for all other errors.
    suppress_keyboard_interrupt=False,
)
for _name, _where in {
    "serve": "trio_mcp.cli.serve:serve",
    "run": "trio_mcp.cli.serve:run",
    "demo": "trio_mcp.cli.serve:demo",
    "inspect": "trio_mcp.cli.client_commands:inspect",
    "list": "trio_mcp.cli.client_commands:list_",
    "call": "trio_mcp.cli.client_commands:call",
    "read": "trio_mcp.cli.content_commands:read",
    "prompt": "trio_mcp.cli.content_commands:prompt",
    "login": "trio_mcp.cli.login.command:login",
    "logout": "trio_mcp.cli.login.command:logout",
    "token": "trio_mcp.cli.token:token",
    "check": "trio_mcp.cli.check.command:check",
    "sessions": "trio_mcp.cli.sessions:sessions",
    "tasks": "trio_mcp.cli.tasks:tasks",
    "drain": "trio_mcp.cli.drain:drain",
    "export": "trio_mcp.cli.export.command:export",
    "config": "trio_mcp.cli.settings_flags:config",
    "version": "trio_mcp.cli.app:show_version",
}.items():
    app.command(_where, name=_name)


def show_version() -> int:
    """Show the versions of trio-mcp, Python, Trio and the protocol."""
    import platform
    from importlib import metadata

    from trio_mcp.protocol.versions import SERVED_VERSIONS

    print(f"trio-mcp {version()}  (Python {platform.python_version()}, Trio {metadata.version('trio')})")
    print(f"MCP {', '.join(SERVED_VERSIONS)}")
    return 0


def import_commands() -> None:
    """Import all of them: the list of commands shows the docstring of each."""
    for name in app:
        if not name.startswith("-"):
            app[name]
