"""`python -m tools.websocket_drill SEED MINUTES`: WebSockets through Traefik while nodes are told to stop, and killed.

Three nodes, and clients of which each has one connection at a time, a session on it, and one call after the other; one that has lost its
connection opens another. What must hold:

- A connection ends with 1001 when its node was told to stop, without a close frame (1006) when it was killed, and never otherwise.
- Where it ends with 1001 every call was answered, with its result or an error that says why; one that crossed the close has not run.
- No call runs twice, and what was answered with a result has run.
- A handshake is refused only around a fault, with 502 or 503. At the end every client is connected, and the nodes count as many.

Prints what was seen, one line for each violation, and exits 1 when there was one.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError

from tests.rig.cluster import Cluster, cluster
from tests.rig.load import runs
from tests.rig.waiting import until
from tests.rig.websocket import WebSocketClient, websocket

__all__ = ["Called", "Ended", "Fault", "Traffic", "main", "violations"]

FLAGS = ("--websocket", "--drain-delay", "2", "--drain-timeout", "6")
STOP_SECONDS = 2.0 + 6.0
NOTICE = 8.0
"""Seconds after a fault for which Traefik may still go by what was before it."""
AGAIN_SECONDS = 0.3
LONGEST = 3.0
"""A call takes up to so long; its pause as well."""
GOING_AWAY, LOST = 1001, 1006
REFUSALS = (502, 503)
ANSWERED, FAILED, UNANSWERED = "answered", "failed", "unanswered"


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a node (`kill`, `term`), from when to when it was ready again (trio clock)."""

    kind: str
    node: str
    began: float
    ended: float = float("inf")

    def touches(self, at: float) -> bool:
        return self.began <= at <= self.ended + NOTICE


@dataclass(frozen=True, slots=True)
class Called:
    """One call, how it ended, and the close code where that was without an answer."""

    name: str
    outcome: str
    code: int = 0
    says: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a connection: the node that had it ("" before it was known), the close code, and when."""

    node: str
    code: int
    at: float


@dataclass(slots=True)
class Traffic:
    """Clients, and what they have seen."""

    url: str
    chance: random.Random
    calls: list[Called] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    refused: list[tuple[int, float]] = field(default_factory=list)
    """Handshakes: the status, 0 where nothing answered, and when."""
    connected: set[int] = field(default_factory=set)

    async def run(self, number: int) -> None:
        """One client, until cancelled."""
        while True:
            try:
                await self._connect(number)
            except* (OSError, trio.BrokenResourceError):
                self.refused.append((0, trio.current_time()))
            await trio.sleep(AGAIN_SECONDS)

    async def _connect(self, number: int) -> None:
        try:
            async with websocket(self.url) as client:
                await self._talk(number, client)
        except ConnectionRejected as refusal:
            self.refused.append((refusal.status_code, trio.current_time()))
        except HandshakeError:
            self.refused.append((0, trio.current_time()))

    async def _talk(self, number: int, client: WebSocketClient) -> None:
        node, name = "", ""
        try:
            await client.initialize()
            node = (await client.ask("tools/call", name="where", arguments={}))["result"]["structuredContent"]["node"]
            self.connected.add(number)
            while True:
                name = f"{number}-{len(self.calls)}-{trio.current_time():.3f}"
                arguments = {"call": name, "seconds": self.chance.uniform(0, LONGEST)}
                self._answered(name, await client.ask("tools/call", name="count_runs", arguments=arguments))
                name = ""
                with trio.move_on_after(self.chance.uniform(0, LONGEST)):
                    await client.hear()
        except ConnectionClosed as closed:
            code = LOST if closed.reason is None else int(closed.reason.code)
            self.ends.append(Ended(node, code, trio.current_time()))
            if name:
                self.calls.append(Called(name, UNANSWERED, code))
        finally:
            self.connected.discard(number)

    def _answered(self, name: str, answer: Mapping[str, object]) -> None:
        failed = "error" in answer
        self.calls.append(Called(name, FAILED if failed else ANSWERED, says=str(answer["error"]) if failed else ""))


def violations(traffic: Traffic, faults: Sequence[Fault], ran: Mapping[str, int]) -> list[str]:
    """What should not have been; `ran` is how often each call ran."""
    found = [f"call {name} ran {count} times" for name, count in ran.items() if count > 1]
    for call in traffic.calls:
        times = ran.get(call.name, 0)
        if call.outcome == ANSWERED and not times:
            found.append(f"answered, and never run: {call}")
        elif call.outcome == FAILED and "shutting down" not in call.says:
            found.append(f"failed for no reason: {call}")
        elif call.outcome == UNANSWERED and call.code == GOING_AWAY and times:
            found.append(f"run, and not answered before the close: {call}")
    for end in traffic.ends:
        kind = {GOING_AWAY: "term", LOST: "kill"}.get(end.code)
        if not any(
            each.kind == kind and each.node in (end.node, end.node or each.node) and each.touches(end.at)
            for each in faults
        ):
            found.append(f"ended for no fault of its node: {end}")
    for status, at in traffic.refused:
        if status not in (0, *REFUSALS) or not any(each.touches(at) for each in faults):
            found.append(f"a handshake was refused with {status} at {at:.1f}")
    return found


async def harm(standing: Cluster, faults: list[Fault], chance: random.Random, seconds: float) -> None:
    """Stop or kill one node after the other, for about so long."""
    over = trio.current_time() + seconds
    while trio.current_time() < over:
        await trio.sleep(chance.uniform(2, 6))
        node, kind, began = chance.choice(standing.nodes), chance.choice(("kill", "term")), trio.current_time()
        faults.append(Fault(kind, node.name, began))
        print(f"  {node.name}: {kind}", flush=True)
        if kind == "kill":
            await node.kill()
            await trio.sleep(chance.uniform(0.2, 4))
            await node.start()
        else:
            await node.restart()
        faults[-1] = Fault(kind, node.name, began, trio.current_time())


async def drilled(given: argparse.Namespace) -> int:
    """One run; how many violations there were."""
    faults: list[Fault] = []
    clients: int = given.clients
    async with cluster(flags=FLAGS) as standing:
        traffic = Traffic(standing.url, random.Random(given.seed))

        async def all_connected() -> bool:
            return len(traffic.connected) == clients

        async def all_counted() -> bool:
            return await standing.metric("trio_mcp_websockets_active") == clients

        async with trio.open_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(traffic.run, number)
            await until(all_connected, "every client is connected")
            await harm(standing, faults, random.Random(given.seed), 60 * given.minutes)
            await until(all_connected, "every client is connected again")
            await until(all_counted, "the nodes count as many")
            nursery.cancel_scope.cancel("seen enough")
        found = violations(traffic, faults, runs(standing.runs_file))
        found += [f"error in a log: {line}" for line in standing.logged('"level":"error"')]
    print(
        f"{dict(Counter(each.kind for each in faults))}; {dict(Counter(call.outcome for call in traffic.calls))} calls, "
        f"ends {dict(Counter(end.code for end in traffic.ends))}, "
        f"refused {dict(Counter(status for status, _ in traffic.refused))}"
    )
    for each in found[:30]:
        print(f"  {each}")
    print(f"{len(found)} violations", flush=True)
    return len(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--clients", type=int, default=30)
    return 1 if trio.run(drilled, parser.parse_args()) else 0


if __name__ == "__main__":
    sys.exit(main())
