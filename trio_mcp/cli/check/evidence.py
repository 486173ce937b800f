"""What was asked, and what came back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from trio_mcp.cli.check.cookies import Cookie
from trio_mcp.protocol.errors import INTERNAL_ERROR, METHOD_NOT_FOUND

__all__ = ["CROWDS", "STREAM", "STREAM_PATIENCE", "Asked", "Crowd", "Evidence", "Probe", "count"]

Crowd: TypeAlias = Literal["without cookies", "with cookies", "2026-07-28"]
"""The kinds of client: those with sessions that keep no cookies, those that do, and those without sessions."""

CROWDS: tuple[Crowd, ...] = ("without cookies", "with cookies", "2026-07-28")
STREAM = "GET"

STREAM_PATIENCE = 3.0
"""A stream's first bytes leave the node at once; its next come after 4.5 s at the earliest, and would flush a buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request on a connection of its own, and what it met."""

    crowd: Crowd
    what: str
    """A JSON-RPC method, or the HTTP method of what has none."""
    status: int
    """0 when nobody answered."""
    node: str = ""
    """In the session id: where the session was opened."""
    sent_cookie: bool = False
    relay: str = ""
    """`node1 to node2`, when node1 had to ask."""
    seconds: float | None = None
    """Of a stream: until its first bytes; None when they did not come in time."""
    code: int | None = None
    reason: str = ""
    said: str = ""

    @property
    def missed(self) -> bool:
        """Whether it did not reach its session, or anybody. A node that has no tools has answered well."""
        if self.code == METHOD_NOT_FOUND or self.buffered:
            return False
        return not 200 <= self.status < 300 or self.code == INTERNAL_ERROR

    @property
    def buffered(self) -> bool:
        """A stream whose first bytes did not come, though it was not refused."""
        return self.what == STREAM and self.seconds is None and self.status in (0, 200) and not self.said


@dataclass(frozen=True, slots=True)
class Probe:
    """`/livez` or `/readyz`, as the balancer lets it through; `boot` is empty when it was no node that answered."""

    path: str
    status: int
    boot: str
    sets_cookie: bool


@dataclass(slots=True)
class Evidence:
    """All of it."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    cookies: list[Cookie] = field(default_factory=list)
    """Those that came with answers at the endpoint, each kind once."""
    probes: list[Probe] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The endpoint's."""
        return urlsplit(self.url).path or "/"

    @property
    def is_secure(self) -> bool:
        """Whether it is asked over TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def nodes(self) -> dict[str, int]:
        """How many sessions each node has opened; 0 for one that has only relayed."""
        opened = [each.node for each in self.asked if each.what == "initialize" and each.node]
        relays = [name for each in self.asked if each.relay for name in each.relay.split(" to ")]
        return {name: opened.count(name) for name in sorted({*opened, *relays})}

    @property
    def misses(self) -> list[Asked]:
        """What did not get where it should."""
        return [each for each in self.asked if each.missed]

    @property
    def streams(self) -> list[Asked]:
        """The GET streams that were not refused."""
        return [each for each in self.asked if each.what == STREAM and not each.missed]

    @property
    def boots(self) -> set[str]:
        """The processes that answered probes."""
        return {probe.boot for probe in self.probes if probe.boot}

    def of(self, crowd: Crowd) -> list[Asked]:
        """What clients of that kind asked."""
        return [each for each in self.asked if each.crowd == crowd]

    def as_json(self) -> dict[str, Any]:
        """The whole, but for the ids and cookie values, which are nobody's business."""
        return {
            "url": self.url,
            "nodes": self.nodes,
            "requests": [{**asdict(each), "missed": each.missed} for each in self.asked],
            "cookies": [cookie.shown for cookie in self.cookies],
            "probes": [asdict(probe) for probe in self.probes],
        }


def count(requests: Iterable[Asked], matches: Callable[[Asked], object]) -> int:
    """How many of them match."""
    return sum(1 for each in requests if matches(each))
