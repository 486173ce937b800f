"""Whether what Redis says, and does not say, can be believed; learned from what each beat finds of this node's own card.

Only this node takes its card down. Where the card is missing, Redis has lost data, and records and the cards of other nodes may be
missing, too.

what a beat finds ─┬─ our card stands      nothing was lost since the last beat
                   ├─ it was missing       a missing record proves nothing for a while; all records are to be compared
                   ├─ another process'     it has our node id; ours may be lost to it
                   ├─ Redis refused it     there is no card: its absence proves nothing
                   └─ no answer            when Redis answers again it may have lost anything
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import trio

from trio_mcp.cluster.clock import Moment
from trio_mcp.cluster.membership import BEAT_SECONDS, CARD_SECONDS
from trio_mcp.cluster.record import NodeCard

__all__ = ["REFILL_SECONDS", "CardFound", "StoreTrust"]

REFILL_SECONDS = BEAT_SECONDS + 1.0
"""All nodes notice with their next beat that Redis has lost data, and write their records again."""

ANOTHER_RENEWED_SECONDS = CARD_SECONDS + BEAT_SECONDS
"""A card that stands for this long was renewed meanwhile, however slowly Redis answers."""


class CardFound(Enum):
    """What a beat found in the place of our card, unless it was the card of another process."""

    STANDING = "standing"
    MISSING = "missing"
    REFUSED = "refused"
    """Redis refused the command."""
    UNANSWERED = "unanswered"


class StoreTrust:
    """`now` is the clock."""

    def __init__(self, now: Callable[[], Moment]) -> None:
        self._now = now
        self.beat: trio.Lock = trio.Lock()
        """Held during a beat: what it finds may change every answer here."""
        self.has_node_id: bool = False
        """Our card is the one that stands under our node id, or stood when Redis answered last: no other process has the id."""
        self._another: tuple[NodeCard, Moment] | None = None
        """The card of another process that the last beat found in the place of ours, and when it was found first."""
        self._expects_card = False
        self._standing_since: float | None = None
        """Trio clock, for the card does not stand while the machine is suspended."""
        self._lost_at: Moment | None = None
        self._left = False
        self.records_doubted: bool = False
        """Records of ours may be missing or wrong: all are to be compared."""

    def found(self, card: CardFound | NodeCard) -> bool:
        """Take in what a beat found; whether all records are to be compared because of it."""
        match card:
            case NodeCard():
                self.has_node_id = False
                self._standing_since = None
                since = (
                    self._another[1]
                    if self._another is not None and self._another[0].boot == card.boot
                    else self._now()
                )
                self._another = card, since
                # That process believes that ours is dead, and may have restored some of our sessions.
                return True
            case CardFound.UNANSWERED:
                self._standing_since = None
                # Also where this process has only started: it cannot know what Redis had before.
                self._expects_card = not self._left
                return False
        self._another = None
        if card is CardFound.REFUSED:
            self._standing_since = None
            self._expects_card = False
            return False
        self.has_node_id = True
        if card is CardFound.MISSING or self._standing_since is None:
            self._standing_since = self._now().trio
        if card is CardFound.MISSING and self._expects_card:
            self._lost_at = self._now()
        self._expects_card = True
        return card is CardFound.MISSING

    def leave(self) -> None:
        """Our card is about to be taken down."""
        self._left = True
        self._expects_card = False

    def doubt_records(self) -> None:
        """Redis may not have our records as they should be."""
        self.records_doubted = True

    def has_lost_data(self, *, card_stands: bool) -> bool:
        """Whether Redis must have lost data, going by whether our card stands there now."""
        return self._expects_card and not card_stands

    @property
    def is_refilled(self) -> bool:
        """Whether a missing record proves that there is none: all nodes had time to write theirs again since Redis lost data."""
        return self._lost_at is None or self._now().since(self._lost_at) >= REFILL_SECONDS

    @property
    def stood_for(self) -> float:
        """Seconds that our card has stood without a gap; 0 when it does not. Where all cards are missing, no node is dead."""
        return 0.0 if self._standing_since is None else self._now().trio - self._standing_since

    @property
    def another(self) -> NodeCard | None:
        """The card of another process that the last beat found in the place of ours."""
        return None if self._another is None else self._another[0]

    @property
    def another_is_renewed(self) -> bool:
        """Whether the other process under our node id has put its card up again since it was first seen: it lives."""
        return self._another is not None and self._now().since(self._another[1]) > ANOTHER_RENEWED_SECONDS
