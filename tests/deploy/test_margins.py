"""Which number must exceed which, from the defaults the code has."""

import re

import pytest

from tests.deploy.shipped import OVERLAYS, ROOT, container, one, parsed, routing, seconds
from trio_mcp.defaults import CLUSTER_DRAIN_DELAY
from trio_mcp.serving.settings import Settings
from trio_mcp.sessions.stop_times import (
    BALANCER_SECONDS,
    CANCELLED_CALLS_SECONDS,
    CLUSTER_EXIT_SECONDS,
    LAST_CALLS_SECONDS,
    MARGIN_SECONDS,
    StopTimes,
)

DEFAULT = {name: info.default for name, info in Settings.model_fields.items()}
LAST_WORDS = LAST_CALLS_SECONDS + CANCELLED_CALLS_SECONDS + CLUSTER_EXIT_SECONDS
DRAIN = StopTimes(CLUSTER_DRAIN_DELAY, DEFAULT["drain_timeout"], DEFAULT["cleanup_timeout"]).whole
"""From SIGTERM to the end of the process, at most."""
MARGIN = 5.0
"""For starting the stop, a slow disk, a machine under load."""

MIB = 1 << 20
_UNITS = {"Mi": MIB, "Gi": 1 << 30, "m": MIB, "g": 1 << 30, "mb": MIB}
PROCESS = 100 * MIB
"""Python with everything imported, and room for calls that run."""


def _bytes(quantity: str) -> int:
    number = re.match(r"\d+", quantity)
    assert number is not None
    return int(number[0]) * _UNITS[quantity[number.end() :]]


def test_the_steps_of_a_stop_fit_into_the_whole() -> None:
    assert round(LAST_WORDS, 6) <= MARGIN_SECONDS


@pytest.mark.parametrize("folder", OVERLAYS)
def test_kubernetes_waits_longer_than_a_drain_takes(folder: str) -> None:
    assert (
        one("Deployment", "mcp", folder)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > DRAIN + MARGIN
    )


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_compose_waits_longer_than_a_drain_takes(node: str) -> None:
    assert seconds(parsed("compose.yaml")["services"][node]["stop_grace_period"]) > DRAIN + MARGIN


@pytest.mark.parametrize("variant", ["traefik.yaml", "dev/traefik.yaml"])
def test_compose_waits_longer_than_traefik_takes_to_end_its_streams(variant: str) -> None:
    points = parsed(f"traefik/{variant}")["entryPoints"].values()
    longest = max(
        sum(map(seconds, point["transport"]["lifeCycle"].values())) for point in points if "transport" in point
    )
    assert longest > 10, "the default would cut calls short"
    assert seconds(parsed("compose.yaml")["services"]["traefik"]["stop_grace_period"]) > longest + MARGIN


def test_traefik_hears_of_a_drain_before_the_node_refuses_new_sessions() -> None:
    check = routing()["services"]["mcp-new"]["loadBalancer"]["healthCheck"]
    assert seconds(check["interval"]) + 3 * seconds(check["timeout"]) < CLUSTER_DRAIN_DELAY


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_balancers_hear_that_a_node_leaves_before_its_port_closes(folder: str) -> None:
    check = routing()["services"]["mcp"]["loadBalancer"]["healthCheck"]
    assert seconds(check["interval"]) + seconds(check["timeout"]) < BALANCER_SECONDS
    probe = container(folder)["readinessProbe"]
    # The rest is the way from the kubelet to Traefik.
    assert probe["periodSeconds"] * probe["failureThreshold"] < BALANCER_SECONDS


def test_a_connection_is_closed_by_traefik_before_the_node_closes_it() -> None:
    idle = [one("ServersTransport", "mcp")["spec"], routing()["serversTransports"]["mcp"]]
    for transport in idle:
        assert seconds(transport["forwardingTimeouts"]["idleConnTimeout"]) < DEFAULT["connection_idle_timeout"]


def test_a_quiet_stream_is_never_idle_for_traefik() -> None:
    timeouts = parsed("traefik/traefik.yaml")["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]
    assert DEFAULT["keepalive"] < seconds(timeouts["idleTimeout"])


def test_traefik_waits_for_a_body_as_long_as_the_node_does() -> None:
    timeouts = parsed("traefik/traefik.yaml")["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]
    assert seconds(timeouts["readTimeout"]) >= DEFAULT["body_timeout"]


def _session_bytes() -> float:
    """What docs/performance.md measured: a session, with a stream open."""
    head, row = (
        next(line for line in (ROOT / "docs/performance.md").read_text().splitlines() if line.startswith(start))
        for start in ("| server ", "| trio-mcp ")
    )
    measured = dict(zip(map(str.strip, head.split("|")), map(str.strip, row.split("|")), strict=True))
    return 1000 * (float(measured["KB per idle session"]) + float(measured["KB per open stream"]))


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_memory_fits_as_many_sessions_as_a_node_takes_each_with_a_stream(folder: str) -> None:
    needed = PROCESS + DEFAULT["max_sessions"] * _session_bytes()
    resources = container(folder)["resources"]
    compose = parsed("compose.yaml")["services"]["node1"]["mem_limit"]
    # What waits is half of the limit at most, when a node sets its own bound.
    for limit in (resources["limits"]["memory"], compose):
        assert _bytes(limit) / 2 > needed
    assert _bytes(resources["requests"]["memory"]) > needed + _bytes(resources["limits"]["memory"]) / 4


def test_the_descriptors_fit_a_stream_for_every_session() -> None:
    limit = parsed("compose.yaml")["services"]["node1"]["ulimits"]["nofile"]
    # Each stream that is relayed is two: from the balancer, and to the owner.
    assert limit > 2 * (DEFAULT["max_sessions"] + DEFAULT["max_listen_streams"])


def test_redis_may_use_twice_what_it_may_keep() -> None:
    redis = parsed("compose.yaml")["services"]["redis"]
    kept = redis["command"][redis["command"].index("--maxmemory") + 1]
    assert _bytes(redis["mem_limit"]) >= 2 * _bytes(kept)
    (pod,) = one("StatefulSet", "mcp-redis")["spec"]["template"]["spec"]["containers"]
    kept = pod["args"][pod["args"].index("--maxmemory") + 1]
    assert _bytes(pod["resources"]["limits"]["memory"]) >= 2 * _bytes(kept)


def test_what_waits_to_be_started_is_given_a_minute() -> None:
    probe = container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60
