"""One page of metrics for several processes: the samples with the same name and labels, added up or compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["counters", "summed"]

_LARGEST = frozenset({"trio_mcp_loop_lag_seconds", "trio_mcp_draining", "trio_mcp_build_info", "process_max_fds"})
"""Of these the node has the largest value of any process."""
_LEAST = frozenset({"trio_mcp_directory_up", "process_start_time_seconds"})
"""Of these the smallest."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


def summed(pages: Sequence[bytes], ended: bytes = b"") -> bytes:
    """The page of a node whose processes have `pages`; each in the text format of Prometheus, as `Metrics.render` makes it.

    `ended` has what processes have counted that have ended: a counter of the node must not fall when one of its workers ends.
    """
    return _page([*pages, ended])


def counters(pages: Sequence[bytes]) -> bytes:
    """Only what counts, of all pages together: counters and histograms."""
    return _page(pages, frozenset({"counter", "histogram"}))


def _page(pages: Sequence[bytes], kinds: frozenset[str] | None = None) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Merged(pages, kinds))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, pages: Sequence[bytes], kinds: frozenset[str] | None) -> None:
        self._pages = pages
        self._kinds = kinds

    def collect(self) -> Iterator[Metric]:
        families: dict[str, list[Metric]] = {}
        for page in self._pages:
            for family in text_string_to_metric_families(page.decode()):
                if self._kinds is None or family.type in self._kinds:
                    families.setdefault(family.name, []).append(family)
        for same in families.values():
            yield _merge(same)


def _merge(families: Sequence[Metric]) -> Metric:
    first = families[0]
    merged = Metric(first.name, first.documentation, first.type)
    values: dict[_Key, list[float]] = {}
    for family in families:
        for sample in family.samples:
            values.setdefault((sample.name, tuple(sample.labels.items())), []).append(sample.value)
    for (name, labels), found in values.items():
        merged.add_sample(name, dict(labels), _rule(name)(found))
    return merged


def _rule(name: str) -> Callable[[Iterable[float]], float]:
    if name in _LARGEST:
        return max
    return min if name in _LEAST or name.endswith("_created") else sum
