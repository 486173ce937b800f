"""What must never stand in Traefik's configuration: each of these broke MCP behind a real Traefik."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

import trio_mcp
from tests.deploy.kustomize import build
from tests.deploy.shipped import DEPLOY, K8S, OVERLAYS, container, one, parsed, routing, seconds, walked
from trio_mcp.cli.export import traefik_dynamic
from trio_mcp.cli.export.files import urls_of

MCP = "Path(`/mcp`) || PathPrefix(`/mcp/`)"
METADATA = "PathPrefix(`/.well-known/oauth-protected-resource`)"
NEVER_ANSWERED = "599"
NOT_PUBLISHED = {"internal", "traefik"}
"""Entry points of Traefik's own: in our file, in its chart."""
COOKIE = {"name": "_mcp_backend", "path": "/mcp", "httpOnly": True, "secure": True, "sameSite": "strict"}


def _everything() -> Iterator[tuple[str, Any]]:
    """Every configuration of Traefik that we ship or make, with what it is called."""
    for path in sorted((DEPLOY / "traefik").rglob("*.yaml")):
        yield str(path.relative_to(DEPLOY)), yaml.safe_load(path.read_text())
    for secure in (True, False):
        text = traefik_dynamic(urls_of(3), header_routes=True, secure=secure)
        yield f"header routes, secure={secure}", yaml.safe_load(text)
    for folder in OVERLAYS:
        yield folder, [each for each in build(K8S / folder) if each["apiVersion"].startswith("traefik.io/")]


EVERYTHING = [pytest.param(tree, id=name) for name, tree in _everything()]


def _places(tree: Any, key: str) -> list[Any]:
    return [value for path, value in walked(tree) if path and path[-1] == key]


def test_there_is_something_to_look_at() -> None:
    assert len(EVERYTHING) == 4 + 2 + 3


@pytest.mark.parametrize("tree", EVERYTHING)
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("passiveHealthCheck", "one 500 of a tool moves all sessions; in Kubernetes the balancer can hang for good"),
        ("buffering", "holds a stream back until it ends"),
        ("fastProxy", "ends a stream that broke as if it were complete"),
        ("maxAge", "never refreshed: expires under a session in use"),
        ("errors", "failover by status: a POST that a dying node ran is run again by another"),
        ("responseHeaderTimeout", "504 for a slow tool"),
        ("weight", "0 is no drain: it removes the server with its sessions"),
        ("nativeLB", "hides the pods from the cookie"),
        ("docker", "Traefik needs no Docker socket"),
        ("insecure", "an open API"),
        ("insecureSkipVerify", "not needed: nodes speak plain http"),
    ],
)
def test_the_trap_is_not_set(tree: Any, key: str, why: str) -> None:
    assert _places(tree, key) == [], why


@pytest.mark.parametrize("tree", [case for case in EVERYTHING if _places(case.values[0], "retry")])
def test_retry_reads_the_request_first_and_repeats_only_by_a_status_that_nobody_answers(tree: Any) -> None:
    assert _places(tree, "status") == [[NEVER_ANSWERED]], "another status would run a POST again that a node has run"
    (retry,) = _places(tree, "retry")
    assert retry == {
        "attempts": 15,
        "initialInterval": "100ms",
        "status": [NEVER_ANSWERED],
        "retryNonIdempotentMethod": True,
        "maxRequestBodyBytes": 65536,
    }


def test_every_configuration_with_routes_has_the_retry() -> None:
    assert len([case for case in EVERYTHING if _places(case.values[0], "retry")]) == 2 + 2 + 3


def test_no_node_answers_with_the_status_that_traefik_would_repeat() -> None:
    package = Path(trio_mcp.__file__).parent
    mentions = [path for path in package.rglob("*.py") if re.search(rf"\b{NEVER_ANSWERED}\b", path.read_text())]
    assert mentions == []
    assert int(NEVER_ANSWERED) not in {status.value for status in HTTPStatus}


@pytest.mark.parametrize("tree", EVERYTHING)
def test_no_timeout_ends_a_stream_for_its_age_or_its_quiet(tree: Any) -> None:
    assert all(seconds(value) == 0 for value in _places(tree, "writeTimeout"))
    for timeouts in _places(tree, "forwardingTimeouts"):
        assert set(timeouts) == {"dialTimeout", "idleConnTimeout"}


@pytest.mark.parametrize("tree", EVERYTHING)
def test_no_strategy_but_wrr_which_honours_the_cookie_and_shuns_the_dead(tree: Any) -> None:
    assert set(_places(tree, "strategy")) <= {"wrr"}


@pytest.mark.parametrize("tree", EVERYTHING)
def test_every_cookie_is_the_same_and_secure_exactly_where_the_entry_point_has_tls(tree: Any) -> None:
    entry_points = {name for names in _places(tree, "entryPoints") if isinstance(names, list) for name in names}
    entry_points -= NOT_PUBLISHED
    assert len(entry_points) <= 1
    for cookie in _places(tree, "cookie"):
        assert cookie == {**COOKIE, "secure": entry_points == {"websecure"}}


