"""MCP over stdin and stdout: one process, one client, one message a line."""

from trio_mcp.transports.stdio.server import StdioServer

__all__ = ["StdioServer"]
