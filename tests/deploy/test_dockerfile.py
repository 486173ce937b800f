"""The image: what its lines do when they are carried out, and that what comes of them serves."""

import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest
import trio
import yaml

from tests.deploy.dockerfile import Image, build, instructions
from tests.deploy.shipped import DEPLOY, ROOT, container, one, parsed
from tests.rig.client import LegacyClient
from tests.serving.process import ServedProcess
from trio_mcp.cli import execute
from trio_mcp.serving.settings import Settings

TEXT = (DEPLOY / "Dockerfile").read_text()
LINES = list(instructions(TEXT))


def _said(keyword: str) -> list[str]:
    return [rest for found, rest in LINES if found == keyword]


def test_what_runs_is_slim_and_no_root_and_listens_where_compose_and_kubernetes_expect_it() -> None:
    assert all(re.fullmatch(r"python:3\.\d+-slim( AS \w+)?", base) for base in _said("FROM"))
    assert len({base.partition(" ")[0] for base in _said("FROM")}) == 1, "a venv is good for the Python that made it"
    (user,) = _said("USER")
    pod = one("Deployment", "mcp")["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    (port,) = _said("EXPOSE")
    assert int(port) == container()["ports"][0]["containerPort"] == Settings.model_fields["port"].default
    assert _said("CMD") == ['["trio-mcp", "serve", "/app/server.py"]']


def test_the_python_of_the_image_is_one_the_package_is_tested_on() -> None:
    version = re.findall(r"python:(3\.\d+)", _said("FROM")[0])[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_nothing_is_installed_after_the_build_stage() -> None:
    last = max(number for number, (keyword, _) in enumerate(LINES) if keyword == "FROM")
    assert not [line for line in LINES[last:] if line[0] in ("RUN", "ADD")]


def test_the_build_context_is_what_is_copied_and_no_more() -> None:
    everything, *kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert everything == "*"
    wanted = {f"!{source}" for copy in _said("COPY") if "--from" not in copy for source in copy.split()[:-1]}
    assert {rule for rule in kept if rule.startswith("!")} == wanted
    assert any(fnmatch("trio_mcp/cli/__pycache__", rule) for rule in kept)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The Dockerfile, carried out. Takes as long as pip does."""
    return build(DEPLOY / "Dockerfile", ROOT, tmp_path_factory.mktemp("image"))


@asynccontextmanager
async def _container(image: Image, **environment: str) -> AsyncIterator[ServedProcess]:
    """The image's command, in the image's environment and no other."""
    environ = image.environ() | {"TRIO_MCP_HOST": "127.0.0.1", "TRIO_MCP_PORT": "0"} | environment
    program, *arguments = map(image.here, image.command)
    found = shutil.which(program, path=environ["PATH"])
    assert found is not None
    assert Path(found).is_relative_to(image.root)
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            [found, *arguments], env=environ, cwd=image.cwd, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        served = ServedProcess(process)
        nursery.start_soon(served.read)
        try:
            await served.listening()
            yield served
        finally:
            if process.poll() is None:
                process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()
            nursery.cancel_scope.cancel("the test is over")


def _files(image: Image) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in image.root.rglob("*")}


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.slow
class TestBuilt:
    """Of the image that came of it."""

    async def test_it_serves_the_demo_is_healthy_writes_nothing_and_stops_when_told(self, image: Image) -> None:
        before = _files(image)
        async with _container(image) as served:
            client = LegacyClient(f"http://127.0.0.1:{served.port}/mcp")
            assert not (await client.initialize()).error
            assert (await client.tool("add", a=2, b=3)).told == {"result": 5}
            client.close()
            assert _healthy(image, served.port)
            served.process.send_signal(signal.SIGTERM)
            assert await served.process.wait() == 0
            assert not _healthy(image, served.port)
        assert _files(image) == before, "the root is read-only"

    def test_it_can_be_a_node_of_a_cluster(self, image: Image) -> None:
        environ = image.environ() | {"REDIS_URL": "redis://redis:6379/0", "TRIO_MCP_SECRET": "s" * 43}
        script = "import redis, trio_mcp.cluster.redis.store; from trio_mcp.serving.settings import load; load()"
        python = image.here("/opt/trio-mcp/bin/python")
        subprocess.run([python, "-c", script], env=environ, cwd=image.cwd, check=True)

    def test_what_is_installed_exports_what_lies_here(self, image: Image) -> None:
        command = [image.here("/opt/trio-mcp/bin/trio-mcp"), "export", "compose", "--checkout", ".."]
        exported = subprocess.run(command, env=image.environ(), cwd=image.cwd, capture_output=True, check=True)
        assert exported.stdout == (DEPLOY / "compose.yaml").read_bytes()

    def test_it_holds_the_package_and_neither_sources_nor_tests(self, image: Image) -> None:
        assert sorted(path.name for path in image.root.iterdir()) == ["app", "opt", "usr"]
        assert [path.name for path in (image.root / "app").iterdir()] == ["server.py"]
        python = image.here("/opt/trio-mcp/bin/python")
        listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
        assert "trio-mcp" in listed
        assert "pytest" not in listed


def _healthy(image: Image, port: int) -> bool:
    """What compose asks in the container."""
    _, program, *arguments = parsed("compose.yaml")["services"]["node1"]["healthcheck"]["test"]
    environ = image.environ()
    found = shutil.which(program, path=environ["PATH"])
    assert found is not None
    command = [found, *(text.replace(":8000/", f":{port}/") for text in arguments)]
    return subprocess.run(command, env=environ, stderr=subprocess.DEVNULL).returncode == 0


def test_what_export_writes_names_nothing_that_it_does_not_write(tmp_path: Path) -> None:
    assert execute(["export", "compose", "--output", str(tmp_path)]) == 0
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    image = compose["services"]["node1"]["build"]
    assert (tmp_path / image["context"] / image["dockerfile"]).is_file()
    copied = [rest for keyword, rest in instructions((tmp_path / "Dockerfile").read_text()) if keyword == "COPY"]
    sources = {source for rest in copied if "--from" not in rest for source in rest.split()[:-1]}
    assert {source for source in sources if "*" not in source} == {"requirements.txt", "server.py"}
    assert all((tmp_path / source).is_file() for source in sources if "*" not in source)
    everything, *kept = (tmp_path / "Dockerfile.dockerignore").read_text().split()
    assert everything == "*"
    assert set(kept) == {f"!{source}" for source in sources}, "neither .env nor anything else that lies there"
    mounts = [mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", ())]
    assert all((tmp_path / path).exists() for path in mounts if path.startswith("./"))


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.slow
async def test_what_export_writes_builds_and_serves_outside_a_clone(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    assert execute(["export", "compose", "--output", str(folder)]) == 0
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    await trio.run_process(command)
    image = build(folder / "Dockerfile", folder, tmp_path)
    async with _container(image) as served:
        client = LegacyClient(f"http://127.0.0.1:{served.port}/mcp")
        assert not (await client.initialize()).error
        assert (await client.tool("add", a=2, b=3)).told == {"result": 5}
        client.close()
