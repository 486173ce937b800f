"""What Redis has of the sessions, compared with what the nodes have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tests.rig.cluster import Cluster, cards
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
            stand = await cards(whole.redis, node)
            wrong += await _wrong_cards(node, stand)
            homes |= {(name, card["boot"]): node.name for name, card in stand.items()}
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


async def _wrong_cards(node: Node, stand: Mapping[str, dict[str, Any]]) -> list[str]:
    boots = {card["boot"] for card in stand.values()}
    urls = {node.url if name == node.name else f"{node.url}#{name}" for name in stand}
    right = len(stand) == node.workers and {card["url"] for card in stand.values()} == urls
    return [] if right and await node.boot() in boots else [f"the cards of {node.name} are {stand}"]


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
