"""From an exception to a message on stderr and an exit code."""

from __future__ import annotations

import os
import select
import shlex
import sys
import traceback

from trio_mcp.observability.logs import leaf_lines, leaves, printable
from trio_mcp.protocol.errors import McpError

__all__ = ["report"]

FAILED, USAGE, AUTHORIZATION, INTERRUPTED = 1, 2, 3, 130

_CODES = {
    "UsageError": USAGE,
    "SettingsError": USAGE,
    "AuthConfigurationError": USAGE,
    "InvalidRedisUrl": USAGE,
    "InvalidUrl": USAGE,
    "AuthorizationRequired": AUTHORIZATION,
}
"""By class name: a command imports only the modules it needs, and these errors come from several."""


def report(error: BaseException, *, tree: bool = False) -> int:
    """Print the error and give its exit code. A traceback comes with errors that are not foreseen, or with `tree`."""
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
    """Whether the reader of stdout has closed it, as in `trio-mcp list … | head`: that is no error."""
    stdout = select.poll()
    stdout.register(sys.stdout, 0)
    if not any(events & select.POLLERR for _, events in stdout.poll(0)):
        return False
    # Python flushes stdout once more at exit, and would raise again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _words(cause: BaseException) -> str | None:
    """The text of a foreseen error with the next step; None for any other."""
    if isinstance(cause, McpError):
        return str(cause) + _next_step(cause)
    return None


def _next_step(cause: McpError) -> str:
    if told := getattr(cause, "next_step", ""):
        return str(told)
    status = getattr(cause, "status", None)
    if type(cause).__name__ == "AuthorizationRequired":
        if not getattr(cause, "login_offered", True):
            return ". Send a token with --bearer @file"
        scopes = " ".join(getattr(cause, "scopes", ()))
        scope = f" --scope '{scopes}'" if scopes and status == 403 else ""
        url = shlex.quote(getattr(cause, "url", "") or "URL")
        return f". Get a token with `trio-mcp login {url}{scope}`, or send one with --bearer @file"
    return ""
