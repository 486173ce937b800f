"""What other nodes do to the sessions of this node: one that was claimed elsewhere, or has ended, is closed here."""

from __future__ import annotations

from trio_mcp.cluster.membership import superseded
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import OwnershipChange
from trio_mcp.cluster.record_backups import RecordBackups
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.hub import Hub

__all__ = ["LocalCopies"]


class LocalCopies:
    """The sessions of `hub`, and what this node knows of those of its peers."""

    def __init__(self, hub: Hub, backups: RecordBackups, peers: Peers) -> None:
        self._hub = hub
        self._backups = backups
        self._peers = peers

    def not_ours(self, session_id: str) -> None:
        """The session's record is another node's, or a tombstone stands in its place: close our copy."""
        self._close(session_id, CloseReason.MOVED)

    def changed(self, change: OwnershipChange) -> None:
        """Another node has claimed a session, or recorded its end: close our copy unless it is of a later life."""
        self._backups.changed(change)
        self._peers.owners.changed(change.session, change.epoch, ended=change.ended)
        session = self._hub.owned(change.session)
        if session is not None and superseded(self._peers.me.boot, session.streams.epoch, change):
            session.close(CloseReason.MOVED)

    def end(self, session_id: str) -> None:
        """An operator asked for the end of the session."""
        self._close(session_id, CloseReason.DELETED)

    def _close(self, session_id: str, reason: CloseReason) -> None:
        session = self._hub.owned(session_id)
        if session is not None:
            session.close(reason)
