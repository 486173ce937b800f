"""`tasks`: which tasks there are, from Redis; `tasks end ID` ends one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import trio
from cyclopts import App, Parameter
from cyclopts.validators import Number

from trio_mcp.cli.arguments import Json, UsageError
from trio_mcp.cli.cluster_view import END_SECONDS, cluster_view
from trio_mcp.cli.output import print_json, print_section
from trio_mcp.cli.session_table import duration, shortened
from trio_mcp.cli.sessions import CANDIDATES, LIMIT, RedisPrefix, RedisUrl, which_redis
from trio_mcp.cli.task_view import FoundTasks, StoredTask, TaskView
from trio_mcp.protocol.errors import McpError

__all__ = ["tasks"]

COLUMNS = ("task", "tool", "node", "status", "age", "expires in", "notes")

tasks: App = App("tasks", help="Show which tasks there are, from Redis; `end` one of them.")


@tasks.default
def show(
    *,
    redis_url: RedisUrl = None,
    redis_prefix: RedisPrefix = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100_000))] = LIMIT,
    as_json: Json = False,
) -> int:
    """Show which tasks there are, from Redis.

    Ids are shown short: a whole one is a credential. Arguments, questions and results are sealed, and not shown.

    Parameters
    ----------
    limit
        Show so many tasks at most.
    """
    found = trio.run(_look, *which_redis(redis_url, redis_prefix), limit)
    rows = _entries(found.tasks)
    if as_json:
        print_json({"tasks": rows, "complete": found.complete})
        return 0
    print_section("Tasks", [_row(entry) for entry in rows], head=COLUMNS)
    if not found.complete:
        print(f"There are more than {len(rows)}: --limit")
    return 0


@tasks.command
def end(
    id: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    redis_url: RedisUrl = None,
    redis_prefix: RedisPrefix = None,
) -> int:
    """End a task, on whichever node it runs, as its client can.

    Parameters
    ----------
    id
        As `trio-mcp tasks` shows it, or the whole id.
    """
    return trio.run(_end, *which_redis(redis_url, redis_prefix), id)


async def _look(url: str, prefix: str, limit: int) -> FoundTasks:
    async with cluster_view(url, prefix) as redis:
        return await TaskView(redis).tasks(limit)


async def _end(url: str, prefix: str, name: str) -> int:
    async with cluster_view(url, prefix) as redis:
        view = TaskView(redis)
        task = _the_one((await view.tasks(CANDIDATES, name)).tasks, name)
        label = task.id[:8]
        if task.ended:
            print(f"{label} has ended before")
        elif await view.end(task):
            print(f"{label} has ended")
        else:
            raise McpError(
                f"{label} has not ended within {END_SECONDS:g} s: its end is asked for, and its handler does not stop, or its "
                "node does not answer. Look at `trio-mcp tasks` and at the node's log"
            )
    return 0


def _the_one(found: Sequence[StoredTask], name: str) -> StoredTask:
    exact = [task for task in found if task.id == name] or list(found)
    match exact:
        case [one]:
            return one
        case []:
            raise McpError(f"there is no task {name}. `trio-mcp tasks` lists them")
    candidates = "".join(f"\n  {label}" for label in sorted(shortened([task.id for task in found])))
    raise UsageError(f"{name} can be any of these; say which:{candidates}")


def _entries(found: Sequence[StoredTask]) -> list[dict[str, Any]]:
    order = sorted(found, key=lambda task: (0 if task.head is None else task.head.created, task.id))
    labels = shortened([task.id for task in order])
    now = time.time()
    return [task.as_json(label, now) for task, label in zip(order, labels, strict=True)]


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    if entry["tool"] is None:
        return (entry["task"], "-", "-", entry["status"], "-", "-", "")
    status = entry["status"] if entry["reason"] is None else f"{entry['status']} ({entry['reason']})"
    notes = list(entry["notes"])
    notes += [f"{entry['open_questions']} open"] * (entry["open_questions"] > 0)
    notes += [f"run {entry['taken_over'] + 1}"] * (entry["taken_over"] > 0)
    age, left = duration(entry["age_seconds"]), duration(entry["expires_seconds"])
    return (entry["task"], entry["tool"], entry["node"], status, age, left, ", ".join(notes))
