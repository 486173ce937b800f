"""Which changes on the server a session's client gets notifications of: all lists, and the resources it subscribed to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from trio_mcp.dispatch.listening import MAX_SUBSCRIPTIONS, change_message
from trio_mcp.protocol.errors import INVALID_REQUEST, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import encode, encode_notification
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import LIST_KINDS, Change, ListChanged, Missed, ResourceUpdated

__all__ = ["MAX_SUBSCRIBED_BYTES", "Subscriptions"]

MAX_SUBSCRIBED_BYTES = 64 * 1024
"""Of all URIs as JSON: a directory records them, whenever one changes and whenever all records are checked."""


class _Send(Protocol):
    def __call__(self, data: bytes, kind: Kind, key: Any) -> None: ...


class Subscriptions:
    """The URIs one client subscribed to (server/resources), and the notifications that changes become."""

    __slots__ = ("_missed", "_offers", "_send", "_uris")

    def __init__(self, uris: Iterable[str], *, missed: bool, offers: Callable[[str], bool], send: _Send) -> None:
        """`missed`: there were changes that nobody noted, before a restore. `offers`: whether the server has a kind of list. `send`
        takes one encoded message."""
        self._uris = set(uris)
        self._missed = missed
        self._offers = offers
        self._send = send

    def __iter__(self) -> Iterator[str]:
        return iter(self._uris)

    def add(self, uri: str) -> None:
        """Raises RemoteProtocolError beyond the bounds of one session."""
        if uri not in self._uris:
            self._check_room_for(uri)
        self._uris.add(uri)

    def remove(self, uri: str) -> None:
        """A URI that was never subscribed to is ignored."""
        self._uris.discard(uri)

    def notify(self, change: Change) -> None:
        """Send a notification of a change on the server, if it concerns the client."""
        if isinstance(change, Missed):
            return self._notify_of_all()
        if isinstance(change, ResourceUpdated) and not self._covers(change.uri):
            return
        method, params = change_message(change)
        self._send(encode_notification(method, params or None), Kind.LATEST, change)

    def notify_missed(self) -> None:
        """After a restore, once: what changed meanwhile is not known, so everything counts as changed."""
        if self._missed:
            self._missed = False
            self._notify_of_all()

    def _notify_of_all(self) -> None:
        for kind in LIST_KINDS:
            if self._offers(kind):
                self.notify(ListChanged(kind))
        for uri in self._uris:
            self.notify(ResourceUpdated(uri))

    def _covers(self, uri: str) -> bool:
        # "The uri may be a sub-resource of the one that was subscribed to."
        return uri in self._uris or any(uri.startswith(known.rstrip("/") + "/") for known in self._uris)

    def _check_room_for(self, uri: str) -> None:
        limit = ""
        if len(self._uris) >= MAX_SUBSCRIPTIONS:
            limit = f"{MAX_SUBSCRIPTIONS} resources"
        elif len(encode([*self._uris, uri])) > MAX_SUBSCRIBED_BYTES:
            limit = f"URIs of {MAX_SUBSCRIBED_BYTES} bytes together"
        if limit:
            raise RemoteProtocolError(INVALID_REQUEST, f"A session may subscribe to {limit}")
