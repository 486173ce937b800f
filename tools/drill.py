"""`python -m tools.drill SEED MINUTES [--restore] [--workers N] [--at-once]`: faults on a cluster, and what its clients may see of them.

Three nodes behind Traefik, each with a gate before it that only its peers go through. At random a node is killed, told to stop, stands
still for a while (SIGSTOP), or its peers are refused or get nothing through. With --workers each node has so many: one of them is killed or
stands still, all are replaced (SIGHUP), the supervisor alone is killed. With --restore, also Redis is killed, frozen, or comes back empty, and
Traefik is killed. What must hold:

- A call is answered, or fails in a way that is promised: the error "may or may not have been done" or "shutting down", a 502 of Traefik or a
  broken connection when a process it went through was under a fault while it ran, or just before; 503 while its session cannot be reached.
- Without --restore: 404 `node_gone` when the process that had its session was killed, or was told to stop and its window is over. A session
  whose process lives all the time is never lost, whatever its peers thought of it.
- With it: no session is lost, but for 404 `unknown` where Redis was away, and the process that had the session ended before it could write
  it down anew.
- No call runs twice; what was answered with a result has run; what was answered with a 404 has not. Each gets some answer within a minute.
- No session is in two processes (with --restore, for longer than ten seconds), and at the end each session that lives has its record, and no
  other of a process that lives. Every client can call, and listens.

Prints one line for each violation and one at the end; exits 1 when there was one.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.rig.gates import Gate
from tests.rig.http_connection import Broken
from tests.rig.load import Call, Load, Opening, load, runs
from tests.rig.nodes import SERVER, Node
from tests.rig.records import wrong_records
from tests.rig.redis import redis_server
from tests.rig.routing import shipped
from tests.rig.traefik import traefik
from tools.faults import OF_NODES, OF_STORES, OF_WORKERS, Fault, Faults, Parts

__all__ = ["Seen", "errors", "main", "violations"]

DELAY, WINDOW = 1.0, 6.0
FLAGS = ("--drain-delay", str(DELAY), "--drain-timeout", str(WINDOW))
NOTICE = 8.0
"""Seconds after a fault for which a balancer or a peer may still go by what was before it."""
CALL_SECONDS = 0.3
ANSWER_SECONDS = 60.0
REDIS_SECONDS = 15.0
"""After Redis was away, for a process to write down all that it has."""
RECORDS_SECONDS = 45.0
"""For all that is written down to be right in the end: longer than the card of a process stands that was killed."""
LONGEST, LONGEST_WITH_RESTORE = 8.0, 18.0
"""Seconds of a fault: with restore, so many that others take over what a node has that only stands still."""
TWO_SECONDS = 10.0
"""With restore, for a process that stood still to learn that others have taken over its sessions."""


@dataclass(slots=True)
class Seen:
    """What became of the calls, and what was done meanwhile."""

    restore: bool
    faults: Sequence[Fault] = ()
    calls: Sequence[Call] = ()
    openings: Sequence[Opening] = ()
    ran: Mapping[str, int] = field(default_factory=dict)

    def opened(self, call: Call) -> float:
        """When its session was."""
        return max(
            each.started for each in self.openings if each.client == call.client and each.started <= call.started
        )

    def may_be_lost(self, call: Call) -> bool:
        """Whether there is a reason that its session has ended."""
        opened = self.opened(call)
        if not self.restore:
            deaths = [death for fault in self.faults for death in _ends(fault, call.owner)]
            return call.reason == "node_gone" and any(
                opened <= ended and began <= call.ended for began, ended in deaths
            )
        away = [fault for fault in self.faults if fault.part == "redis"]
        ends = [fault for fault in self.faults if fault.kind in _TAKES_AWAY and fault.ended >= opened]
        return call.reason == "unknown" and any(
            gone.touches(end.began, end.ended, REDIS_SECONDS) for gone in away for end in ends
        )


_TAKES_AWAY = {*OF_NODES, *OF_WORKERS} - {"refuse", "hold"}
"""After which the process that had a session may not have it any more."""


def _ends(fault: Fault, owner: str) -> list[tuple[float, float]]:
    """Between when the sessions of a process end without restore by that fault; nothing where they do not."""
    match fault.kind:
        case "worker kill" if fault.worker == owner:
            return [(fault.began, fault.began)]
        case _ if fault.part not in (owner, owner.rpartition("-w")[0]):
            return []
        case "kill":
            return [(fault.began, fault.began)]
        case "term":
            return [(fault.began + DELAY + WINDOW, fault.began + DELAY + WINDOW)]
        case "roll" | "supervisor kill":
            return [(fault.began + WINDOW, fault.ended)]
        case _:
            return []


def violations(seen: Seen) -> list[str]:
    """What should not have been, of the calls."""
    found = [f"call {name} ran {count} times" for name, count in seen.ran.items() if count > 1]
    for call in seen.calls:
        ran = seen.ran.get(call.name, 0)
        if call.seconds > ANSWER_SECONDS:
            found.append(f"no answer for {call.seconds:.0f} s: {call}")
        if not call.error:
            if not ran:
                found.append(f"answered, and never run: {call}")
        elif call.status == 404 and call.reason:  # else it is Traefik's, that has no routes yet
            if ran:
                found.append(f"run, and called lost: {call}")
            if not seen.may_be_lost(call):
                found.append(f"lost for no reason: {call}")
        elif not any(_explains(fault, call) for fault in seen.faults):
            found.append(f"failed for no reason: {call}")
    return found


def _explains(fault: Fault, call: Call) -> bool:
    """Whether a call may fail as it did because of that; Redis alone keeps a node from telling where a session is."""
    of_redis = call.reason == "directory_unavailable"
    return fault.touches(call.started, call.ended, NOTICE) and (fault.part == "redis" or not of_redis)


def errors(lines: Iterable[str], killed: Container[int]) -> list[str]:
    """What nodes logged as an error, but that the workers died that were killed."""
    return [f"error in a log: {line}" for line in lines if '"level":"error"' in line and not _was_killed(line, killed)]


def _was_killed(line: str, killed: Container[int]) -> bool:
    said = json.loads(line)
    return said["event"] == "worker died" and said["how"] == "SIGKILL" and said["pid"] in killed


@dataclass(slots=True)
class Drill:
    """One run on that cluster."""

    parts: Parts
    faults: Faults
    restore: bool
    wrong: list[str] = field(default_factory=list)

    async def watch(self) -> None:
        """Check that no session is in two processes."""
        since = dict[str, float]()
        patience = TWO_SECONDS if self.restore else 0.0
        while True:
            seen: Counter[str] = Counter()
            for node in self.parts.nodes:
                with suppress(OSError, Broken), trio.move_on_after(1):
                    seen.update(each["session"] for each in await node.sessions())
            now = trio.current_time()
            since = {session: since.get(session, now) for session, count in seen.items() if count > 1}
            for session, began in since.items():
                if now - began >= patience:
                    self.wrong.append(f"session {session} is in {seen[session]} processes, for {now - began:.0f} s")
            await trio.sleep(1)

    async def compare_records(self) -> None:
        """Records are as the nodes say, at least once: sessions still open and end meanwhile."""
        wrong = list[str]()
        with trio.move_on_after(RECORDS_SECONDS):
            while wrong := await wrong_records(self.parts, ended_processes=False):  # noqa: ASYNC110
                await trio.sleep(0.3)
            return
        self.wrong += wrong

    def judge(self, traffic: Load) -> list[str]:
        """All that was wrong, at the end."""
        ran = runs(self.parts.runs_file)
        seen = Seen(self.restore, self.faults.done, traffic.calls, traffic.openings, ran)
        logged = errors([line for node in self.parts.nodes for line in node.lines], self.faults.killed)
        return [*self.wrong, *self.faults.wrong, *violations(seen), *logged]


@asynccontextmanager
async def standing(given: argparse.Namespace) -> AsyncIterator[Parts]:
    """The cluster."""
    flags = (*FLAGS, *(("--restore",) if given.restore else ()))
    if given.workers > 1:
        flags = (*flags, "--workers", str(given.workers))
    with tempfile.TemporaryDirectory(prefix="drill-") as name:
        folder = Path(name)
        async with redis_server(folder, appendonly=given.restore) as redis, trio.open_nursery() as nursery:
            shared = {
                "TRIO_MCP_SECRET": secrets.token_urlsafe(32),
                "TRIO_MCP_REDIS_URL": redis.url,
                "RIG_RUNS": str(folder / "runs"),
            }
            nodes = [Node(f"node{number}", nursery, SERVER, flags, shared, host="127.0.0.2") for number in (1, 2, 3)]
            gates = {node.name: Gate(node) for node in nodes}
            for gate in gates.values():
                nursery.start_soon(gate.run)
            urls = {node.name: f"http://127.0.0.1:{node.port}" for node in nodes}
            try:
                for node in nodes:
                    await node.start()
                async with traefik(folder / "traefik", shipped(urls)) as balancer:
                    yield Parts(nodes, redis, gates, balancer, folder / "runs")
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                    for node in nodes:
                        await node.stop()
            nursery.cancel_scope.cancel("the drill is over")


async def drilled(given: argparse.Namespace) -> list[str]:
    """The violations of one run."""
    kinds = [*OF_NODES, *(OF_WORKERS if given.workers > 1 else ()), *(OF_STORES if given.restore else ())]
    longest = LONGEST_WITH_RESTORE if given.restore else LONGEST
    async with standing(given) as parts:
        faults = Faults(parts, kinds, random.Random(given.seed), longest)
        drill = Drill(parts, faults, given.restore)
        async with load(parts.balancer.mcp_url, clients=given.clients, pause=0.4, seconds=CALL_SECONDS) as traffic:
            await traffic.settled()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drill.watch)
                await faults.go_on(60 * given.minutes, at_once=given.at_once)
                await trio.sleep(NOTICE)
                await traffic.settled()
                await drill.compare_records()
                nursery.cancel_scope.cancel("seen enough")
        did = Counter(fault.kind for fault in faults.done)
        print(f"seed {given.seed}: {dict(did)}; {traffic.summary()}", flush=True)
        return drill.judge(traffic)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument(
        "--restore", action="store_true", help="nodes take over sessions; Redis and Traefik are harmed, too"
    )
    parser.add_argument("--workers", type=int, default=1, help="of each node")
    parser.add_argument("--at-once", action="store_true", help="several parts are harmed at the same time")
    wrong = trio.run(drilled, parser.parse_args())
    for each in wrong[:30]:
        print(each)
    print(f"{len(wrong)} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
