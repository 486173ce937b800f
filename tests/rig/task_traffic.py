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

from tests.rig.client import Tokens
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
BALANCERS = (502, 503, 504)
"""What a balancer answers, without JSON, where it reaches no node, or loses one."""
UNKNOWN = -32602


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
    holder: int = 0
    """Whose it is, where there are tokens."""
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
    """Begins tasks at the nodes with these URLs, each at one that is picked anew for every request.

    With `tokens` each request has one, and a task is its holder's; the first of them is asked for tasks of the others.
    `balanced`: the only URL is a balancer's.
    """

    def __init__(
        self, urls: Sequence[str], seed: int, tokens: Sequence[Tokens] = (), *, balanced: bool = False
    ) -> None:
        self._urls = [url.removesuffix("/mcp") for url in urls]
        self._random = random.Random(seed)
        self._ids = count(1)
        self._tokens = tokens
        self._balanced = balanced
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
                watched = Watched(f"t{each}", tools[each % len(tools)], seconds, holder=self._holder(each))
                self.tasks.append(watched)
                nursery.start_soon(self._follow, watched)
                await trio.sleep(every)

    def _holder(self, number: int) -> int:
        """The first is a stranger, who has no task."""
        return 1 + number % (len(self._tokens) - 1) if self._tokens else 0

    async def _follow(self, watched: Watched) -> None:
        await self._begin(watched)
        while watched.last.get("status") not in ENDED:
            await trio.sleep(POLL_SECONDS)
            await self._poll(watched)
            if watched.last.get("status") == "input_required":
                answers = {key: {"action": "accept", "content": {}} for key in watched.last["inputRequests"]}
                await self.ask("tasks/update", {"taskId": watched.task_id, "inputResponses": answers}, watched.holder)
                await self._ask_as_stranger(watched)
        watched.ended = trio.current_time()
        for _ in range(LOOKS_AFTER):
            await trio.sleep(2 * POLL_SECONDS)
            await self._poll(watched)
        await self._ask_as_stranger(watched)

    async def _ask_as_stranger(self, watched: Watched) -> None:
        """Somebody else, who has a token, too, is not told of the task."""
        if self._tokens:
            told = await self.ask("tasks/get", {"taskId": watched.task_id}, 0)
            if told.result or (told.error and told.status != 503 and told.error.get("code") != UNKNOWN):
                self.wrong.append(f"{watched.name}: a stranger was answered {told}")
            self.answers["to a stranger"] += bool(told.error)

    async def _begin(self, watched: Watched) -> None:
        arguments = {"name": watched.name, "seconds": watched.seconds}
        while not watched.task_id:
            told = await self.ask("tools/call", {"name": watched.tool, "arguments": arguments}, watched.holder)
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
        told = await self.ask("tasks/get", {"taskId": watched.task_id}, watched.holder)
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

    async def ask(self, method: str, params: dict[str, Any], holder: int = 0) -> Told:
        """One request to one of the nodes; a token that is refused is renewed, once."""
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
        content = json.dumps(body).encode()
        if not self._tokens:
            return await self._sent(headers, content)
        tokens = self._tokens[holder]
        token = await tokens.current()
        told = await self._sent({**headers, "authorization": f"Bearer {token}"}, content)
        if told.status == 401 and await tokens.renewed(token):
            told = await self._sent({**headers, "authorization": f"Bearer {await tokens.current()}"}, content)
        return told

    async def _sent(self, headers: dict[str, str], content: bytes) -> Told:
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                told = _told(await fetch(self._random.choice(self._urls) + "/mcp", "POST", headers, content))
            except (OSError, Broken):
                return Told(0)
            return Told(0) if self._balanced and told.status in BALANCERS and "body" in told.error else told
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
