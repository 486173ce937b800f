"""`python -m tools.issuer_drill`: an authorization server that goes away, hangs, rotates its keys, and tokens that nobody issued.

Three nodes behind Traefik with `--restore`, under the load of clients with tokens; rows 28 to 33 of the checks of authorization, in
this order, each while the load goes on:

- away: the server is gone for a minute. Known keys count, an unknown one is a 503. A node that is started meanwhile is not ready, says where to log in, and answers
  503; it is ready when the server is back.
- hung: the server accepts connections and says nothing. A thousand tokens under unknown keys get their 503, over one connection of each node.
- rotated: a second key. A hundred first tokens at once on each node cause one fetch of it. Then the first key is withdrawn, and its
  tokens are refused after the next fetch; clients get new ones.
- flooded: ten thousand tokens under made-up keys in a minute cause six fetches of each node.

No call may fail, no session or stream be lost, and no token be anywhere afterwards. Prints a line for each part, one for each violation, and exits 1 when there was one.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import trio

from tests.auth.issuer import handmade
from tests.rig.authorization_server import AuthorizationServer, authorization_server
from tests.rig.cluster import Cluster, cluster
from tests.rig.http_connection import Response, fetch
from tests.rig.leaks import claim_values, found_in, parts, redis_texts
from tests.rig.load import Load, load
from tests.rig.logins import Held, machine
from tests.rig.nodes import Node
from tests.rig.waiting import until
from tools.token_drill import FLAGS, RESOURCE, settings

__all__ = ["main"]

TOKEN_SECONDS = 900
AWAY_SECONDS = 60.0
PAUSE_SECONDS = 11.0
"""Longer than the 10 s between two fetches that requests caused."""
HUNG_TOKENS, FIRST_TOKENS, FLOOD, FLOOD_SECONDS = 999, 100, 10_000, 60.0
MAX_FLOOD_FETCHES = 7
"""Six in a minute, and one that its ends may add."""
ANSWER_SECONDS = 5.0
MAX_GROWTH_MIB = 32.0
WELL_KNOWN = "/.well-known/oauth-protected-resource/mcp"
VERSION = "2026-07-28"
_ESTABLISHED, _OPENING = "01", "02"


@dataclass(slots=True)
class Drill:
    """The parts, and what was wrong so far."""

    standing: Cluster
    server: AuthorizationServer
    traffic: Load
    held: Sequence[Held]
    wrong: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> Sequence[Node]:
        return self.standing.nodes

    def expect(self, right: bool, what: str) -> None:
        """Note what was wrong, or print what was right."""
        print(f"  {'ok   ' if right else 'WRONG'} {what}", flush=True)
        if not right:
            self.wrong.append(what)

    async def away(self) -> None:
        """Rows 28 and 29."""
        known = await self.held[0].current()
        fetched = await self._fetches()
        await self.server.stop()
        came = trio.current_time()
        node = self.nodes[2]
        await node.terminate()
        await node.launch()
        await until(partial(_answers, node), f"{node.name} answers")
        self.expect(await node.probe("/readyz") == 503, "a node that starts meanwhile is not ready")
        self.expect((await fetch(node.url + WELL_KNOWN)).status == 200, "it says where to log in")
        self._expect_503(await ask(node, known), "it answers a good token with")
        for other in self.nodes[:2]:
            self.expect((await ask(other, known)).status == 200, f"{other.name} takes a good token")
            self._expect_503(
                await ask(other, unknown_key(self.server.issuer)),
                f"{other.name} answers a token under an unknown key with",
            )
        await trio.sleep_until(came + AWAY_SECONDS)
        self.expect(await node.probe("/readyz") == 503, f"it is still not ready after {AWAY_SECONDS:g} s")
        self.expect(all([await each.probe("/readyz") == 200 for each in self.nodes[:2]]), "the others are")
        await self.server.start()
        await node.ready()
        self.expect((await ask(node, known)).status == 200, "it is ready when the server is back, and takes the token")
        print(f"  fetches of keys before {fetched}, after {await self._fetches()}")

    async def hung(self) -> None:
        """Row 30."""
        known = await self.held[0].current()
        await trio.sleep(PAUSE_SECONDS)
        before = await self._fetches(outcome="ok")
        self.server.pause()
        seen, slowest, connections = Counter[int](), 0.0, 0
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal connections
                while True:
                    connections = max(connections, connections_to(self.server.issuer))
                    await trio.sleep(0.05)

            async def one(node: Node) -> None:
                nonlocal slowest
                began = trio.current_time()
                seen[(await ask(node, unknown_key(self.server.issuer))).status] += 1
                slowest = max(slowest, trio.current_time() - began)

            async with trio.open_nursery() as asking:
                nursery.start_soon(watch)
                for number in range(HUNG_TOKENS):
                    asking.start_soon(one, self.nodes[number % len(self.nodes)])
                await trio.sleep(1)
                for node in self.nodes:
                    began = trio.current_time()
                    right = (await ask(node, known)).status == 200
                    self.expect(right, f"{node.name} takes a good token after {trio.current_time() - began:.2f} s")
            nursery.cancel_scope.cancel("all are answered")
        self.server.resume()

        async def fetched() -> bool:
            return all(now > earlier for now, earlier in zip(await self._fetches(outcome="ok"), before, strict=True))

        await until(fetched, "every node has fetched the keys again")
        self.expect(
            set(seen) == {503},
            f"{HUNG_TOKENS} tokens under unknown keys: {dict(seen)}, the slowest after {slowest:.1f} s",
        )
        self.expect(connections <= len(self.nodes), f"over {connections} connections at a time")

    async def rotated(self) -> None:
        """Rows 31 and 32."""
        old = await self.held[0].current()
        await self._restarted("two", "one")
        new = await machine(self.server, RESOURCE).current()
        for node in self.nodes:
            before = await node.metric("trio_mcp_jwks_refresh_total")
            statuses = Counter[int]()

            async def one(node: Node = node, statuses: Counter[int] = statuses) -> None:
                statuses[(await ask(node, new)).status] += 1

            async with trio.open_nursery() as nursery:
                for _ in range(FIRST_TOKENS):
                    nursery.start_soon(one)
            fetches = await node.metric("trio_mcp_jwks_refresh_total") - before
            right = statuses == {200: FIRST_TOKENS} and fetches == 1
            self.expect(right, f"{node.name}, first tokens under a new key: {dict(statuses)}, {fetches:.0f} fetch")
            self.expect((await ask(node, old)).status == 200, f"{node.name} takes a token under the old key, too")
        await self._restarted("two")
        refused = sum(each.refused for each in self.held)
        for node in self.nodes:
            self.expect(
                (await ask(node, unknown_key(self.server.issuer))).status == 401, f"{node.name} refuses an unknown key"
            )
            answer = await ask(node, old)
            right = answer.status == 401 and 'error="invalid_token"' in answer.header("www-authenticate")
            self.expect(right, f"{node.name} refuses a token under the withdrawn key, which it had verified")
        await self.traffic.settled()
        refused = sum(each.refused for each in self.held) - refused
        self.expect(refused >= len(self.held), f"{refused} tokens of clients were refused and renewed")

    async def flooded(self) -> None:
        """Row 33."""
        await trio.sleep(PAUSE_SECONDS)
        before, memory = await self._fetches(), self._memory()
        quiet = [call.seconds for call in self.traffic.calls[-500:] if not call.error]
        began, statuses = trio.current_time(), Counter[int]()

        async def send(worker: int, workers: int) -> None:
            for number in range(worker, FLOOD, workers):
                await trio.sleep_until(began + FLOOD_SECONDS * number / FLOOD)
                statuses[(await ask(self.nodes[number % len(self.nodes)], unknown_key(self.server.issuer))).status] += 1

        async with trio.open_nursery() as nursery:
            for worker in range(60):
                nursery.start_soon(send, worker, 60)
        took = trio.current_time() - began
        fetches = [int(after - earlier) for after, earlier in zip(await self._fetches(), before, strict=True)]
        loud = [call.seconds for call in self.traffic.since(began) if not call.error]
        most = MAX_FLOOD_FETCHES * took / FLOOD_SECONDS
        self.expect(max(fetches) <= most, f"{FLOOD} in {took:.0f} s: {dict(statuses)}, {fetches} fetches")
        grown = [after - earlier for after, earlier in zip(self._memory(), memory, strict=True)]
        self.expect(max(grown) < MAX_GROWTH_MIB, f"nodes grew by {[round(each, 1) for each in grown]} MiB")
        print(f"  calls before {_spread(quiet)}, meanwhile {_spread(loud)}")

    async def _restarted(self, *keys: str) -> None:
        """The server with other keys, so long after the last fetch that the next one is due."""
        self.server.keys = [*keys]
        await self.server.stop()
        await self.server.start()
        await trio.sleep(PAUSE_SECONDS)

    async def _fetches(self, **labels: str) -> list[int]:
        return [int(await node.metric("trio_mcp_jwks_refresh_total", **labels)) for node in self.nodes]

    def _memory(self) -> list[float]:
        return [_resident_mib(node.process.pid) for node in self.nodes]

    def _expect_503(self, answer: Response, what: str) -> None:
        challenge, again = answer.header("www-authenticate"), answer.header("retry-after")
        self.expect(
            (answer.status, challenge, again) == (503, "", "5"), f"{what} {answer.status} {challenge}, after {again} s"
        )

    async def judge(self) -> None:
        """What held all the time."""
        traffic = self.traffic
        self.wrong += [f"call failed: {call}" for call in traffic.failed]
        self.wrong += [f"session opened anew: {opening}" for opening in traffic.reopened]
        self.wrong += [f"stream lost: {each}" for each in traffic.streams if not each.clean or each.status != 200]
        self.wrong += [f"call {name} ran {count} times" for name, count in self.standing.runs().items() if count != 1]
        self.wrong += [f"error in a log: {line}" for line in self.standing.logged('"level":"error"')]
        issued = [token for each in self.held for token in each.issued]
        hidden = {part for token in issued for part in parts(token)} | claim_values(issued)
        texts = {
            "a log": [line for node in self.nodes for line in node.lines],
            "a metric": [
                line
                for node in self.nodes
                for line in (await fetch(f"{node.admin}/metrics")).body.decode().splitlines()
            ],
            "Redis": await redis_texts(self.standing.redis),
        }
        self.wrong += found_in(texts, hidden)


def unknown_key(issuer: str) -> str:
    """A token that names a key which nobody has."""
    now = int(time.time())
    claims = {"iss": issuer, "aud": RESOURCE, "sub": "x", "iat": now, "exp": now + 300}
    return handmade({"alg": "RS256", "typ": "at+jwt", "kid": secrets.token_hex(8)}, claims, b"x" * 256)


async def ask(node: Node, token: str) -> Response:
    """The answer of one node to a `server/discover` with that token."""
    name = "io.modelcontextprotocol"
    meta = {f"{name}/protocolVersion": VERSION, f"{name}/clientInfo": {"name": "drill", "version": "1"}}
    params = {"_meta": {**meta, f"{name}/clientCapabilities": {}}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": params}
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    headers |= {"accept": "application/json, text/event-stream"}
    headers |= {"mcp-protocol-version": VERSION, "mcp-method": "server/discover"}
    return await fetch(f"{node.url}/mcp", "POST", headers, json.dumps(body).encode())


def connections_to(issuer: str) -> int:
    """How many connections there are to it at this moment, from whichever process."""
    port = f"{int(issuer.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(remote.endswith(f":{port}") and state in (_ESTABLISHED, _OPENING) for _, _, remote, state, *_ in lines)


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _spread(seconds: Sequence[float]) -> str:
    tail = quantiles(seconds, n=20)[-1]
    return f"{len(seconds)}, median {1000 * median(seconds):.1f} ms, of twenty the slowest {1000 * tail:.1f} ms"


async def _answers(node: Node) -> bool:
    return await node.probe("/livez") != 0


PARTS: Sequence[tuple[str, Callable[[Drill], Any]]] = (
    ("away (rows 28 and 29)", Drill.away),
    ("hung (row 30)", Drill.hung),
    ("rotated (rows 31 and 32)", Drill.rotated),
    ("flooded (row 33)", Drill.flooded),
)


@asynccontextmanager
async def drilling(clients: int) -> AsyncIterator[Drill]:
    """The drill, under load."""
    async with (
        authorization_server(seconds=TOKEN_SECONDS) as server,
        cluster(restore=True, flags=FLAGS, environment=settings(server)) as standing,
    ):
        held = [machine(server, RESOURCE) for _ in range(clients)]
        async with load(standing.url, clients=clients, pause=0.7, tokens=held) as traffic:
            await traffic.settled()
            yield Drill(standing, server, traffic, held)


async def run(clients: int) -> list[str]:
    """The violations."""
    async with drilling(clients) as drill:
        for name, part in PARTS:
            print(name, flush=True)
            await part(drill)
            await drill.traffic.settled()
            print(f"  {drill.traffic.summary()}", flush=True)
        await drill.judge()
        return drill.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[2].partition("\n")[0])
    parser.add_argument("--clients", type=int, default=30)
    wrong = trio.run(run, parser.parse_args().clients)
    for each in wrong[:30]:
        print(each)
    print(f"{len(wrong)} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
