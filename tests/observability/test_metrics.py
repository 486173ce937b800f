import pytest
from prometheus_client.parser import text_string_to_metric_families

from trio_mcp.observability import metrics
from trio_mcp.observability.metrics import Metrics


def value(page: Metrics, name: str, **labels: str) -> float | None:
    return page.registry.get_sample_value(name, labels)


OPERATION = {"gen_ai_tool_name": "add", "network_transport": "tcp", "mcp_protocol_version": "2025-11-25"}


def test_an_operation_is_counted_under_the_names_of_the_convention() -> None:
    page = Metrics()
    for error in (None, None, "tool_error"):
        page.operation("tools/call", tool="add", version="2025-11-25", error=error, seconds=0.015)
    name = "mcp_server_operation_duration_seconds"
    labels = {"mcp_method_name": "tools/call", **OPERATION}
    assert value(page, f"{name}_count", error_type="", **labels) == 2
    assert value(page, f"{name}_count", error_type="tool_error", **labels) == 1
    assert value(page, f"{name}_bucket", error_type="", le="0.01", **labels) == 0
    assert value(page, f"{name}_bucket", error_type="", le="0.02", **labels) == 2


def test_invented_methods_do_not_grow_the_page_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_OPERATIONS", 3)
    page = Metrics()
    for number in range(50):
        page.operation(f"made/up{number}", tool=None, version="2026-07-28", error="-32601", seconds=0)
    assert page.render()[0].count(b"mcp_server_operation_duration_seconds_count{") == 4


def test_sessions_are_counted_open_and_closed_by_reason() -> None:
    page = Metrics()
    page.session_opened("2025-11-25")
    page.session_opened("2025-06-18")
    page.session_closed("expired", "2025-11-25", 12.0, failed=False)
    page.session_closed("crashed", "2025-06-18", 1.0, failed=True)
    assert value(page, "trio_mcp_sessions_active") == 0
    assert value(page, "trio_mcp_sessions_opened_total", mcp_protocol_version="2025-11-25") == 1
    assert value(page, "trio_mcp_sessions_closed_total", reason="expired") == 1
    duration = "mcp_server_session_duration_seconds_sum"
    assert value(page, duration, error_type="", network_transport="tcp", mcp_protocol_version="2025-11-25") == 12
    assert value(page, duration, error_type="crashed", network_transport="tcp", mcp_protocol_version="2025-06-18") == 1


def test_gauges_go_up_and_come_back_down() -> None:
    page = Metrics()
    page.stream_opened("get")
    page.stream_opened("get")
    page.stream_closed("get")
    page.count_requests_with(lambda: 3)
    page.set_loop_lag(0.25)
    page.set_draining(True)
    page.count_threads_with(lambda: 7)
    assert value(page, "trio_mcp_streams_active", kind="get") == 1
    assert value(page, "trio_mcp_requests_active") == 3
    assert value(page, "trio_mcp_loop_lag_seconds") == 0.25
    assert value(page, "trio_mcp_draining") == 1
    assert value(page, "trio_mcp_threads_in_use") == 7


def test_the_page_is_prometheus_text_and_names_everything_dashboards_use() -> None:
    page = Metrics()
    page.misroute("node_gone", "404")
    page.stream_resumed()
    body, content_type = page.render()
    assert content_type.startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert names >= {
        "mcp_server_operation_duration_seconds",
        "mcp_server_session_duration_seconds",
        "trio_mcp_sessions_active",
        "trio_mcp_sessions_opened",
        "trio_mcp_sessions_closed",
        "trio_mcp_streams_active",
        "trio_mcp_requests_active",
        "trio_mcp_misroutes",
        "trio_mcp_stream_resumes",
        "trio_mcp_loop_lag_seconds",
        "trio_mcp_loop_blocked",
        "trio_mcp_threads_in_use",
        "trio_mcp_draining",
        "trio_mcp_build_info",
    }
    assert 'trio_mcp_misroutes_total{outcome="404",reason="node_gone"} 1.0' in body.decode()


def test_two_nodes_in_one_process_do_not_share_a_page() -> None:
    first, second = Metrics(), Metrics("pipe")
    first.session_opened("2025-11-25")
    assert value(second, "trio_mcp_sessions_active") == 0
