"""Prometheus metrics of tasks: how many run, were begun, and how they ended."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["TaskMetrics"]


class TaskMetrics:
    """Those of one app that has tools with `task=`, in the registry of its other metrics. `running` is called at each scrape."""

    def __init__(self, registry: CollectorRegistry, running: Callable[[], float]) -> None:
        Gauge("trio_mcp_tasks_running", "Tasks that run on this node.", registry=registry).set_function(running)
        self._began = Counter("trio_mcp_tasks_begun_total", "Calls that became tasks here.", registry=registry)
        self._ended = Counter(
            "trio_mcp_tasks_ended_total",
            "Tasks that ended here; reason is why one failed that no tool ended.",
            ("status", "reason"),
            registry=registry,
        )
        self._again = Counter(
            "trio_mcp_tasks_run_again_total", "Tasks taken over from another node, and run again.", registry=registry
        )

    def began(self) -> None:
        self._began.inc()

    def ended(self, status: str, reason: str | None) -> None:
        self._ended.labels(status, reason or "").inc()

    def ran_again(self) -> None:
        self._again.inc()
