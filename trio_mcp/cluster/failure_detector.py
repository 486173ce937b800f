"""Collects the evidence whether the process that has a session is gone, when its URL does not answer for it.

request ─▶ URL refuses ─▶ its card: when did it beat last? ─▶ `membership.judge` ─▶ gone · alive
                ▲                                                  │ not enough evidence yet
                └── the URL is asked again ◀── LOOK_SECONDS ───────┘  one beat and a second at most, then unknown

Requests that wait for the verdict on the same process share one watch.
"""

from __future__ import annotations

import math

import trio

from trio_mcp.cluster.membership import CARD_SECONDS, MISSED_BEAT_SECONDS, AtUrl, Evidence, Verdict, at_url, judge
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.outcomes import Outcome
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import NodeCard, read
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import CardSecondsLeft, HasCard, OperationRefused, ReadCard, StoreDown

__all__ = ["FailureDetector"]

LOOK_SECONDS = 0.25
"""Between two looks at a process that may be gone."""


class _Watch:
    """One request collects; others that wait for the same verdict wait for this."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.verdict: Verdict | None = None
        """None until it has ended, and when the request that collected was cancelled."""


class FailureDetector:
    """Reads cards and probes URLs for `membership.judge`."""

    def __init__(self, store: MeasuredStore, peers: Peers, client: PeerClient) -> None:
        self._store = store
        self._siblings = peers.siblings
        self._me = peers.me
        self._client = client
        self._under_way: dict[tuple[str, str], _Watch] = {}

    async def look(self, owner: Owner) -> Verdict:
        """ALIVE, GONE or UNKNOWN, from one probe and one look at the card of `owner`'s node."""
        if self._siblings.has_ended(owner.boot):
            return Verdict.GONE
        return await self._judged(owner, await self._at_url(owner), math.inf)

    async def wait(self, owner: Owner, seen: Outcome | str, since: float) -> Verdict:
        """ALIVE, GONE or UNKNOWN, `MISSED_BEAT_SECONDS` after `since` (trio clock) and one look at the latest.

        `seen` is the outcome of the relay that failed. UNKNOWN means that this request has waited long enough; those that came later
        go on.
        """
        key = owner.boot, owner.url
        while (other := self._under_way.get(key)) is not None:
            await other.ended.wait()
            if other.verdict is None or (other.verdict is Verdict.UNKNOWN and self._may_wait(since)):
                continue
            return other.verdict
        mine = self._under_way[key] = _Watch()
        try:
            mine.verdict = await self._wait(owner, at_url(seen, owner.boot), since)
            return mine.verdict
        finally:
            del self._under_way[key]
            mine.ended.set()

    @staticmethod
    def _may_wait(since: float) -> bool:
        return trio.current_time() - since < MISSED_BEAT_SECONDS

    async def _wait(self, owner: Owner, at: AtUrl, since: float) -> Verdict:
        while (verdict := await self._judged(owner, at, trio.current_time() - since)) is Verdict.WAIT:
            await trio.sleep(LOOK_SECONDS)
            at = await self._at_url(owner)
        return verdict

    async def _at_url(self, owner: Owner) -> AtUrl:
        return at_url(await self._client.probe(self._siblings.url_of(owner)), owner.boot)

    async def _judged(self, owner: Owner, at: AtUrl, waited: float) -> Verdict:
        if self._siblings.has_ended(owner.boot):
            return Verdict.GONE
        silent_for = None if at is AtUrl.ITSELF else await self.silent_for(owner.node, owner.boot)
        return judge(Evidence(at, silent_for, waited))

    async def silent_for(self, node: str, boot: str) -> float | None:
        """Seconds since that process beat last; see `Evidence`.

        Where its card is missing, it was not renewed for as long as ours has stood, at least.
        """
        try:
            raw, left, ours = await self._store.run([ReadCard(node), CardSecondsLeft(node), HasCard(self._me.node)])
        except StoreDown:
            return None
        if any(isinstance(reply, OperationRefused) for reply in (raw, left, ours)):
            return None
        card = read(raw, NodeCard)
        if card is None:
            return self._store.trust.stood_for if ours else 0.0
        if boot not in ("", card.boot):
            return math.inf
        return max(0.0, CARD_SECONDS - float(left))
