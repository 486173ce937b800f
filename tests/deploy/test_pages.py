"""What the pages in `deploy/` and `k8s/` say is so: links, commands, variables, and every number in the tables."""

import re
from pathlib import Path

import pytest

from tests.deploy.shipped import DEPLOY, K8S, OVERLAYS, ROOT, container, one, parsed, routing
from tests.deploy.test_margins import DEFAULT, DRAIN
from tests.test_readme import anchors, metric_names
from trio_mcp.cli import execute
from trio_mcp.defaults import CLUSTER_DRAIN_DELAY
from trio_mcp.serving.settings_report import describe
from trio_mcp.sessions.stop_times import BALANCER_SECONDS, MARGIN_SECONDS

PAGES = [DEPLOY / "README.md", K8S / "README.md"]
MARGINS = "## Which must be longer than which\n"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    assert targets
    for path, fragment in targets:
        target = page.parent / path
        assert target.exists(), path
        assert not fragment or fragment in anchors(target), fragment


@each_page
def test_every_variable_is_a_setting_or_one_of_compose(page: Path) -> None:
    known = {variable for row in describe() for variable in row.variables} | {"TRIO_MCP_IMAGE"}
    assert set(re.findall(r"TRIO_MCP_[A-Z_]*[A-Z]", page.read_text())) <= known


@each_page
def test_every_command_and_each_of_its_flags_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"trio-mcp ([a-z]+)((?: [^`\n#;]*)?)", page.read_text())
    assert len(commands) >= 1
    for command, rest in commands:
        assert execute([command, "--help"]) == 0
        flags = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= flags, command


@each_page
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][a-z-]*)", page.read_text())) <= targets


@each_page
def test_every_metric_exists(page: Path) -> None:
    assert set(re.findall(r"\b(trio_mcp_[a-z_]+)\{", page.read_text())) <= set(metric_names())


def test_every_file_of_the_table_is_there() -> None:
    table = PAGES[0].read_text().split("| file | |\n")[1].split("\n\n")[0]
    named = re.findall(r"`([^`]+)`", "\n".join(row.split("|")[1] for row in table.splitlines()[1:]))
    assert len(named) == 9
    assert all((DEPLOY / name).exists() for name in named)


def _row(start: str) -> list[float]:
    """The numbers of a row of the table of margins, in seconds or as they stand."""
    table = PAGES[0].read_text().split(MARGINS)[1]
    (row,) = (line for line in table.splitlines() if line.startswith(f"| {start}"))
    cells = " ".join(row.split("|")[2:4])
    return [float(number) for number in re.findall(r"(?<![\w.])(\d+(?:\.\d+)?) (?:s|ms|GiB)\b", cells)]


def test_the_numbers_of_the_margins_are_those_of_the_files_and_of_the_code() -> None:
    nodes, traefik = (parsed("compose.yaml")["services"][name] for name in ("node1", "traefik"))
    assert nodes["stop_grace_period"] == traefik["stop_grace_period"] == "45s"
    assert _row("`stop_grace_period` of a node") == [45, MARGIN_SECONDS, DRAIN]
    assert _row("`stop_grace_period` of Traefik") == [45, 35]
    assert _row("`TRIO_MCP_DRAIN_DELAY`") == [CLUSTER_DRAIN_DELAY, 1.5]
    assert _row("the node's last 3 s") == [BALANCER_SECONDS, 1.5]
    assert _row("`TRIO_MCP_CONNECTION_IDLE_TIMEOUT`") == [DEFAULT["connection_idle_timeout"], 60]
    assert _row("`idleTimeout` of Traefik") == [180, DEFAULT["keepalive"]]
    assert _row("`readTimeout` of Traefik") == [60, DEFAULT["body_timeout"]]
    assert _row("`interval` of the health checks") == [1, 500]
    assert nodes["mem_limit"] == "1g"
    assert _row("`mem_limit` of a node") == [1]
    check = routing()["services"]["mcp"]["loadBalancer"]["healthCheck"]
    assert (check["interval"], check["timeout"]) == ("1s", "500ms")
    for folder in OVERLAYS:
        assert one("Deployment", "mcp", folder)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 45


def test_the_pages_say_that_no_image_was_built_and_no_cluster_was_run() -> None:
    assert "No image was built here" in PAGES[0].read_text()
    assert "They were not run in a cluster" in PAGES[1].read_text()
    assert container()["image"] == "trio-mcp", "nobody's registry"
