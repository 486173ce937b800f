"""What went wrong → words for a person and an exit code."""

from __future__ import annotations

import os
import select
import sys
import traceback

from trio_mcp.observability.logs import leaf_lines, leaves, printable
from trio_mcp.protocol.errors import McpError

__all__ = ["told"]

FAILED, USAGE, AUTHORIZATION, INTERRUPTED = 1, 2, 3, 130

_CODES = {
    "UsageError": USAGE,
    "SettingsError": USAGE,
    "InvalidRedisUrl": USAGE,
    "AuthorizationRequired": AUTHORIZATION,
}
"""By name: the modules that define them are only imported by the commands that use them."""


def told(error: BaseException, *, tree: bool = False) -> int:
    """Print the error and give its exit code; the traceback only for a fault of the program, or when asked for."""
    causes = list(leaves(error))
    if all(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return INTERRUPTED
    if all(isinstance(cause, BrokenPipeError) for cause in causes) and reader_gone():
        return 0
    expected = all(_words(cause) for cause in causes)
    for cause, line in zip(causes, leaf_lines(error), strict=True):
        print(printable(f"trio-mcp: {_words(cause) or line}", keep="\n"), file=sys.stderr)
    if tree or not expected:
        traceback.print_exception(error)
    return max(_CODES.get(type(cause).__name__, FAILED) for cause in causes)


def reader_gone() -> bool:
    """Whether nobody reads stdout any more, as in `trio-mcp list … | head`: nothing went wrong, and nothing more can be said."""
    stdout = select.poll()
    stdout.register(sys.stdout, 0)
    if not any(events & select.POLLERR for _, events in stdout.poll(0)):
        return False
    # Python flushes once more at exit, and would complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _words(cause: BaseException) -> str | None:
    """Of an error we foresaw, its own words and the next step."""
    if isinstance(cause, McpError):
        return str(cause) + _next_step(cause)
    return None


def _next_step(cause: McpError) -> str:
    status = getattr(cause, "status", None)
    if type(cause).__name__ == "AuthorizationRequired":
        return ". Send a token with --header 'Authorization: Bearer …'"
    if type(cause).__name__ == "Untrusted":
        return ". If it is one of your own, take it with --insecure, or name its authority in SSL_CERT_FILE"
    if status == 404 and type(cause).__name__ == "HttpRefused":
        return ". Is the path right? An MCP endpoint is usually at /mcp"
    if status is not None and status >= 500:
        return ". It may not know 2026-07-28: try --legacy"
    return ""
