"""What Redis has of the sessions, compared with what the nodes have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tests.rig.cluster import Cluster
from tests.rig.nodes import Node
from tests.rig.redis import RedisServer
from tests.rig.waiting import until

__all__ = ["all_on_record", "on_record", "record_of", "tombstone_of", "wrong_records"]


class Nodes(Protocol):
    """Nodes over one Redis."""

    @property
    def nodes(self) -> Sequence[Node]:
        """All of them, those that are stopped as well."""

    @property
    def redis(self) -> RedisServer:
        """What they share."""


async def record_of(whole: Cluster, session: str) -> dict[str, Any]:
    """The session's record; {} without one."""
    return _read(await whole.redis.ask("GET", f"mcp:session:{session}"))


async def on_record(whole: Cluster, *sessions: str, initialized: bool = False) -> None:
    """Wait until Redis has these sessions: a node waits for that only a moment, and for the changes that follow not at all.

    `initialized`, which only a node that restores writes, is the last change that a client's opening makes.
    """
    for session in sessions:

        async def asked(session: str = session) -> bool:
            record = await record_of(whole, session)
            return bool(record.get("initialized") if initialized else record)

        await until(asked, f"{session} is on record")


async def all_on_record(whole: Cluster) -> None:
    """Wait until Redis has every session, as it is."""

    async def asked() -> bool:
        return not await wrong_records(whole)

    await until(asked, "all is on record")


async def tombstone_of(whole: Nodes, session: str) -> dict[str, Any]:
    """The session's tombstone; {} without one."""
    return _read(await whole.redis.ask("GET", f"mcp:closed:{session}"))


async def wrong_records(whole: Nodes, deleted: Iterable[str] = (), *, ended_processes: bool = True) -> list[str]:
    """Cards, records and tombstones that are missing or wrong; `deleted` are sessions that clients ended.

    Without restore a record of a process that was killed stays until a request asks for it: without `ended_processes` such a
    record is not wrong.
    """
    wrong, homes, living = list[str](), dict[tuple[str, str], str](), set[tuple[str, str]]()
    for node in whole.nodes:
        if node.alive:
            cards = await _cards(whole, node)
            wrong += await _wrong_cards(node, cards)
            homes |= {(name, card.get("boot", "")): node.name for name, card in cards.items()}
            living |= {(node.name, each["session"]) for each in await node.sessions()}
    recorded = {
        (homes.get((name, boot), f"{name} {boot}"), short)
        for name, boot, short in await _recorded(whole)
        if ended_processes or (name, boot) in homes
    }
    wrong += [f"session {short} of {name} has no record" for name, short in sorted(living - recorded)]
    wrong += [f"a record says that {short} is on {name}" for name, short in sorted(recorded - living)]
    for session in deleted:
        if (await tombstone_of(whole, session)).get("reason") != "deleted":
            wrong.append(f"{session} was deleted and has no tombstone")
    return wrong


async def _cards(whole: Nodes, node: Node) -> dict[str, dict[str, Any]]:
    """The node's card by its name, or those of its workers by theirs."""
    if node.workers == 1:
        return {node.name: _read(await whole.redis.ask("GET", f"mcp:node:{node.name}"))}
    names = [name.decode() for name in await whole.redis.ask("ZRANGE", "mcp:nodes", "0", "-1")]
    own = [name for name in names if name.rpartition("-w")[0] == node.name]
    cards = {name: _read(await whole.redis.ask("GET", f"mcp:node:{name}")) for name in own}
    return {name: card for name, card in cards.items() if card}


async def _wrong_cards(node: Node, cards: Mapping[str, dict[str, Any]]) -> list[str]:
    boots = {card.get("boot") for card in cards.values()}
    urls = {node.url if name == node.name else f"{node.url}#{name}" for name in cards}
    right = len(cards) == node.workers and {card.get("url") for card in cards.values()} == urls
    return [] if right and await node.boot() in boots else [f"the cards of {node.name} are {cards}"]


async def _recorded(whole: Nodes) -> set[tuple[str, str, str]]:
    """Node, boot and short id of each."""
    keys = [key.decode() for key in await whole.redis.ask("KEYS", "mcp:session:*")]
    found = set()
    for key, raw in zip(keys, await whole.redis.ask("MGET", *keys) if keys else [], strict=True):
        record = _read(raw)
        if record:  # it may have been deleted in between
            found.add((record["node"], record["boot"], key.rpartition(".")[2][:8]))
    return found


def _read(raw: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = {} if raw is None else json.loads(raw)
    return found
