"""The benchmarks' arithmetic and what they compare; their figures are for `make bench`."""

import inspect
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import tables
from benchmarks.authorization import ERAS, KNOWN, NEW, NONE, Tokens
from benchmarks.authorization import report as authorization_report
from benchmarks.cut_answers import SHIPPED, VARIANTS, Variant
from benchmarks.servers import OURS as COMMAND
from benchmarks.servers import SERVERS
from benchmarks.task_costs import COMMAND as TASKS_APP
from benchmarks.task_costs import EXPIRED, FOREIGN, UNKNOWN, sample
from benchmarks.task_costs import SETTINGS as TASK_SETTINGS
from benchmarks.task_costs import page as costs_page
from benchmarks.websocket import ENVIRONMENT, calls_per_second, open_connections, over_http, over_websocket
from tools.served import served
from trio_mcp.auth.token_cache import CACHED_TOKENS
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


@pytest.mark.requirement("auth-80")
def test_the_cost_of_tokens_is_compared_within_each_round() -> None:
    rounds = [(1000.0, 0.001), (500.0, 0.002)]
    dearer = [(500.0, 0.002), (250.0, 0.004)]
    samples = {(name, era): rounds if name == NONE else dearer for name in (NONE, KNOWN, NEW) for era in ERAS}
    shares = last_row(authorization_report(samples))[5:]
    assert shares == ["0.50", "0.50", "at least 0.75"]


def test_new_tokens_are_more_than_a_server_remembers(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, count=20)
    new = tokens.new.read_text().split()
    assert len(set(new)) == 20
    assert tokens.known.read_text().split() == [tokens.first]
    assert inspect.signature(Tokens).parameters["count"].default > CACHED_TOKENS


def test_cut_answers_are_counted_with_the_traefik_file_as_shipped_and_without_its_reading_of_requests() -> None:
    node = "http://127.0.0.1:1"
    assert SHIPPED in VARIANTS
    assert SHIPPED.routes(node) == traefik_dynamic([node])
    without, shipped = (yaml.safe_load(text) for text in (Variant(False, 10).routes(node), SHIPPED.routes(node)))
    for part in ("status", "retryNonIdempotentMethod", "maxRequestBodyBytes"):
        del shipped["http"]["middlewares"]["mcp-retry"]["retry"][part]
    assert without == shipped


@pytest.mark.requirement("ws-40")
@pytest.mark.sockets
@pytest.mark.processes
def test_the_load_over_websocket_is_answered_as_that_over_http_and_open_connections_are_watched() -> None:
    with served(COMMAND, ENVIRONMENT) as running:
        for dial in (over_http, over_websocket):
            for modern in (False, True):
                assert calls_per_second(running, dial, modern, 0) > 0
        shaken, opened, busy = open_connections(running, 20, 1)
    assert 0 <= shaken <= opened < 1024
    assert busy < 100


@pytest.mark.requirement("tasks-10", "tasks-38")
@pytest.mark.sockets
@pytest.mark.processes
def test_the_figures_of_tasks_are_taken_from_right_answers() -> None:
    """Each figure but the times is an answer that was checked: 429 for the excess, the same -32602 for ids of three kinds."""
    with served(TASKS_APP, TASK_SETTINGS) as running:
        figures = sample(running, 0.5, 20)
    assert {UNKNOWN, FOREIGN, EXPIRED} < {*figures}
    assert costs_page(figures, "60 of 60").count("\n") == len(figures) + 3
