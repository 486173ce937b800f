"""One page of metrics for several processes."""

from __future__ import annotations

import random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trio_mcp.observability.metrics import Metrics
from trio_mcp.serving.workers.metrics_sum import Page, counters, parsed, summed


def page(sessions: int, lag: float, calls: int) -> Page:
    return parsed(text_of(sessions, lag, calls))


def text_of(sessions: int, lag: float, calls: int) -> bytes:
    metrics = Metrics()
    for _ in range(sessions):
        metrics.session_opened("2025-11-25")
    metrics.set_loop_lag(lag)
    for _ in range(calls):
        metrics.operation("tools/call", tool="add", version="2025-11-25", error=None, seconds=0.03)
    return metrics.render()[0]


def samples(text: bytes) -> dict[str, float]:
    """By name, and by the upper bound for buckets; other labels have one value here."""
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_counts_is_added_up_and_what_compares_is_compared() -> None:
    found = samples(summed([page(2, 0.5, 3), page(5, 0.1, 4)]))
    assert found["trio_mcp_sessions_active"] == 7
    assert found["trio_mcp_sessions_opened_total"] == 7
    assert found["trio_mcp_loop_lag_seconds"] == 0.5
    assert found["trio_mcp_build_info"] == 1
    assert found["mcp_server_operation_duration_seconds_bucket0.05"] == 7
    assert found["mcp_server_operation_duration_seconds_bucket0.02"] == 0
    assert found["mcp_server_operation_duration_seconds_count"] == 7


def test_the_page_has_the_same_metrics_as_one_process() -> None:
    one, two = text_of(1, 0.1, 1), summed([page(1, 0.1, 1), page(1, 0.2, 1)])
    assert samples(two).keys() == samples(one).keys()
    assert [line for line in two.splitlines() if line.startswith(b"# TYPE")] == [
        line for line in one.splitlines() if line.startswith(b"# TYPE")
    ]


def test_what_a_worker_has_counted_stays_when_it_has_ended_and_what_it_held_does_not() -> None:
    ended = counters([page(2, 0.5, 3), page(1, 0.1, 1)])
    found = samples(summed([page(4, 0.1, 1)], ended))
    assert found["trio_mcp_sessions_opened_total"] == 7
    assert found["mcp_server_operation_duration_seconds_count"] == 5
    assert found["trio_mcp_sessions_active"] == 4
    assert found["trio_mcp_loop_lag_seconds"] == 0.1


@pytest.mark.parametrize(
    "page",
    [
        b"\xff\xfe",
        b"trio_mcp_sessions_active",
        b"trio_mcp_sessions_active many\n",
        b"# TYPE\n# HELP\n{} 1\n",
        b'a{b="c} 1\n',
        b"a{b} 1\n",
        b"# TYPE a nonsense\na 1\n",
    ],
)
def test_what_is_no_page_is_a_value_error_whatever_the_parser_makes_of_it(page: bytes) -> None:
    try:
        parsed(page)
    except ValueError:
        return
    # The parser takes some of it; what it takes can be added up.
    assert summed([parsed(page)])


def test_pages_with_a_few_wrong_bytes_are_pages_or_value_errors() -> None:
    chance, whole, refused = random.Random(11), text_of(1, 0.1, 1), 0
    for _ in range(300):
        page = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            page[chance.randrange(len(page))] = chance.randrange(256)
        try:
            found = parsed(bytes(page))
        except ValueError:
            refused += 1
        else:
            assert summed([found, parsed(whole)], counters([found]))
    assert refused
