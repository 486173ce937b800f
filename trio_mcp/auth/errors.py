"""What can go wrong while authorization is set up, and while an authorization server is asked.

AuthConfigurationError   the configuration is wrong, or the authorization server contradicts it; the node does not start
FetchError               the authorization server gave no usable answer; may work the next time
"""

from __future__ import annotations

from trio_mcp.protocol.errors import McpError

__all__ = ["AuthConfigurationError", "FetchError"]


class AuthConfigurationError(McpError, ValueError):
    """Authorization cannot start as configured; the text says what to set."""


class FetchError(McpError):
    """The authorization server could not be asked, or its answer cannot be used; the text says why."""
