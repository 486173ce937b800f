"""`trio-mcp check` through a real Traefik, configured well and badly, to real nodes with a cluster and without."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from tests.rig.cluster import Cluster
from tests.rig.nodes import SERVER
from tests.rig.routing import header_routes, patient, plain, shipped
from tests.rig.shared import shared_cluster
from tests.rig.traefik import traefik
from tests.rig.waiting import until
from tests.serving.process import served
from trio_mcp.cli import execute

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

Printed = pytest.CaptureFixture[str]

CONNECTIONS = 4


def bent(change: Callable[[dict[str, Any]], None]) -> Callable[[Mapping[str, str]], str]:
    """The shipped configuration, changed."""

    def variant(nodes: Mapping[str, str]) -> str:
        http = yaml.safe_load(shipped(nodes))["http"]
        change(http)
        text: str = yaml.safe_dump({"http": http})
        return text

    return variant


def wrong_cookie(http: dict[str, Any]) -> None:
    for name in ("mcp", "mcp-new"):
        cookie = http["services"][name]["loadBalancer"]["sticky"]["cookie"]
        cookie |= {"path": "/", "maxAge": 60, "secure": False, "httpOnly": False}
        cookie.pop("sameSite", None)  # both services may share one mapping


def ignored_cookie(http: dict[str, Any]) -> None:
    del http["services"]["mcp"]["loadBalancer"]["sticky"]


def held_streams(http: dict[str, Any]) -> None:
    http["middlewares"]["hold"] = {"buffering": {"maxRequestBodyBytes": 1_000_000}}
    for name in ("mcp", "mcp-new"):
        http["routers"][name]["middlewares"] = ["hold"]


def cookie_for_all(http: dict[str, Any]) -> None:
    http["routers"]["app"]["service"] = "mcp"


VARIANTS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "shipped": shipped,
    "plain": plain,
    "header routes": header_routes,
    **{change.__name__: bent(change) for change in (wrong_cookie, ignored_cookie, held_streams, cookie_for_all)},
}


@pytest.fixture(scope="module")
def found() -> Iterator[Cluster]:
    with shared_cluster(nodes=3, routing=list(map(patient, VARIANTS.values()))) as running:
        yield running


def check(capsys: Printed, url: str, *words: str) -> tuple[int, dict[str, Any]]:
    code = execute(["check", url, "--insecure", "--json", "--connections", str(CONNECTIONS), *words])
    return code, json.loads(capsys.readouterr().out)


def url_of(found: Cluster, variant: str) -> str:
    return found.balancers[list(VARIANTS).index(variant)].mcp_url


def texts(told: dict[str, Any], level: str) -> list[str]:
    return [each["text"] for each in told["findings"] if each["level"] == level]


def relayed(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in told["requests"] if each["kind"] == kind and each["relay"]]


def test_what_we_ship_is_green(found: Cluster, capsys: Printed) -> None:
    code, told = check(capsys, url_of(found, "shipped"))
    assert (code, told["green"]) == (0, True)
    assert (texts(told, "change"), texts(told, "note")) == ([], [])
    assert set(told["nodes"]) == {"node1", "node2", "node3"}
    assert told["cookies"] == ["_mcp_backend=<16 characters>; Path=/mcp; HttpOnly; Secure; SameSite=Strict"]
    assert relayed(told, "without cookies")
    assert not relayed(told, "with cookies")
    assert any("first bytes came after" in text for text in texts(told, "ok"))
    assert len({probe["boot"] for probe in told["probes"] if probe["path"] == "/livez"}) == 3


def test_what_was_relayed_is_what_traefik_saw(found: Cluster, capsys: Printed) -> None:
    balancer = found.balancers[list(VARIANTS).index("plain")]
    before = len([each for each in balancer.requests() if each.relay])
    code, told = check(capsys, balancer.mcp_url)
    relays = sorted(each["relay"] for each in told["requests"] if each["relay"])
    assert len(relays) > 0

    async def seen() -> bool:
        """Traefik writes a line when a response has ended, which its client knows first."""
        return sorted([each.relay for each in balancer.requests() if each.relay][before:]) == relays

    trio.run(until, seen, "Traefik has seen the same")
    assert code == 0
    assert texts(told, "note") == ["no cookie came: every client takes the extra hop"]


def test_nothing_is_left_behind(found: Cluster, capsys: Printed) -> None:
    check(capsys, url_of(found, "shipped"))

    async def none_is_left() -> bool:
        return not any([await node.sessions() for node in found.nodes])

    trio.run(until, none_is_left, "all sessions have ended")


def test_routes_by_header_need_no_relay(found: Cluster, capsys: Printed) -> None:
    code, told = check(capsys, url_of(found, "header routes"))
    assert code == 0
    assert not relayed(told, "without cookies")


def test_a_wrong_cookie_is_explained_attribute_by_attribute(found: Cluster, capsys: Printed) -> None:
    code, told = check(capsys, url_of(found, "wrong_cookie"))
    assert code == 1
    changes, notes = "\n".join(texts(told, "change")), "\n".join(texts(told, "note"))
    for words in ("its path is /", "sent over plain http as well", "expires under a session in use"):
        assert words in changes
    for words in ("scripts can read it", "other sites' pages send it"):
        assert words in notes
    assert all(each["step"] for each in told["findings"] if each["level"] != "ok")


def test_a_cookie_that_the_balancer_does_not_go_by_is_found(found: Cluster, capsys: Printed) -> None:
    code, told = check(capsys, url_of(found, "ignored_cookie"))
    assert code == 1
    assert any("the balancer does not go by it" in text for text in texts(told, "change"))


def test_streams_that_are_held_back_are_found(found: Cluster, capsys: Printed) -> None:
    code, told = check(capsys, url_of(found, "held_streams"))
    assert code == 1
    assert texts(told, "change") == ["2 of 2 streams had no byte within 3 s: something holds them back"]


def test_a_cookie_on_all_traffic_is_found(found: Cluster, capsys: Printed) -> None:
    code, told = check(capsys, url_of(found, "cookie_for_all"))
    assert code == 1
    assert any("all traffic is pinned to nodes" in text for text in texts(told, "change"))


def test_a_certificate_nobody_vouches_for_is_told_with_the_next_step(found: Cluster, capsys: Printed) -> None:
    assert execute(["check", found.url]) == 1
    assert "take it with --insecure" in capsys.readouterr().err


def test_people_get_a_table_and_a_verdict(found: Cluster, capsys: Printed) -> None:
    assert execute(["check", url_of(found, "wrong_cookie"), "--insecure", "--connections", "1"]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "clients requests direct relayed missed" in lines
    assert "with cookies 6 6 0 0" in lines
    assert "→ Take Max-Age off (Traefik: no maxAge)" in lines
    assert lines[-1] == "not green: something must change"


async def test_nodes_that_know_nothing_of_each_other_are_found(tmp_path: Path, capsys: Printed) -> None:
    async with served(target=SERVER) as one, served(target=SERVER) as other:
        nodes = {"one": f"http://127.0.0.1:{one.port}", "other": f"http://127.0.0.1:{other.port}"}
        async with traefik(tmp_path / "traefik", plain(nodes)) as balancer:
            code, told = await trio.to_thread.run_sync(check, capsys, balancer.mcp_url)
    assert code == 1
    (lost,) = [each for each in told["findings"] if "without cookies" in each["text"] and each["level"] == "change"]
    assert "404 unknown (" in lost["text"]
    assert "the same --redis-url" in lost["step"]
    assert lost["said"].startswith("Session not found: it is unknown here")


async def test_a_balancer_without_a_node_is_found(tmp_path: Path, capsys: Printed) -> None:
    async with traefik(tmp_path / "traefik", plain({"gone": "http://127.0.0.1:1"})) as balancer:
        code, told = await trio.to_thread.run_sync(check, capsys, balancer.mcp_url)
    assert code == 1
    assert any("502 (initialize): the balancer could not reach the node" in text for text in texts(told, "change"))


def test_nobody_there_is_told_at_once(capsys: Printed) -> None:
    assert execute(["check", "http://127.0.0.1:1/mcp"]) == 1
    told = "trio-mcp: cannot reach http://127.0.0.1:1/mcp: connection refused. Does the server run, and is this its address?\n"
    assert capsys.readouterr().err == told
