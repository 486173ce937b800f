"""Requests that are refused before a handler runs: all are counted, each burst has one log line."""

from __future__ import annotations

import logging
from typing import Any

import trio

from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics

__all__ = ["Refusals"]

logger: logging.Logger = logging.getLogger("trio_mcp.refused")

BURST_SECONDS = 10.0
"""One log line per status and reason in this time, however many are refused: clients must not be able to fill the disk."""

_ROUTINE = frozenset({401, 404, 405, 406, 415})
"""Statuses that correct clients get too: no token yet, a session that has ended, a version that is not served."""


class Refusals:
    """Counts refusals in `trio_mcp_refused_total{status,reason}` and logs them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._bursts: dict[tuple[int, str], tuple[float, int]] = {}
        """When the last line was written (trio clock), and how many refusals had none since."""

    def count(self, status: int, reason: str) -> None:
        """Count a refusal that has a log line of its own."""
        self._metrics.refused(status, reason)

    def note(self, status: int, reason: str, *, name: str = "request refused", **fields: Any) -> None:
        """Count a refusal, and log it unless its burst has a line; `reason` is a label, so from a bounded set."""
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
