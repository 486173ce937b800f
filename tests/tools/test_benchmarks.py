"""The benchmarks' arithmetic and what they compare; their figures are for `make bench`."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import tables
from benchmarks.authorization import ERAS, KNOWN, NEW, NONE, Tokens
from benchmarks.authorization import report as authorization_report
from benchmarks.bare_loop import MEASURED, MEMORY, OPENINGS, called, openings
from benchmarks.bare_loop import report as bare_loop_report
from benchmarks.cut_answers import SHIPPED, VARIANTS, Variant
from benchmarks.figures import Options
from benchmarks.http_client import LEGACY, MODERN, Connection, initialize
from benchmarks.servers import BARE_LOOP, BASELINE, PYTHON_SDK, SERVERS, Server, command
from benchmarks.servers import OURS as COMMAND
from benchmarks.side_by_side import measure, medians
from benchmarks.task_costs import COMMAND as TASKS_APP
from benchmarks.task_costs import EXPIRED, FOREIGN, UNKNOWN, sample
from benchmarks.task_costs import SETTINGS as TASK_SETTINGS
from benchmarks.task_costs import page as costs_page
from benchmarks.websocket import ENVIRONMENT, calls_per_second, open_connections, over_http, over_websocket
from tools.node import MissingNode
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


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert medians({OURS: {"legacy calls/s": [900.0, 100.0, 300.0]}}) == {OURS: {"legacy calls/s": 300.0}}


def test_the_share_of_the_bare_loop_is_taken_within_each_round() -> None:
    """The medians alone, 1,000 and 2,000, would say 0.50."""
    text = bare_loop_report(
        {
            BASELINE: {"legacy calls/s": [1000.0, 300.0, 3000.0]},
            BARE_LOOP: {"legacy calls/s": [1250.0, 2000.0, 4000.0]},
            PYTHON_SDK: {},
        }
    )
    shares = ["0.75 (0.15 to 0.80)", "-", "at least 6 times mcp 2.3"]
    assert last_row(text) == ["legacy calls/s", "1,000", "2,000", "-", *shares]


def test_a_peer_that_is_not_installed_is_refused_before_any_server_is_started_and_ours_need_none() -> None:
    absent = Server("a peer", ("nowhere/python", "-m", "uvicorn"))
    with pytest.raises(MissingNode, match=r"a peer is not installed.*make \.cache/\.bench"):
        measure([BASELINE, absent], {"legacy": lambda *_: pytest.fail("a server was started")}, 1, Options(1, 1, 0, 0))
    for ours in (BASELINE, BARE_LOOP):
        assert command(ours) == ours.command


def test_all_servers_beside_the_bare_loop_are_asked_for_all_figures() -> None:
    for server in (BASELINE, BARE_LOOP, PYTHON_SDK):
        assert {*MEASURED} <= {*server.figures}


@pytest.mark.sockets
@pytest.mark.processes
def test_the_bare_loop_gives_the_answers_of_the_server_beside_it() -> None:
    ours, bare = (_answers(server) for server in (BASELINE, BARE_LOOP))
    del ours[1]["_meta"]  # who answers, which a server should say and need not
    assert ours == bare


def _answers(server: Server) -> list[dict[str, Any]]:
    """What a call of each version is told."""
    call: dict[str, Any] = {"name": "add", "arguments": {"a": 2, "b": 3}}
    client = {"name": "bench", "version": "1"}
    named = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": client}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in named.items()}
    with served(command(server), server.environment) as running:
        connection = Connection(running.port)
        session = {"Mcp-Session-Id": connection.post(initialize()).session, "MCP-Protocol-Version": LEGACY}
        connection.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        legacy = _result(connection, call, session)
        alone = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "add"}
        modern = _result(connection, {**call, "_meta": meta}, alone)
        connection.close()
    return [legacy, modern]


def _result(connection: Connection, params: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    answer = connection.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers)
    found: dict[str, Any] = json.loads(answer.body)["result"]
    return found


@pytest.mark.sockets
@pytest.mark.processes
def test_sessions_of_the_bare_loop_are_opened_and_called_as_those_of_any_server() -> None:
    options = Options(1, 50, 0, 0)
    with served(command(BARE_LOOP)) as running:
        figures = {**openings(running, options), **called(running, options)}
    assert {OPENINGS, MEMORY} < {*figures}
    assert figures[OPENINGS] > 0
