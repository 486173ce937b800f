"""Load made by many clients at once, and a record of every call, session and stream, so that a test can ask what they saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.rig.client import Answer, LegacyClient, ListenEnd, Tokens
from tests.rig.http_connection import Broken, Response
from tests.rig.waiting import PATIENCE, until

__all__ = ["Call", "Load", "Opening", "Stream", "load", "runs"]

ANSWER_SECONDS = PATIENCE
"""A call that takes longer counts as failed."""
_REOPEN = 0.2
"""Seconds between two attempts to open a session."""


@dataclass(frozen=True, slots=True)
class Call:
    """One `tools/call`; times are Trio's clock."""

    client: int
    name: str
    """What `count_runs` writes to its file when the call runs."""
    cookies: bool
    owner: str
    """The node in the session id."""
    started: float
    ended: float
    status: int
    node: str
    """Which answered; "" when none did."""
    relay: str
    resumed: int
    error: str
    reason: str

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    def in_flight(self, at: float) -> bool:
        """Whether it was under way then."""
        return self.started <= at <= self.ended


@dataclass(frozen=True, slots=True)
class Opening:
    """One attempt to open a session; `again` when the client had one before."""

    client: int
    started: float
    ended: float
    status: int
    node: str
    error: str
    again: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(slots=True)
class Stream:
    """One GET stream; `ended` is None while it is open, or when the load ended it."""

    client: int
    owner: str
    resumed: bool
    started: float
    relay: str = ""
    status: int = 0
    ended: float | None = None
    clean: bool = True
    refusal: str = ""


@dataclass(slots=True)
class Load:
    """What the clients have seen so far."""

    url: str
    tool: str
    arguments: dict[str, Any]
    pause: float
    reinitialize: bool
    listens: bool
    clients: list[LegacyClient] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    stopping: bool = False

    @property
    def failed(self) -> list[Call]:
        """The calls that failed."""
        return [call for call in self.calls if call.error]

    @property
    def reopened(self) -> list[Opening]:
        """The sessions opened in place of another."""
        return [opening for opening in self.openings if opening.again]

    @property
    def open_streams(self) -> list[Stream]:
        """The GET streams that are open now."""
        return [stream for stream in self.streams if stream.ended is None and stream.status == 200]

    def since(self, at: float) -> list[Call]:
        """The calls started at `at` or later."""
        return [call for call in self.calls if call.started >= at]

    def summary(self) -> str:
        """What failed and how often: the message of an assertion."""
        faults = Counter(f"{call.error} [{call.reason}]" for call in self.failed)
        faults.update(f"initialize: {opening.error}" for opening in self.openings if opening.error)
        return f"{len(self.calls)} calls, {len(self.failed)} failed: {faults.most_common(8)}"

    async def settled(self, calls: int = 1) -> None:
        """Wait until each client made `calls` more calls that were answered, and holds its stream."""
        before = len(self.calls)

        async def asked() -> bool:
            made = Counter(call.client for call in self.calls[before:] if not call.error)
            listening = len({stream.client for stream in self.open_streams}) if self.listens else len(self.clients)
            return listening == len(self.clients) and all(made[one] >= calls for one in range(len(self.clients)))

        await until(asked, f"{calls} calls of each client; {self.summary()}")

    async def talk(self, number: int, client: LegacyClient) -> None:
        """Run one client: a session, a stream beside it, calls in a loop, and a new session when the old one is lost."""
        await trio.sleep(self.pause * number / max(1, len(self.clients)))  # or they would all call in the same moment
        again = False
        try:
            while not self.stopping:
                if await self._open(number, client, again=again):
                    again = True
                    async with trio.open_nursery() as nursery:
                        if self.listens:
                            nursery.start_soon(self._listen, number, client)
                        await self._call_until_lost(number, client)
                        nursery.cancel_scope.cancel("the session is lost, or the load ends")
        finally:
            client.close()

    async def _open(self, number: int, client: LegacyClient, *, again: bool) -> bool:
        started = trio.current_time()
        answer = Answer(broken=f"no answer within {ANSWER_SECONDS:g} s")
        with trio.move_on_after(ANSWER_SECONDS):
            answer = await client.initialize()
        opening = Opening(number, started, trio.current_time(), answer.status, client.node, answer.error, again)
        self.openings.append(opening)
        if opening.error:
            await trio.sleep(_REOPEN)
        return not opening.error

    async def _call_until_lost(self, number: int, client: LegacyClient) -> None:
        while not self.stopping:
            call = await self._call(number, client)
            self.calls.append(call)
            if call.status == 404 and call.reason and self.reinitialize:
                return
            await trio.sleep(self.pause)

    async def _call(self, number: int, client: LegacyClient) -> Call:
        started = trio.current_time()
        name = f"{number}-{len(self.calls)}-{started:.3f}"
        arguments = {**self.arguments, "call": name} if self.tool == "count_runs" else self.arguments
        answer = Answer(broken=f"no answer within {ANSWER_SECONDS:g} s")
        with trio.move_on_after(ANSWER_SECONDS):
            answer = await client.tool(self.tool, **arguments)
        return Call(
            client=number,
            name=name,
            cookies=bool(client.jar),
            owner=client.node,
            started=started,
            ended=trio.current_time(),
            status=answer.status,
            node=str(answer.told.get("node", "")),
            relay=answer.relay,
            resumed=answer.resumed,
            error=answer.error,
            reason=answer.reason,
        )

    async def _listen(self, number: int, client: LegacyClient) -> None:
        while True:
            stream = Stream(number, client.node, client.last_event_id is not None, trio.current_time())
            self.streams.append(stream)
            try:
                end = await client.listen(partial(_note, stream))
            except (OSError, Broken):
                end = ListenEnd(0, False, 1.0)
            stream.status, stream.clean, stream.ended = end.status, end.clean, trio.current_time()
            stream.refusal = end.refusal
            if stream.status == 404 and "jsonrpc" in stream.refusal:  # else it is a balancer's, that has no routes yet
                return
            await trio.sleep(end.retry)


def _note(stream: Stream, head: Response) -> None:
    stream.status, stream.relay = head.status, head.header("trio-mcp-relay")


@asynccontextmanager
async def load(
    url: str,
    *,
    clients: int = 50,
    without_cookies: float = 0.5,
    pause: float = 0.5,
    listens: bool = True,
    tool: str = "count_runs",
    reinitialize: bool = True,
    tokens: Sequence[Tokens] = (),
    **arguments: Any,
) -> AsyncIterator[Load]:
    """Clients at work for the length of the block; the share `without_cookies` keeps none. Each client calls, then pauses.

    With `tokens`, one for each client, their requests have one.

    At the end of the block the calls under way are waited for, so that none is cut off by the test itself.
    """
    traffic = Load(url, tool, arguments, pause, reinitialize, listens)
    keeping = clients - round(clients * without_cookies)
    held: Sequence[Tokens | None] = tokens or [None] * clients
    traffic.clients += [
        LegacyClient(url, cookies=number < keeping, tokens=each)
        for number, each in zip(range(clients), held, strict=True)
    ]
    async with trio.open_nursery() as nursery:
        for number, client in enumerate(traffic.clients):
            nursery.start_soon(traffic.talk, number, client)
        yield traffic
        traffic.stopping = True


def runs(file: Path) -> Counter[str]:
    """How often each call ran, by what `count_runs` wrote down."""
    return Counter(line.split(" ", 1)[0] for line in _lines(file))


def _lines(file: Path) -> Iterable[str]:
    return file.read_text().splitlines() if file.exists() else ()
