"""The other processes of the cluster: who is there, where each is reached, and which of them is known to have a session.

Nothing here asks anybody. Three sources are read together:

cards of nodes (`membership`) ──────────────┐
workers of this node (`siblings`) ──────────┼─▶ the process to ask, and its URL
owners that have answered (`owner_cache`) ──┘
"""

from __future__ import annotations

from trio_mcp.cluster.clock import now
from trio_mcp.cluster.membership import Membership
from trio_mcp.cluster.owner_cache import Owner, OwnerCache
from trio_mcp.cluster.record import Identity
from trio_mcp.cluster.siblings import Siblings, node_of, url_of_worker

__all__ = ["Peers"]


class Peers:
    """As the process `me` knows them. `peer_url` is the pattern for the URLs of nodes that were not seen yet, with `{node}` in it."""

    def __init__(self, me: Identity, siblings: Siblings, peer_url: str | None = None) -> None:
        self.me: Identity = me
        self.siblings: Siblings = siblings
        self.membership: Membership = Membership(now, siblings.is_out)
        self.owners: OwnerCache = OwnerCache()
        self._peer_url = peer_url

    def home(self, session_id: str) -> Owner | None:
        """The node in the id, where it was seen last; None for this node, and for one whose URL is not known."""
        node = session_id.partition(".")[0]
        if node == self.me.node:
            return None
        sibling = self.siblings.named(node)
        if sibling is not None:
            return sibling
        url = self.membership.url(node) or self._url_by_pattern(node)
        return Owner(node, self.membership.expected(node), -1, url) if url else None

    def _url_by_pattern(self, node: str) -> str:
        of_worker = node_of(node)
        if of_worker and (seen := self.membership.url_of(of_worker)):
            return url_of_worker(seen, node)
        if not self._peer_url:
            return ""
        if of_worker:
            return url_of_worker(self._peer_url.replace("{node}", of_worker).rstrip("/"), node)
        return self._peer_url.replace("{node}", node)

    def is_trusted(self, owner: Owner) -> bool:
        """Whether requests may be sent to its URL at once, without a challenge.

        The socket of a worker has the boot of its process in its name, in a folder of ours: no other process can have it.
        """
        return self.siblings.has(owner) or self.membership.vouch_for(owner)

    def with_room(self, hop: str | None) -> list[Owner]:
        """Who may be asked to open a session for which there is no room here, the best first.

        `hop` is the peer that relayed the request to this node: then only a worker of this node, and none where that peer is one.
        """
        roomy = self.membership.with_room()
        if hop is None:
            return roomy
        return [] if self.siblings.is_worker(hop) else [peer for peer in roomy if self.siblings.has(peer)]

    def worker_with(self, session_id: str) -> str | None:
        """The URL of the worker of this node that answered for the session last; None where there is none, or it stops."""
        owner = self.owners.get(session_id)
        if owner is None or not self.siblings.has(owner) or self.membership.is_stopping(owner.node):
            return None
        return self.siblings.url_of(owner)
