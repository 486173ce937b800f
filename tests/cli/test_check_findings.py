"""What `trio-mcp check` concludes from the answers it got."""

from __future__ import annotations

import pytest

from trio_mcp.cli.check.cookies import Cookie, Jar
from trio_mcp.cli.check.evidence import Asked, Evidence, Probe
from trio_mcp.cli.check.findings import Finding, Level, findings
from trio_mcp.protocol.errors import INTERNAL_ERROR, METHOD_NOT_FOUND
from trio_mcp.sessions.close_reason import CloseReason

RIGHT = "_mcp_backend=0123456789abcdef; Path=/mcp; HttpOnly; Secure; SameSite=Strict"


def seen(*asked: Asked, url: str = "https://a/mcp", cookies: tuple[str, ...] = ()) -> Evidence:
    return Evidence(url, list(asked), [Cookie.parse(each) for each in cookies])


def asked(status: int = 200, *, what: str = "ping", node: str = "node1", reason: str = "", code: int = 0) -> Asked:
    return Asked(kind="without cookies", what=what, status=status, node=node, reason=reason, code=code)


def told(evidence: Evidence, level: Level = Level.CHANGE) -> list[Finding]:
    return [each for each in findings(evidence) if each.level is level]


@pytest.mark.parametrize(
    ("status", "reason", "meaning"),
    [
        (404, "unknown", "did not find the one that has it"),
        (404, "node_gone", "ended while the check ran"),
        (404, "", "the balancer did"),
        (404, "a word of a later release", "does not know"),
        (503, "directory_unavailable", "Redis does not answer the nodes"),
        (503, "unreachable", "one node cannot reach another"),
        (503, "", "there is no node for it"),
        (421, "", "does not serve this Host"),
        (502, "", "could not reach the node"),
        (0, "", "no answer"),
        (418, "", "the server failed"),
    ],
)
def test_every_miss_is_explained_and_has_a_next_step(status: int, reason: str, meaning: str) -> None:
    (finding,) = told(seen(asked(status, reason=reason), asked()))
    assert meaning in finding.text
    assert "1 of 2 requests" in finding.text
    assert finding.step


@pytest.mark.parametrize("reason", CloseReason)
def test_no_reason_that_a_node_gives_is_taken_for_a_404_of_the_balancer(reason: CloseReason) -> None:
    (finding,) = told(seen(asked(404, reason=reason), asked()))
    assert "balancer did" not in finding.text
    assert finding.step


def test_a_call_that_died_with_its_node_is_a_miss_though_http_is_well() -> None:
    assert told(seen(asked(200, code=INTERNAL_ERROR)))


def test_a_server_without_tools_has_answered_well() -> None:
    assert not told(seen(asked(404, code=METHOD_NOT_FOUND)))


def test_misses_of_one_kind_are_one_finding() -> None:
    (finding,) = told(seen(*[asked(404, reason="unknown", what=what) for what in ("ping", "tools/list", "ping")]))
    assert "3 of 3 requests missed: 404 unknown (ping, tools/list)" in finding.text


def test_session_ids_without_a_node_are_told() -> None:
    (finding,) = told(seen(asked(what="initialize", node="")))
    assert "their ids name no node" in finding.text


def test_a_single_node_is_a_note() -> None:
    (finding,) = told(seen(asked(what="initialize")), Level.NOTE)
    assert "all sessions were opened on node1" in finding.text


@pytest.mark.parametrize(("expected", "missing"), [(None, False), (1, False), (2, False), (3, True)])
def test_nodes_that_did_not_take_part_are_missed_by_who_says_how_many_there_are(
    expected: int | None, missing: bool
) -> None:
    evidence = seen(*(asked(what="initialize", node=node) for node in ("node1", "node2")))
    said = [each.text for each in findings(evidence, expected) if each.level is Level.CHANGE]
    assert said == (["2 of 3 nodes took part: node1, node2"] if missing else [])


def test_two_processes_under_one_name_are_a_note() -> None:
    evidence = seen(asked(what="initialize"))
    evidence.probes += [Probe("/livez", 200, boot, sets_cookie=False) for boot in ("b1", "b2")]
    assert any("2 processes answer /livez" in each.text for each in told(evidence, Level.NOTE))


@pytest.mark.parametrize(
    ("url", "cookie", "words"),
    [
        ("https://a/mcp", RIGHT, []),
        ("https://a/mcp/", RIGHT, []),
        ("https://a/tools/mcp", RIGHT, ["clients never send it to /tools/mcp"]),
        ("https://a/mcp", RIGHT.replace("/mcp", "/mc"), ["clients never send it to /mcp"]),
        ("https://a/mcp", RIGHT.replace("Path=/mcp; ", ""), ["pins what is not MCP"]),
        ("http://a/mcp", RIGHT, ["over plain http clients keep a Secure cookie, and never send it"]),
        ("http://a/mcp", RIGHT.replace("Secure; ", ""), []),
        ("https://a/mcp", f"{RIGHT}; max-age=5; Expires=Thu, 01 Jan 2026 00:00:00 GMT", ["expires under a session"]),
    ],
)
def test_a_cookie_is_judged_by_where_it_would_go(url: str, cookie: str, words: list[str]) -> None:
    found = told(seen(url=url, cookies=(cookie,)))
    assert len(found) == len(words)
    assert all(word in finding.text for word, finding in zip(words, found, strict=True))


def test_a_cookie_is_shown_as_it_came_but_for_its_value() -> None:
    shown = Cookie.parse(f"{RIGHT}; Max-Age=60").shown
    assert shown == "_mcp_backend=<16 characters>; Path=/mcp; HttpOnly; Secure; SameSite=Strict; Max-Age=60"


def test_a_jar_sends_what_real_clients_send() -> None:
    plain, safe = Jar("/mcp", secure=False), Jar("/mcp", secure=True)
    for jar in (plain, safe):
        for cookie in ("a=1; Path=/", "b=2; Path=/mcp; Secure", "c=3; Path=/other", "d=4", "a=5; Path=/mcp"):
            jar.keep(Cookie.parse(cookie))
    assert sorted(plain.header.split("; ")) == ["a=5", "d=4"]
    assert sorted(safe.header.split("; ")) == ["a=5", "b=2", "d=4"]
    safe.keep(Cookie.parse("a=; Max-Age=0"))
    assert "a=" not in safe.header