@pytest.mark.parametrize("tree", EVERYTHING)
def test_no_rule_takes_mcpfoo_for_mcp(tree: Any) -> None:
    for rule in [*_places(tree, "rule"), *_places(tree, "match")]:
        assert "PathPrefix(`/mcp`)" not in rule


@pytest.mark.parametrize("header_routes", [False, True])
def test_every_router_of_the_file_has_a_priority_and_the_order_is_the_one_meant(header_routes: bool) -> None:
    routers = routing(header_routes=header_routes)["routers"]
    ranked = sorted(routers, key=lambda name: -routers[name]["priority"])
    owners = ["mcp-node1", "mcp-node2", "mcp-node3"] if header_routes else []
    assert ranked == [*owners, "mcp-new", "mcp", "mcp-metadata", "mcp-unavailable", "app", "ping"]
    assert routers["mcp"]["rule"] == routers["mcp-unavailable"]["rule"] == MCP


@pytest.mark.parametrize("folder", OVERLAYS)
def test_every_route_in_kubernetes_has_a_priority_and_the_catch_all_is_between_mcp_and_the_rest(folder: str) -> None:
    mcp, rest, metadata = one("IngressRoute", "mcp", folder)["spec"]["routes"]
    (unavailable,) = one("IngressRoute", "mcp-unavailable", folder)["spec"]["routes"]
    assert mcp["priority"] > unavailable["priority"] > rest["priority"]
    assert mcp["match"] == unavailable["match"]
    assert mcp["match"].endswith(MCP) or mcp["match"].endswith(f"({MCP})")
    assert metadata["match"].endswith(METADATA)
    assert metadata["priority"] > rest["priority"]
    assert "sticky" not in metadata["services"][0]


def test_where_to_log_in_is_answered_by_every_node_that_is_alive_and_sets_no_cookie() -> None:
    http = routing()
    service = http["services"][http["routers"]["mcp-metadata"]["service"]]["loadBalancer"]
    assert http["routers"]["mcp-metadata"]["rule"] == METADATA
    assert service["healthCheck"]["path"] == "/livez"
    assert service["servers"] == http["services"]["mcp"]["loadBalancer"]["servers"]
    assert "sticky" not in service


def test_new_sessions_go_by_readiness_and_old_ones_by_life_with_one_cookie_over_the_same_nodes() -> None:
    services = routing()["services"]
    new, old = services["mcp-new"]["loadBalancer"], services["mcp"]["loadBalancer"]
    assert (new["healthCheck"]["path"], old["healthCheck"]["path"]) == ("/readyz", "/livez")
    assert new["sticky"] == old["sticky"]
    assert new["servers"] == old["servers"] == services["app"]["loadBalancer"]["servers"]
    assert "sticky" not in services["app"]["loadBalancer"]


def test_a_dead_node_is_found_within_a_second() -> None:
    services = routing(header_routes=True)["services"]
    checks = [value for path, value in walked(services) if path and path[-1] == "healthCheck"]
    assert len(checks) == 8
    for check in checks:
        assert seconds(check["timeout"]) < seconds(check["interval"]) <= 1


def test_what_stands_in_for_a_dead_owner_is_not_sticky_and_no_retry_stands_around_a_failover() -> None:
    http = routing(header_routes=True)
    owners = {name: service["failover"] for name, service in http["services"].items() if "failover" in service}
    assert len(owners) == 3
    for failover in owners.values():
        assert set(failover) == {"service", "fallback"}
        assert "healthCheck" in http["services"][failover["service"]]["loadBalancer"]
        assert "sticky" not in http["services"][failover["fallback"]]["loadBalancer"]
    for router in http["routers"].values():
        assert ("middlewares" in router) == (router["service"] not in {*owners, "mcp-nobody", "ping@internal"})


@pytest.mark.parametrize("folder", OVERLAYS)
def test_a_pod_that_drains_stays_ready_or_traefik_takes_its_clients_from_it_at_once(folder: str) -> None:
    node = container(folder)
    assert node["readinessProbe"]["httpGet"]["path"] == "/livez"
    assert node["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert node["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert "lifecycle" not in node


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_names_of_services_cannot_become_settings_of_a_node(folder: str) -> None:
    pod = one("Deployment", "mcp", folder)["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False


def test_session_ids_and_tokens_stay_out_of_the_access_log() -> None:
    for variant in ("traefik/traefik.yaml", "traefik/dev/traefik.yaml"):
        headers = parsed(variant)["accessLog"]["fields"]["headers"]
        assert headers["defaultMode"] == "drop"
        assert headers["names"]["Mcp-Session-Id"] == "redact"
        assert not {"Authorization", "Cookie", "Set-Cookie"} & set(headers["names"])
