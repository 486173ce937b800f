"""`python -m tools.token_drill SEED [rolling|kill|roll …]`: what tokens of 20 s add to the faults of a cluster, which must be nothing.

Three nodes behind Traefik with `--restore`, a real authorization server, people who have logged in and machines, all of whom renew
their tokens of 20 s while they call: half of them before the end, half after a 401. Then the nodes are, one after the other,

- rolling: told to stop and started anew
- kill: killed (SIGKILL) and started anew
- roll: rolled from the commit before there was `auth=` (tokens verified by a function there) to this checkout

Each is done twice with the same seed, with tokens and without. What must hold: a call that failed with tokens was under way while a node was
killed, and failed as calls without tokens do; no session and no stream was lost to a token; no token and no claim is in anything
that Redis was told or keeps, that nodes logged, or that their metrics say. Prints what both runs saw, one line for each violation, and exits 1 when there was one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from tests.rig.authorization_server import AuthorizationServer, authorization_server
from tests.rig.cluster import Cluster, cluster
from tests.rig.http_connection import Broken, fetch
from tests.rig.leaks import claim_values, found_in, parts, redis_texts
from tests.rig.load import Call, Load, Opening, Stream, load
from tests.rig.logins import Held, logged_in, machine
from tests.rig.nodes import SERVER, Node
from tools.roll import checkout, environment

__all__ = ["main"]

BEFORE = "8905854"
"""The last commit without `auth=`: a server verified tokens by a function (`tests/rig/served/by_hand.py`)."""

BY_HAND = SERVER.with_name("by_hand.py")
SCENARIOS = ("rolling", "kill", "roll")
RESOURCE = "https://mcp.example.com/mcp"
TOKEN_SECONDS, LEEWAY = 20, 2
FLAGS = ("--drain-delay", "2", "--drain-timeout", "8", "--log-level", "DEBUG")
NOTICE = 8.0
"""Seconds after a kill for which a balancer or a peer may still go by what was before it."""
CALL_SECONDS = 0.3
"""How long a call runs, so that some are under way whenever a node is killed."""
GONE_SECONDS = 60.0
PROMISED = (
    "502 without a JSON-RPC response",
    "503 without a JSON-RPC response",
    "503 unreachable",
    "503 directory_unavailable",
    "200 -32603 The node that ran this request is gone; it may or may not have been d",
)
"""How calls may fail that are under way when a node is killed, or come before that is known; the first two are Traefik's."""


@dataclass(slots=True)
class Seen:
    """What one run saw."""

    calls: Sequence[Call]
    openings: Sequence[Opening]
    streams: Sequence[Stream]
    killed: Sequence[tuple[float, float]]
    """From when to when a killed node was away (trio clock)."""
    twice: Sequence[str] = ()
    errors: Sequence[str] = ()
    leaks: Sequence[str] = ()
    renewals: int = 0
    refused: int = 0

    @property
    def failed(self) -> Counter[str]:
        """The calls that failed, by how."""
        return Counter(kind(call) for call in self.calls if call.error)

    def __str__(self) -> str:
        again = sum(opening.again for opening in self.openings)
        return (
            f"{len(self.calls)} calls, {self.failed.total()} failed {dict(self.failed)}, {again} sessions opened anew, "
            f"{len(self.streams)} streams, {self.renewals} tokens renewed, {self.refused} of them after a 401"
        )


def kind(call: Call) -> str:
    """How a call failed, without what differs from call to call."""
    return f"{call.status} {call.reason}" if call.reason else call.error.partition(" (")[0][:80]


def violations(tokens: Seen, without: Seen) -> list[str]:
    """What tokens did that the same faults without them did not."""
    found = [
        f"failed for no fault: {call}" for call in tokens.calls if call.error and not _touched(call, tokens.killed)
    ]
    known = {*without.failed, *PROMISED}
    found += [f"failed as no call without tokens does: {each}" for each in sorted(set(tokens.failed) - known)]
    found += [f"session opened anew: {opening}" for opening in tokens.openings if opening.again]
    found += [f"session not opened: {opening}" for opening in tokens.openings if opening.error]
    found += [f"stream refused: {stream}" for stream in tokens.streams if stream.status in (400, 401, 403, 404)]
    found += [f"call {name} ran twice" for name in tokens.twice]
    return [*found, *tokens.errors, *tokens.leaks]


def _touched(call: Call, killed: Iterable[tuple[float, float]]) -> bool:
    return any(began <= call.ended and call.started <= ended + NOTICE for began, ended in killed)


@dataclass(slots=True)
class Drill:
    """A cluster under faults, and what its nodes said before they were stopped."""

    standing: Cluster
    traffic: Load
    random: random.Random
    after: Mapping[str, str]
    killed: list[tuple[float, float]] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)

    async def run(self, scenario: str) -> None:
        """Do to each node, in an order of the seed's, what the scenario says; it takes some lives of tokens."""
        for node in self.random.sample(self.standing.nodes, len(self.standing.nodes)):
            await trio.sleep(self.random.uniform(2, 6))
            await self._keep_metrics(node)
            await (self._kill(node) if scenario == "kill" else self._renew(node))
            await self.traffic.settled()
            print(f"  {node.name}: {self.traffic.summary()}", flush=True)
        await trio.sleep(self.random.uniform(TOKEN_SECONDS, TOKEN_SECONDS + 5))
        await self.traffic.settled()
        for node in self.standing.nodes:
            await self._keep_metrics(node)

    async def _kill(self, node: Node) -> None:
        began = trio.current_time()
        await node.kill()
        await trio.sleep(self.random.uniform(1, 6))
        await node.start()
        self.killed.append((began, trio.current_time()))

    async def _renew(self, node: Node) -> None:
        with trio.fail_after(GONE_SECONDS):
            assert await node.terminate() == 0
        node.target, node.environment = SERVER, {**node.environment, **self.after}
        await node.start()

    async def _keep_metrics(self, node: Node) -> None:
        for path in ("/metrics", "/sessions"):
            try:
                self.metrics += (await fetch(node.admin + path)).body.decode().splitlines()
            except (OSError, Broken) as error:
                raise AssertionError(f"{node.name} has no {path}") from error


