"""`token`: whether this configuration takes a token, and what of it decides; for the person who runs the server."""

from __future__ import annotations

import time
from typing import Annotated

import trio
from cyclopts import Parameter

from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.token_report import TokenReport, report_on
from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.credentials import read_secret
from trio_mcp.cli.settings_flags import NO_FLAGS, SettingsFlags, given
from trio_mcp.observability.logs import printable
from trio_mcp.server import MCPServer
from trio_mcp.serving.composition import authorization
from trio_mcp.serving.loader import load_target
from trio_mcp.serving.settings import load

__all__ = ["token"]


def token(
    text: Annotated[str, Parameter(name="TOKEN", allow_leading_hyphen=True)] = "-",
    /,
    *,
    target: Annotated[str | None, Parameter(help="A server whose `auth=` is in its code.")] = None,
    flags: SettingsFlags = NO_FLAGS,
) -> int:
    """Say whether a token would be accepted, and why not. It is not sent anywhere, and never printed.

    Settings are those of `serve`. The keys of the issuer are fetched. The exit code is 1 for a token that is refused.

    Parameters
    ----------
    text
        `-` for stdin, `@file`, or the token.
    """
    secret = read_secret(text, "TOKEN")
    report = trio.run(_report, _auth(target, flags), secret)
    for line in report.lines:
        print(printable(line))
    return 0 if report.accepted else 1


def _auth(target: str | None, flags: SettingsFlags) -> BearerAuth:
    server = MCPServer("token") if target is None else load_target(target)
    by_settings, url = authorization(server, load(**given(flags)))
    auth = by_settings or server.auth
    if not isinstance(auth, BearerAuth):
        raise UsageError("nothing here verifies tokens: set --auth-issuer, or name a server that does with --target")
    auth.bind(url)
    return auth


async def _report(auth: BearerAuth, secret: str) -> TokenReport:
    async with trio.open_nursery() as nursery:
        # Its first attempt to fetch keys ends within seconds, whether it worked or not.
        await nursery.start(auth.run)
        report = await report_on(auth, secret, now=time.time())
        nursery.cancel_scope.cancel()
    return report
