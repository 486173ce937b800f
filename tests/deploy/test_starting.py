"""A Traefik that has not loaded its routes answers 404 to everybody; its health check says so, and nobody is sent there."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.deploy.balancer import Balancer, Pod, balancer
from tests.deploy.shipped import DEPLOY, K8S, parsed
from tests.deploy.test_in_kubernetes import cluster
from tests.rig.http_connection import Broken, fetch
from tests.rig.traefik import binary
from tests.rig.waiting import until

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]


async def healthy(traefik: Balancer) -> bool:
    """What compose's health check of Traefik says."""
    test = parsed("compose.yaml")["services"]["traefik"]["healthcheck"]["test"]
    assert test == ["CMD", "traefik", "healthcheck"]
    command = [str(binary()), "healthcheck", f"--configFile={traefik.file}"]
    found = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    return found.returncode == 0


async def test_traefik_is_unhealthy_until_its_routes_are_loaded_and_healthy_then(tmp_path: Path) -> None:
    folder = tmp_path / "dynamic"
    folder.mkdir()
    async with balancer(tmp_path, {"file": {"directory": str(folder), "watch": True}}) as traefik:

        async def listens() -> bool:
            try:
                return (await fetch(f"{traefik.internal_url}/ping")).status == 404
            except (OSError, Broken):
                return False

        await until(listens, "Traefik answers")
        assert not await healthy(traefik)
        draft = tmp_path / "draft"
        draft.write_text((DEPLOY / "traefik/dynamic/mcp.yaml").read_text())
        draft.rename(folder / "mcp.yaml")
        await traefik.loaded(6)
        assert await healthy(traefik)


async def test_in_kubernetes_the_pods_of_traefik_have_a_path_that_is_200_once_the_routes_are_loaded(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "base", [Pod("a"), Pod("b"), Pod("c")]) as here:
        assert (await fetch(f"{here.traefik.own_url}/ready")).status == 200
        assert (await fetch(f"{here.traefik.own_url}/another")).status == 404, "it is the route that answers"


def test_the_page_for_kubernetes_says_how_to_probe_and_how_many() -> None:
    page = (K8S / "README.md").read_text()
    assert "readinessPath: /ready" in page
    assert "replicas: 2" in page