def settings(server: AuthorizationServer | None) -> dict[str, str]:
    """What turns authorization on; without a server, nothing."""
    if server is None:
        return {}
    return {
        "TRIO_MCP_AUTH_ISSUER": server.issuer,
        "TRIO_MCP_AUTH_RESOURCE": RESOURCE,
        "TRIO_MCP_AUTH_REQUIRED_SCOPES": "mcp:read",
        "TRIO_MCP_AUTH_LEEWAY": f"{LEEWAY}s",
    }


def settings_by_hand(server: AuthorizationServer | None) -> dict[str, str]:
    """The same for the function."""
    if server is None:
        return {}
    return {"BY_HAND_ISSUER": server.issuer, "BY_HAND_RESOURCE": RESOURCE, "BY_HAND_LEEWAY": f"{LEEWAY}"}


@asynccontextmanager
async def standing(scenario: str, old: Path | None, server: AuthorizationServer | None) -> AsyncIterator[Cluster]:
    """The cluster as it is before the faults: of this checkout, or of an older one."""
    own = settings(server) if old is None else {**settings_by_hand(server), **environment(old)}
    target = BY_HAND if old is not None and server is not None else SERVER
    async with cluster(restore=True, flags=FLAGS, server=target, environment=own) as found:
        yield found


async def holders(server: AuthorizationServer | None, clients: int) -> list[Held]:
    """Two of three clients are people who log in, the others machines; every second one renews early. Without a server, none."""
    if server is None:
        return []
    held = list[Held]()
    for number in range(clients):
        person = f"person-{os.urandom(8).hex()}"
        eager = number % 2 == 0
        people = number % 3 > 0
        held.append(
            await logged_in(server, RESOURCE, person, eager=eager) if people else machine(server, RESOURCE, eager=eager)
        )
    return held


async def drilled(scenario: str, seed: int, clients: int, old: Path | None, *, tokens: bool) -> Seen:
    """One run."""
    async with AsyncExitStack() as stack:
        server = None
        if tokens:
            server = await stack.enter_async_context(authorization_server(seconds=TOKEN_SECONDS))
        whole = await stack.enter_async_context(standing(scenario, old, server))
        told = await stack.enter_async_context(whole.redis.monitor())
        held = await holders(server, clients)
        after = {} if old is None else {**environment(Path(__file__).parents[1]), **settings(server)}
        async with load(whole.url, clients=clients, pause=0.7, tokens=held, seconds=CALL_SECONDS) as traffic:
            await traffic.settled()
            drill = Drill(whole, traffic, random.Random(seed), after)
            await drill.run(scenario)
        places = {
            "a log": [line for node in whole.nodes for line in (node.lines if old is None else node.run.lines)],
            "a metric": drill.metrics,
            "Redis": await redis_texts(whole.redis),
            "a command to Redis": told.lines,
        }
        print(f"  looked through {', '.join(f'{len(lines)} lines of {place}' for place, lines in places.items())}")
        return Seen(
            traffic.calls,
            traffic.openings,
            traffic.streams,
            drill.killed,
            [name for name, count in whole.runs().items() if count != 1],
            [f"error in a log: {line}" for line in whole.logged('"level":"error"')],
            _leaks(places, held),
            sum(each.renewals for each in held),
            sum(each.refused for each in held),
        )


def _leaks(places: Mapping[str, Iterable[str]], held: Iterable[Held]) -> list[str]:
    issued = [token for each in held for token in each.issued]
    secrets = {part for token in issued for part in parts(token)}
    return found_in(places, secrets | claim_values(issued))


async def compared(scenario: str, seed: int, clients: int, old: Path | None) -> list[str]:
    """The violations of one scenario, both runs of which are printed."""
    print(f"{scenario}, seed {seed}, without tokens", flush=True)
    without = await drilled(scenario, seed, clients, old, tokens=False)
    print(f"  {without}\n{scenario}, seed {seed}, with tokens of {TOKEN_SECONDS} s", flush=True)
    with_tokens = await drilled(scenario, seed, clients, old, tokens=True)
    print(f"  {with_tokens}", flush=True)
    return violations(with_tokens, without)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], default=SCENARIOS)
    parser.add_argument("--clients", type=int, default=30)
    given = parser.parse_args()
    wrong = 0
    for scenario in given.scenarios:
        if scenario == "roll":
            with checkout(BEFORE) as old:
                found = trio.run(partial(compared, scenario, given.seed, given.clients, old))
        else:
            found = trio.run(partial(compared, scenario, given.seed, given.clients, None))
        wrong += len(found)
        for each in found[:20]:
            print(f"  {each}")
        print(f"{scenario}: {len(found)} violations", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
