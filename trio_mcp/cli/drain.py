"""`drain`: have a node stop as SIGTERM would, and follow it to its end."""

from __future__ import annotations

from typing import Annotated

import trio
from cyclopts import Parameter

from trio_mcp.cli.admin import Admin, AdminState
from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.wire import WireError
from trio_mcp.observability.logs import printable
from trio_mcp.serving.settings import load_one

__all__ = ["drain", "follow"]

LOOK_SECONDS = 0.2
MISSED_LOOKS = 2
"""A process that ends in the middle of an answer is met once more; one that is gone, never."""


def drain(
    admin: str | None = None,
    /,
    *,
    admin_bind: Annotated[
        str | None, Parameter(help="As the node has it; TRIO_MCP_ADMIN_BIND. The same as ADMIN.")
    ] = None,
    wait: Annotated[bool, Parameter(help="Follow the node until it is gone.")] = True,
) -> int:
    """Drain a node through its admin listener, as SIGTERM would: it takes no new work, finishes what it has, and ends.

    Parameters
    ----------
    admin
        Where its admin listener is: `127.0.0.1:9464` or `unix:/run/mcp-admin.sock`.
    """
    bind = load_one("admin_bind", admin if admin is not None else admin_bind)
    if bind is None:
        raise UsageError("which node? Name its admin listener, as in `trio-mcp drain 127.0.0.1:9464`")
    return trio.run(_drain, Admin(bind), wait)


async def _drain(admin: Admin, wait: bool) -> int:
    before = await admin.state()
    await admin.drain()
    if not wait:
        print(f"{admin.name} drains")
        return 0
    started = trio.current_time()
    await follow(admin, before)
    print(f"{admin.name} is gone, after {trio.current_time() - started:.0f} s")
    return 0


async def follow(admin: Admin, before: AdminState) -> None:
    """Tell each change, until nobody answers there or another process does."""
    told: AdminState | None = None
    missed = 0
    while missed < MISSED_LOOKS:
        try:
            state = await admin.state()
        except WireError:
            missed += 1
        else:
            if state.boot != before.boot:
                return
            if state != told:
                print(printable(state.words), flush=True)
            missed, told = 0, state
        await trio.sleep(LOOK_SECONDS)
