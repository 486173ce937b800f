"""Requests that are refused before they reach a handler: each is counted, and each burst of them is one log line."""

from __future__ import annotations

import logging
from typing import Any

import trio

from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics

__all__ = ["Refusals"]

logger: logging.Logger = logging.getLogger("trio_mcp.refused")

BURST_SECONDS = 10.0
"""One log line per status and reason in this time, however many clients are refused: a client must not fill the disk."""

_ROUTINE = frozenset({401, 404, 405, 406, 415})
"""Statuses that well-behaved clients meet: a token to fetch or refresh, a session that is over, a version to find out."""


class Refusals:
    """Counts into `trio_mcp_refused_total{status,reason}`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._bursts: dict[tuple[int, str], tuple[float, int]] = {}
        """When the last line was written (trio clock), and how many refusals had none since."""

    def count(self, status: int, reason: str) -> None:
        """One refusal that has a log line of its own."""
        self._metrics.refused(status, reason)

    def note(self, status: int, reason: str, *, name: str = "request refused", **fields: Any) -> None:
        """One refusal; `reason` is a label, so one of a bounded set. `fields` go to the log line, if this one gets it."""
        self.count(status, reason)
        key = status, reason
        now = trio.current_time()
        at, hidden = self._bursts.get(key, (-BURST_SECONDS, 0))
        if now - at < BURST_SECONDS:
            self._bursts[key] = at, hidden + 1
            return
        self._bursts[key] = now, 0
        level = logging.INFO if status in _ROUTINE else logging.WARNING
        event(logger, level, name, status=status, reason=reason, **fields, more=hidden or None)
