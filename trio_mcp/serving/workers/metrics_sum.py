"""One page of metrics for several processes: the samples with the same name and labels, added up or compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["Page", "counters", "parsed", "summed"]

_LARGEST = frozenset({"trio_mcp_loop_lag_seconds", "trio_mcp_draining", "trio_mcp_build_info", "process_max_fds"})
"""Of these the node has the largest value of any process."""
_LEAST = frozenset({"trio_mcp_directory_up", "process_start_time_seconds"})
"""Of these the smallest."""

_Key = tuple[str, tuple[tuple[str, str], ...]]

Page: TypeAlias = Sequence[Metric]
"""The metrics of one process, parsed."""


def parsed(page: bytes) -> Page:
    """The page, in the text format of Prometheus as `Metrics.render` makes it; raises ValueError for anything else."""
    return list(text_string_to_metric_families(page.decode()))


def summed(pages: Sequence[Page], ended: Page = ()) -> bytes:
    """The page of a node whose processes have `pages`.

    `ended` has what processes have counted that have ended: a counter of the node must not fall when one of its workers ends.
    """
    registry = CollectorRegistry()
    registry.register(_Merged([*pages, ended]))
    return generate_latest(registry)


def counters(pages: Sequence[Page]) -> Page:
    """Only what counts, of all pages together: counters and histograms."""
    return [family for family in _merged(pages) if family.type in ("counter", "histogram")]


class _Merged(Collector):
    def __init__(self, pages: Sequence[Page]) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        return iter(_merged(self._pages))


def _merged(pages: Sequence[Page]) -> list[Metric]:
    families: dict[str, list[Metric]] = {}
    for page in pages:
        for family in page:
            families.setdefault(family.name, []).append(family)
    return [_merge(same) for same in families.values()]


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
