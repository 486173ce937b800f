"""Clients of 2026-07-28 that begin tasks, poll them at any node, answer their questions, and keep what they were told."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import trio

from tests.rig.http_connection import Broken, Response, fetch

__all__ = ["TaskTraffic", "Told", "Watched"]

VERSION = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
ENDED = ("completed", "failed", "cancelled")
ANSWER_SECONDS = 20.0
POLL_SECONDS = 1.5
AGAIN_SECONDS = 0.5
"""After what was not answered, or was refused for now."""
LOOKS_AFTER = 3
"""An ended task is asked for so many times more, at any node."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one request was answered. `status` is 0 where nothing was: the node was gone, or the connection broke."""

    status: int
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    retry_after: str = ""


@dataclass(slots=True)
class Watched:
    """One task, from its creation on."""

    name: str
    tool: str
    seconds: float
    task_id: str = ""
    statuses: list[str] = field(default_factory=list)
    """As they were told, without repetitions."""
    last: dict[str, Any] = field(default_factory=dict)
    begun: float = 0.0
    ended: float = 0.0

    def see(self, found: dict[str, Any]) -> None:
        """What tasks/get said."""
        self.last = found
        if self.statuses[-1:] != [found["status"]]:
            self.statuses.append(found["status"])

    @property
    def reason(self) -> str:
        """`data.reason` of its error."""
        data = self.last.get("error", {}).get("data") or {}
        return str(data.get("reason", ""))


class TaskTraffic:
    """Begins tasks at the nodes with these URLs, each at one that is picked anew for every request."""

    def __init__(self, urls: Sequence[str], seed: int) -> None:
        self._urls = list(urls)
        self._random = random.Random(seed)
        self._ids = count(1)
        self.tasks: list[Watched] = []
        self.answers: Counter[str] = Counter()
        """How often tasks/get was answered how."""
        self.wrong: list[str] = []
        """Answers that were not honest."""

    async def run(self, tools: Sequence[str], number: int, longest: float, every: float) -> None:
        """Begin so many tasks, one every `every` seconds, each of 1 to `longest` seconds; returns when all have ended."""
        async with trio.open_nursery() as nursery:
            for each in range(number):
                seconds = float(self._random.randint(1, int(longest)))
                watched = Watched(f"t{each}", tools[each % len(tools)], seconds)
                self.tasks.append(watched)
                nursery.start_soon(self._follow, watched)
                await trio.sleep(every)

    async def _follow(self, watched: Watched) -> None:
        await self._begin(watched)
        while watched.last.get("status") not in ENDED:
            await trio.sleep(POLL_SECONDS)
            await self._poll(watched)
            if watched.last.get("status") == "input_required":
                answers = {key: {"action": "accept", "content": {}} for key in watched.last["inputRequests"]}
                await self.ask("tasks/update", {"taskId": watched.task_id, "inputResponses": answers})
        watched.ended = trio.current_time()
        for _ in range(LOOKS_AFTER):
            await trio.sleep(2 * POLL_SECONDS)
            await self._poll(watched)

    async def _begin(self, watched: Watched) -> None:
        arguments = {"name": watched.name, "seconds": watched.seconds}
        while not watched.task_id:
            told = await self.ask("tools/call", {"name": watched.tool, "arguments": arguments})
            if told.result.get("resultType") == "task":
                watched.task_id, watched.begun = told.result["taskId"], trio.current_time()
                return
            if told.status == 0:
                # It may have begun all the same, as a task that nobody knows of: what it does is not this one's.
                watched.name += "'"
                arguments["name"] = watched.name
            elif told.status != 503 and "can keep no task now" not in told.error.get("message", ""):
                self.wrong.append(f"{watched.name}: a call was answered {told}")
            await trio.sleep(AGAIN_SECONDS)

    async def _poll(self, watched: Watched) -> None:
        told = await self.ask("tasks/get", {"taskId": watched.task_id})
        before = watched.last.get("status")
        if told.status == 200 and told.result:
            self.answers[told.result["status"]] += 1
            watched.see(told.result)
            if before in ENDED and told.result["status"] != before:
                self.wrong.append(f"{watched.name}: {before}, and then {told.result['status']} {watched.reason}")
        elif told.status == 503 and told.retry_after:
            self.answers["503"] += 1
        elif told.status == 0:
            self.answers["no answer"] += 1
        else:
            self.wrong.append(f"{watched.name}: a poll was answered {told}")

    async def ask(self, method: str, params: dict[str, Any]) -> Told:
        """One request to one of the nodes."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "drill", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}, "elicitation": {}},
        }
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": {**params, "_meta": meta}}
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
            "mcp-method": method,
            "mcp-name": params.get("taskId") or params["name"],
        }
        url = self._random.choice(self._urls) + "/mcp"
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                return _told(await fetch(url, "POST", headers, json.dumps(body).encode()))
            except (OSError, Broken):
                return Told(0)
        return Told(0)


def _told(response: Response) -> Told:
    retry_after = response.header("retry-after")
    try:
        # One that took longer than half a second comes as a stream: its answer is the only event with data.
        lines = response.body.splitlines() if response.is_stream else [b"data: " + response.body]
        answer = json.loads(next(line for line in lines if line.startswith(b"data: {"))[6:])
    except (ValueError, StopIteration):
        return Told(response.status, error={"body": response.body[:200].decode("latin-1")}, retry_after=retry_after)
    return Told(response.status, answer.get("result", {}), answer.get("error", {}), retry_after)
