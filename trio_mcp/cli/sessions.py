"""`sessions`: which node has which session, from Redis; `sessions end ID` ends one."""

from __future__ import annotations

import time
from typing import Annotated, TypeAlias

import trio
from cyclopts import App, Parameter
from cyclopts.validators import Number

from trio_mcp.cli.arguments import Json, UsageError
from trio_mcp.cli.cluster_view import END_SECONDS, ClusterView, EndResult, RecordedSession, cluster_view
from trio_mcp.cli.output import print_json, print_section
from trio_mcp.cli.session_table import NODE_COLUMNS, SESSION_COLUMNS, SessionTable, labels
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.settings import load_one

__all__ = ["CANDIDATES", "LIMIT", "RedisPrefix", "RedisUrl", "sessions", "which_redis"]

LIMIT = 1000
"""Rows that are shown unless `--limit` says otherwise."""

CANDIDATES = 10
"""How many sessions or tasks an ambiguous id lists."""

RedisUrl: TypeAlias = Annotated[str | None, Parameter("--redis-url", help="As the nodes have it; TRIO_MCP_REDIS_URL.")]
RedisPrefix: TypeAlias = Annotated[
    str | None, Parameter("--redis-prefix", help="As the nodes have it; TRIO_MCP_REDIS_PREFIX.")
]

sessions: App = App("sessions", help="Show which node has which session, from Redis; `end` one of them.")


@sessions.default
def show(
    *,
    redis_url: RedisUrl = None,
    redis_prefix: RedisPrefix = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100_000))] = LIMIT,
    as_json: Json = False,
) -> int:
    """Show which node has which session, from Redis.

    Ids are shown short: a whole one is a credential.

    Parameters
    ----------
    limit
        Show so many sessions at most.
    """
    url, prefix = which_redis(redis_url, redis_prefix)
    found = trio.run(_look, url, prefix, limit)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found)
    if not found.nodes:
        raise McpError(
            f"no node has shown itself in this Redis within a day under the prefix {prefix}. Is it the nodes' --redis-prefix, "
            "their Redis and its database (the number at the URL's end)?"
        )
    return 0


@sessions.command
def end(
    id: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    redis_url: RedisUrl = None,
    redis_prefix: RedisPrefix = None,
) -> int:
    """End a session, on whichever node it is.

    Parameters
    ----------
    id
        As `trio-mcp sessions` shows it, `node1.` in front where two begin alike; or the whole id.
    """
    return trio.run(_end, *which_redis(redis_url, redis_prefix), id)


def which_redis(url: str | None, prefix: str | None) -> tuple[str, str]:
    """URL and prefix, as given or from the environment; raises UsageError without a URL."""
    found = load_one("redis_url", url)
    if found is None:
        raise UsageError(
            "which Redis? Give --redis-url or TRIO_MCP_REDIS_URL, as the nodes have it; "
            "a node without Redis lists its sessions at /sessions of its admin listener"
        )
    return found.get_secret_value(), load_one("redis_prefix", prefix)


async def _look(url: str, prefix: str, limit: int) -> SessionTable:
    async with cluster_view(url, prefix) as redis:
        return SessionTable(await redis.nodes(), await redis.sessions(limit), time.time())


async def _end(url: str, prefix: str, name: str) -> int:
    async with cluster_view(url, prefix) as redis:
        session = await _the_one(redis, name)
        label, node = labels([session])[0], "its node" if session.record is None else session.record.node
        match await redis.end(session.id):
            case EndResult.ENDED:
                print(f"{label} on {node} has ended")
            case EndResult.REMOVED:
                print(f"{label}: {node} is gone, and its record with it now")
            case EndResult.UNANSWERED:
                raise McpError(
                    f"{node} has not ended {label} within {END_SECONDS:g} s: it does not answer, or a handler holds up the "
                    "session's end. Look at its /livez and its log, and try again"
                )
    return 0


async def _the_one(redis: ClusterView, name: str) -> RecordedSession:
    found = await redis.named(name, CANDIDATES)
    match found.sessions:
        case [one]:
            return one
        case []:
            raise McpError(f"there is no session {name}. `trio-mcp sessions` lists them")
        case several:
            candidates = "".join(f"\n  {label}" for label in sorted(labels(several, with_node=True)))
            more = "" if found.complete else "\n  … and more"
            raise UsageError(f"{name} can be any of these; say which:{candidates}{more}")


def _print(found: SessionTable) -> None:
    print_section("Nodes", found.node_rows(), head=NODE_COLUMNS)
    print_section("Sessions", found.session_rows(), head=SESSION_COLUMNS)
    if not found.complete:
        print(f"There are more than {len(found.sessions)}: --limit")
