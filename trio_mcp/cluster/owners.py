"""Where sessions were last met that are not here: a hint that saves Redis a question, dropped when it proves wrong."""

from __future__ import annotations

from collections import OrderedDict

from trio_mcp.cluster.owner import Owner

__all__ = ["Owners"]

MAX_OWNERS = 10_000


class Owners:
    """A cache by session id; past its bound the one that was not needed for longest goes."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Owner] = OrderedDict()

    def get(self, session_id: str) -> Owner | None:
        """The owner, if it is known."""
        owner = self._known.get(session_id)
        if owner is not None:
            self._known.move_to_end(session_id)
        return owner

    def remember(self, session_id: str, owner: Owner) -> None:
        """It answered for the session."""
        self._known[session_id] = owner
        self._known.move_to_end(session_id)
        if len(self._known) > MAX_OWNERS:
            self._known.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """Forget the owner: it answered 421."""
        self._known.pop(session_id, None)
