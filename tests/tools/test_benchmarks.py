"""The benchmarks' arithmetic and what they compare; their figures are for `make bench`."""

import yaml

from benchmarks.__main__ import tables
from benchmarks.cut_answers import SHIPPED, VARIANTS, Variant
from benchmarks.servers import SERVERS
from trio_mcp.cli.export import traefik_dynamic

OURS, PEER = SERVERS[0], SERVERS[2]


def last_row(text: str) -> list[str]:
    return [cell.strip() for cell in text.strip().splitlines()[-1].strip("|").split("|")]


def test_more_calls_and_less_memory_are_both_better() -> None:
    text = tables(
        {
            OURS: {"legacy calls/s": 8000.0, "KB per idle session": 10.0, "% CPU for open streams": 2.0},
            PEER: {"legacy calls/s": 2000.0, "KB per idle session": 35.0, "% CPU for open streams": 1.0},
        }
    )
    assert last_row(text) == ["mcp 2.3", "4.0", "3.5", "0.5"]


def test_a_figure_a_peer_does_not_have_is_no_ratio() -> None:
    text = tables({OURS: {"SSE calls/s": 900.0, "legacy calls/s": 8000.0}, PEER: {"legacy calls/s": 2000.0}})
    assert last_row(text) == ["mcp 2.3", "-", "4.0"]


def test_cut_answers_are_counted_with_the_traefik_file_as_shipped_and_without_its_reading_of_requests() -> None:
    node = "http://127.0.0.1:1"
    assert SHIPPED in VARIANTS
    assert SHIPPED.routes(node) == traefik_dynamic([node])
    without, shipped = (yaml.safe_load(text) for text in (Variant(False, 10).routes(node), SHIPPED.routes(node)))
    for part in ("status", "retryNonIdempotentMethod", "maxRequestBodyBytes"):
        del shipped["http"]["middlewares"]["mcp-retry"]["retry"][part]
    assert without == shipped
