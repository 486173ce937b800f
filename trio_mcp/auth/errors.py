"""What can go wrong while authorization is set up, and while an authorization server is asked.

AuthConfigurationError   the configuration is wrong, or the authorization server contradicts it; the node does not start
FetchError               the authorization server gave no usable answer; may work the next time
"""

from __future__ import annotations

from pathlib import Path

from trio_mcp.protocol.errors import McpError

__all__ = ["AuthConfigurationError", "FetchError", "no_file"]


class AuthConfigurationError(McpError, ValueError):
    """Authorization cannot start as configured; the text says what to set."""


def no_file(path: Path) -> str:
    """What to say of a file that is not there; of a relative name also the folder that it was looked for in."""
    return f"there is no file {path}" + ("" if path.is_absolute() else f" in {Path.cwd()}")


class FetchError(McpError):
    """The authorization server could not be asked, or its answer cannot be used; the text says why."""
