"""Prometheus metrics of authorization: what became of tokens, how long that took, and how old the keys are.

Labels come from fixed sets and from the configuration, never from a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trio_mcp.observability.metrics import Histogram

__all__ = ["AuthMetrics", "Outcome"]

_ALLOWED = ("allowed", "")

SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
"""A token that was seen before takes 10 us, a new one 150 us, a question to the authorization server milliseconds."""

Outcome: TypeAlias = Literal["allowed", "refused", "unavailable", "failed"]
Statistics: TypeAlias = Callable[[], Mapping[str, Mapping[str, Any]]]
"""By issuer: `age_seconds` (None before the first fetch), `succeeded`, `failed`."""


class AuthMetrics:
    """Those of one app with authorization, in the registry of its other metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._judged: Counter[tuple[str, str]] = Counter({_ALLOWED: 0})
        """By outcome and reason. Counted by the event loop's thread alone, without the locks of prometheus_client."""
        registry.register(_Judged(self._judged))
        took = Histogram("trio_mcp_auth_seconds", "How long tokens took to be judged.", (), SECONDS)
        registry.register(took)
        self._took = took.labels()

    def judged(self, outcome: Outcome, reason: str, seconds: float) -> None:
        """Count a request; `reason` is empty for one that is allowed."""
        self._judged[outcome, reason] += 1
        self._took.observe(seconds)

    def recognised(self) -> None:
        """Count a request that is allowed because it came with the same head as one before. That takes no time worth measuring."""
        self._judged[_ALLOWED] += 1

    def count_fetches_with(self, statistics: Statistics) -> None:
        """Call `statistics` at each scrape."""
        self._registry.register(_Fetches(statistics))


class _Judged(Collector):
    """What became of tokens."""

    def __init__(self, judged: Mapping[tuple[str, str], int]) -> None:
        self._judged = judged

    def collect(self) -> Iterator[CounterMetricFamily]:
        """As the registry asks for it."""
        text = "Requests by what their token was found to be; reason is why it was refused."
        found = CounterMetricFamily("trio_mcp_auth", text, labels=("outcome", "reason"))
        for labels, count in list(self._judged.items()):
            found.add_metric(labels, count)
        yield found


class _Fetches(Collector):
    """The key sets, by issuer."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Without values: registering must not call `statistics`."""
        yield _age()
        yield _refreshes()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """As the registry asks for it."""
        age, refreshes = _age(), _refreshes()
        for issuer, numbers in self._statistics().items():
            if numbers["age_seconds"] is not None:
                age.add_metric((issuer,), numbers["age_seconds"])
            refreshes.add_metric((issuer, "ok"), numbers["succeeded"])
            refreshes.add_metric((issuer, "failed"), numbers["failed"])
        yield age
        yield refreshes


def _age() -> GaugeMetricFamily:
    text = "Since the keys of the issuer were fetched; none before the first time."
    return GaugeMetricFamily("trio_mcp_jwks_age_seconds", text, labels=["issuer"])


def _refreshes() -> CounterMetricFamily:
    text = "Attempts to fetch the keys of the issuer."
    return CounterMetricFamily("trio_mcp_jwks_refresh", text, labels=["issuer", "outcome"])
