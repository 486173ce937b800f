"""Prometheus metrics of one node; names of the OpenTelemetry convention for MCP where it has them.

Nothing is labelled by session, user or URI, and tools only by registered names: every set of label values takes memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from trio_mcp.observability.build import version as package_version
from trio_mcp.observability.log_writer import dropped_lines
from trio_mcp.protocol.versions import SERVED_VERSIONS

__all__ = ["Histogram", "Metrics", "StreamKind"]

StreamKind = Literal["get", "post", "listen"]

BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
"""Seconds, as in the OpenTelemetry convention for MCP."""

DIRECTORY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
"""Seconds; a round trip on one network takes less than one millisecond."""

MAX_OPERATIONS = 5000
"""Label sets for operations. Beyond it the method is `other`: clients can send any number of methods."""


class Metrics:
    """The metrics of one node, in a registry of their own; `transport` is `tcp` (HTTP) or `pipe` (stdio)."""

    def __init__(self, transport: Literal["tcp", "pipe"] = "tcp") -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        self._transport = transport
        self._operations: dict[tuple[str, str | None, str, str | None], Callable[[float], None]] = {}
        self._open_metrics()
        ProcessCollector(registry=self.registry)
        self.registry.register(_LogLines())

    def _open_metrics(self) -> None:
        self._operation = self._histogram(
            "mcp_server_operation_duration_seconds",
            "How long requests took.",
            ("mcp_method_name", "gen_ai_tool_name", "error_type", "network_transport", "mcp_protocol_version"),
        )
        self._session = self._histogram(
            "mcp_server_session_duration_seconds",
            "How long sessions lived.",
            ("error_type", "network_transport", "mcp_protocol_version"),
        )
        self._sessions = self._gauge("trio_mcp_sessions_active", "Sessions open now.")
        self._opened = _by_label(
            self._counter("trio_mcp_sessions_opened_total", "Sessions opened.", ("mcp_protocol_version",))
        )
        self._closed = self._counter("trio_mcp_sessions_closed_total", "Sessions closed.", ("reason",))
        self._streams = self._gauge("trio_mcp_streams_active", "Streams open now.", ("kind",))
        self._requests = self._gauge("trio_mcp_requests_active", "Requests running now.")
        self._misroutes = self._counter(
            "trio_mcp_misroutes_total", "Requests for a session that is not here.", ("reason", "outcome")
        )
        self._refused = self._counter(
            "trio_mcp_refused_total", "Requests answered with an HTTP error before a handler ran.", ("status", "reason")
        )
        self._resumes = self._counter("trio_mcp_stream_resumes_total", "Streams resumed with Last-Event-ID.")
        self._lag = self._gauge("trio_mcp_loop_lag_seconds", "How late the event loop runs a task that is due.")
        self._blocked = self._counter(
            "trio_mcp_loop_blocked_total", "Times the event loop was held for more than a second."
        )
        self._threads = self._gauge("trio_mcp_threads_in_use", "Worker threads running handlers.")
        self._draining = self._gauge("trio_mcp_draining", "1 from the stop signal on.")
        self._kept = self._gauge("trio_mcp_kept_bytes", "Bytes of messages and bodies that wait in memory.")
        self._kept_limit = self._gauge("trio_mcp_kept_bytes_limit", "More than this makes new calls wait.")
        self._relief = self._counter("trio_mcp_relief_total", "What was done for lack of memory.", ("what",))
        self._workers = self._gauge("trio_mcp_workers", "Workers of this node that are ready; 0 for one process.")
        self._worker_deaths = self._counter("trio_mcp_worker_deaths_total", "Workers that died or were killed.")
        self._open_cluster_metrics()
        build = self._gauge("trio_mcp_build_info", "Always 1; what runs here.", ("version", "mcp_versions"))
        build.labels(package_version(), ",".join(SERVED_VERSIONS)).set(1)

    def _open_cluster_metrics(self) -> None:
        self._relays = _by_label(
            self._counter("trio_mcp_relays_total", "Requests relayed to another node.", ("outcome",))
        )
        self._moves = self._counter("trio_mcp_moves_total", "Connections that came from another worker of this node.")
        self._restores = self._counter("trio_mcp_restores_total", "Sessions taken over from a node.", ("outcome",))
        self._hops = self._counter("trio_mcp_hops_refused_total", "Hop headers that did not verify.")
        self._directory = self._histogram(
            "trio_mcp_directory_duration_seconds", "How long Redis took, thread hop and all.", (), DIRECTORY_BUCKETS
        )
        self._directory_errors = self._counter("trio_mcp_directory_errors_total", "Commands Redis failed.", ("kind",))
        self._owed = self._gauge("trio_mcp_owed_writes", "Ends of sessions not yet written to Redis.")
        self._forgotten = self._counter(
            "trio_mcp_owed_writes_forgotten_total", "Those given up; their records expire by TTL."
        )
        self._bus_errors = self._counter(
            "trio_mcp_bus_errors_total", "Changes that could not be sent to peers, or not be read."
        )

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float] = BUCKETS) -> Histogram:
        histogram = Histogram(name, text, labels, buckets)
        self.registry.register(histogram)
        return histogram

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def operation(self, method: str, *, tool: str | None, version: str, error: str | None, seconds: float) -> None:
        """Count an answered request; `tool` only when it is registered, `error` is the convention's `error.type`."""
        key = (method, tool, version, error)
        observe = self._operations.get(key)
        if observe is None:
            observe = self._new_operation(key)
        observe(seconds)

    def _new_operation(self, key: tuple[str, str | None, str, str | None]) -> Callable[[float], None]:
        method, tool, version, error = key
        if len(self._operations) >= MAX_OPERATIONS:
            return self._operation.labels("other", "", error or "", self._transport, "").observe
        child = self._operation.labels(method, tool or "", error or "", self._transport, version)
        return self._operations.setdefault(key, child.observe)

    def session_opened(self, version: str) -> None:
        self._sessions.inc()
        self._opened(version).inc()

    def session_closed(self, reason: str, version: str, seconds: float, *, failed: bool) -> None:
        """Count a closed session; with `failed`, `reason` becomes its `error_type` as well."""
        self._sessions.dec()
        self._closed.labels(reason).inc()
        self._session.labels(reason if failed else "", self._transport, version).observe(seconds)

    def stream_opened(self, kind: StreamKind) -> None:
        self._streams.labels(kind).inc()

    def stream_closed(self, kind: StreamKind) -> None:
        self._streams.labels(kind).dec()

    def stream_resumed(self) -> None:
        self._resumes.inc()

    def count_requests_with(self, requests_active: Callable[[], float]) -> None:
        """Call `requests_active` at each scrape, which saves two counters in every request."""
        self._requests.set_function(requests_active)

    def count_kept_with(self, used: Callable[[], float], *, limit: float) -> None:
        """Call `used` at each scrape; both are in bytes."""
        self._kept.set_function(used)
        self._kept_limit.set(limit)

    def relieved(self, what: str) -> None:
        """One of replay_evicted, call_waited, body_waited, peer_cut, session_ended, answer_refused."""
        self._relief.labels(what).inc()

    def misroute(self, reason: str, outcome: str) -> None:
        self._misroutes.labels(reason, outcome).inc()

    def refused(self, status: int, reason: str) -> None:
        self._refused.labels(str(status), reason).inc()

    def set_loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def loop_was_blocked(self) -> None:
        self._blocked.inc()

    def set_draining(self, draining: bool) -> None:
        self._draining.set(draining)

    def count_threads_with(self, threads_in_use: Callable[[], float]) -> None:
        """Call `threads_in_use` at each scrape, from any thread."""
        self._threads.set_function(threads_in_use)

    def relayed(self, outcome: str) -> None:
        self._relays(outcome).inc()

    def restored(self, outcome: str) -> None:
        self._restores.labels(outcome).inc()

    def hop_refused(self) -> None:
        self._hops.inc()

    @contextmanager
    def directory_timed(self) -> Iterator[None]:
        """Time one round trip to Redis, whether it succeeds or not."""
        began = perf_counter()
        try:
            yield
        finally:
            self._directory.labels().observe(perf_counter() - began)

    def directory_failed(self, kind: Literal["down", "refused"]) -> None:
        self._directory_errors.labels(kind).inc()

    def directory_up_with(self, up: Callable[[], float]) -> None:
        """Call `up` at each scrape; a node without Redis has no such gauge."""
        self._gauge(
            "trio_mcp_directory_up", "1 while Redis does what it is asked for, 0 while it is away or refuses."
        ).set_function(up)

    def count_owed_with(self, owed: Callable[[], float]) -> None:
        """Call `owed` at each scrape."""
        self._owed.set_function(owed)

    def owed_forgotten(self) -> None:
        self._forgotten.inc()

    def bus_failed(self) -> None:
        self._bus_errors.inc()

    def moved(self) -> None:
        """Count a connection that was sent to another worker, whether that takes it or not."""
        self._moves.inc()

    def set_workers(self, ready: int) -> None:
        """Note how many workers of this node are ready."""
        self._workers.set(ready)

    def worker_died(self) -> None:
        """Count a worker that ended without being told to."""
        self._worker_deaths.inc()

    def render(self) -> tuple[bytes, str]:
        """The page for a scrape, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def _by_label(counter: Counter) -> Callable[[str], Counter]:
    """`counter.labels` for the few values of one label: a search in prometheus_client costs 2 microseconds, and a lock."""
    return cache(counter.labels)


class _Series:
    """One set of label values of a histogram."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def observe(self, value: float) -> None:
        """Count `value` (seconds) in its bucket."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram(Collector):
    """As prometheus_client's, which takes locks, and twice as fast.

    Only the event loop's thread observes values; a scrape in another thread reads between two of its steps.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = bounds
        self._series: dict[tuple[str, ...], _Series] = {}

    def labels(self, *values: str) -> _Series:
        """The series of these label values."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = _Series(self._bounds)
        return found

    def collect(self) -> Iterable[Metric]:
        """The metric, as the registry asks for it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        for values, series in list(self._series.items()):
            counts, total = list(series.counts), series.total
            cumulative = [sum(counts[: end + 1]) for end in range(len(counts))]
            family.add_metric(values, list(zip(bounds, map(float, cumulative), strict=True)), total)
        yield family


class _LogLines(Collector):
    """The dropped log lines, which are counted for the process."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "trio_mcp_log_lines_dropped",
            "Log lines dropped because nothing read stderr in time.",
            value=dropped_lines(),
        )
