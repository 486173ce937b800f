"""What a check has asked, and the answers it got."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from trio_mcp.cli.check.cookies import Cookie
from trio_mcp.protocol.errors import INTERNAL_ERROR, METHOD_NOT_FOUND

__all__ = ["CLIENT_KINDS", "STREAM", "STREAM_PATIENCE", "Asked", "ClientKind", "Evidence", "Probe", "count"]

ClientKind: TypeAlias = Literal["without cookies", "with cookies", "2026-07-28"]
"""The kinds of client: those with sessions that keep no cookies, those that do, and those without sessions."""

CLIENT_KINDS: tuple[ClientKind, ...] = ("without cookies", "with cookies", "2026-07-28")
STREAM = "GET"

STREAM_PATIENCE = 3.0
"""In seconds. A node sends a stream's first bytes at once, and the next after 4.5 s at the earliest: in between, only a proxy
can hold bytes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request on a connection of its own, and its answer."""

    kind: ClientKind
    what: str
    """A JSON-RPC method, or the HTTP method of what has none."""
    status: int
    """0 when no answer came."""
    node: str = ""
    """The node that opened the session, from its id."""
    sent_cookie: bool = False
    relay: str = ""
    """`node1 to node2` when node1 relayed the request."""
    seconds: float | None = None
    """Until the first bytes of a stream; None when they did not come in time, and for other responses."""
    code: int | None = None
    reason: str = ""
    said: str = ""

    @property
    def missed(self) -> bool:
        """Whether it did not reach its session, or a node at all. An answer that a node has no tools counts as reached."""
        if self.code == METHOD_NOT_FOUND or self.buffered:
            return False
        return not 200 <= self.status < 300 or self.code == INTERNAL_ERROR

    @property
    def buffered(self) -> bool:
        """A stream whose first bytes did not come, though it was not refused."""
        return self.what == STREAM and self.seconds is None and self.status in (0, 200) and not self.said


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to `/livez` or `/readyz` through the balancer; `boot` is "" when it is not a node's."""

    path: str
    status: int
    boot: str
    sets_cookie: bool


@dataclass(slots=True)
class Evidence:
    """Everything that one check has asked and got."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    cookies: list[Cookie] = field(default_factory=list)
    """Those that came with answers at the endpoint, each kind once."""
    probes: list[Probe] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The endpoint's path."""
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
        """The requests that missed."""
        return [each for each in self.asked if each.missed]

    @property
    def streams(self) -> list[Asked]:
        """The GET streams that were not refused."""
        return [each for each in self.asked if each.what == STREAM and not each.missed]

    @property
    def boots(self) -> set[str]:
        """The ids of the processes that answered probes."""
        return {probe.boot for probe in self.probes if probe.boot}

    def of(self, kind: ClientKind) -> list[Asked]:
        """What clients of that kind asked."""
        return [each for each in self.asked if each.kind == kind]

    def as_json(self) -> dict[str, Any]:
        """Everything but session ids and the values of cookies, which are credentials."""
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
