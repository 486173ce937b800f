"""What the README and the other pages say is so: links, flags, commands, variables, and every piece of Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from tools.readme import README
from trio_mcp.cli import execute
from trio_mcp.cli.app import app
from trio_mcp.observability.auth_metrics import AuthMetrics
from trio_mcp.observability.metrics import Metrics
from trio_mcp.observability.task_metrics import TaskMetrics
from trio_mcp.observability.websocket_metrics import WebSocketMetrics
from trio_mcp.protocol.versions import SERVED_VERSIONS
from trio_mcp.serving.last_resort import Stage
from trio_mcp.serving.setting_sources import OF_COMMANDS
from trio_mcp.serving.settings_report import describe
from trio_mcp.testing import asgi_client
from trio_mcp.transports.http.lifespan import lifespan_of

REPOSITORY = README.parent
PAGES = [
    README,
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
]
BY_HAND = [page for page in PAGES if page.stem in ("README", "handlers", "operating")]
OTHERS_FLAGS = {"--worker-class", "--suite", "--requirements", "--strict"}
"""Of Hypercorn, the conformance suite and the Inspector."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def python_of(page: Path) -> str:
    """All the Python of a page, each line where it stands in the page, so that tracebacks are right."""
    lines: list[str] = []
    inside = False
    for line in page.read_text().splitlines():
        inside = line == "```python" or (inside and line != "```")
        lines.append(line if inside and line != "```python" else "")
    return "\n".join(lines)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    for path, fragment in targets:
        target = (page.parent / path) if path else page
        assert target.exists(), path
        assert not fragment or fragment in anchors(target), fragment


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def known_flags(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Every flag that any command's help shows."""
    for command in app:
        if not command.startswith("-"):
            execute([command, "--help"])
    execute(["sessions", "end", "--help"])
    execute(["--help"])
    return set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))


def test_every_flag_a_page_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    # The help shortens the longest names.
    known = known_flags(capsys) | OTHERS_FLAGS | {f"--{row.name.replace('_', '-')}" for row in describe()}
    named = {(page.name, flag) for page in PAGES for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text())}
    assert sorted(each for each in named if each[1] not in known) == []


@each_page
def test_every_variable_a_page_names_is_a_setting(page: Path) -> None:
    known = {variable for row in describe() for variable in row.variables} | {"TRIO_MCP_PROT"} | OF_COMMANDS
    assert set(re.findall(r"TRIO_MCP_[A-Z_]*[A-Z]", page.read_text())) <= known


@each_page
def test_every_command_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    commands = set(re.findall(r"(?:^|`|/)trio-mcp ([a-z]+)", text, re.MULTILINE))
    assert commands <= {name for name in app if not name.startswith("-")}
    targets = set(re.findall(r"^(\w[\w-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE)) <= targets


def test_the_readme_lists_every_command_and_no_other() -> None:
    section = README.read_text().split("\n## Commands\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `trio-mcp ([a-z]+)", section, re.MULTILINE) == [n for n in app if not n.startswith("-")]


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore::pytest.PytestWarning")
def test_the_python_of_a_page_runs(page: Path) -> None:
    source = python_of(page)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(source, page, "exec", dont_inherit=True), names)
    assert "mcp" in names or not source.strip()


async def test_the_readme_s_test_passes(autojump_clock: MockClock) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(python_of(README), README, "exec", dont_inherit=True), names)
    for mode in ("legacy", "auto"):
        await names["test_add"](mode)


async def test_the_readme_s_mounted_app_is_ready_below_its_prefix() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(python_of(README), README, "exec", dont_inherit=True), names)
    site = names["site"]
    async with lifespan_of(site), asgi_client(site) as client:
        exchange = client.start("GET", "/tools/readyz", [("host", "localhost")])
        assert await exchange.head() == 200
        assert (await exchange.json())["status"] == "ready"


def first_server() -> Iterator[str]:
    section = README.read_text().split("\n## A server\n")[1].split("```python\n")[1].split("```")[0]
    return (line for line in section.splitlines() if line)


def test_the_readme_s_server_is_fifteen_lines_of_the_quickstart() -> None:
    quickstart = (REPOSITORY / "examples" / "quickstart.py").read_text()
    server = list(first_server())
    assert len(server) <= 15
    names = {line for line in server if not re.match(r"from trio_mcp import|mcp = MCPServer", line)}
    assert names <= set(quickstart.splitlines())


def test_the_readme_names_every_version_served() -> None:
    section = README.read_text().split("\n## Versions served\n")[1].split("\n## ")[0]
    assert all(version in section for version in SERVED_VERSIONS)


def test_operating_names_every_metric_and_no_other() -> None:
    page = (REPOSITORY / "docs" / "operating.md").read_text()
    named = set(re.findall(r"`((?:trio_mcp|mcp_server)_[a-z_]+)", page))
    assert named == {re.sub(r"_created$", "", name) for name in metric_names()}


def metric_names() -> Iterator[str]:
    """With Redis, with authorization, with tasks, and with WebSockets."""
    metrics = Metrics()
    WebSocketMetrics(metrics.registry)
    no_fetches = {"age_seconds": 0.0, "succeeded": 0, "failed": 0}
    AuthMetrics(metrics.registry).count_fetches_with(lambda: {"issuer": no_fetches})
    metrics.directory_up_with(lambda: 1.0)
    TaskMetrics(metrics.registry, lambda: 0)
    for family in metrics.registry.collect():
        if not family.name.startswith("process_"):
            yield f"{family.name}_total" if family.type == "counter" else family.name


LOGGED_BY_FUNCTIONS: dict[str, list[str]] = {
    "cluster/store/measured.py": [
        f"{noun} {what}" for noun in ("redis", "supervisor") for what in ("is away", "is back", "refuses")
    ],
    "auth/jwks.py": [
        "the keys of the issuer cannot be fetched",
        "some keys of the issuer cannot be used",
    ],
    "dispatch/speech.py": ["a log message was not sent", "progress was not sent"],
    "dispatch/user_code.py": [],  # the names that its callers give
    "observability/logs.py": ["error ignored"],
    "observability/refusals.py": ["request refused"],
    "serving/last_resort.py": [stage.value for stage in Stage],
    "serving/stop_deadlines.py": [],  # one of those
    "sessions/hub.py": ["session opened", "session restored"],
}
"""By module: the names of log lines that are no literal where the line is written."""

NAME_AT = {"event": 2, "report": 1, "without_crash": 1, "crash_message": 1}
"""The functions that write a log line, and which argument is its name."""


def logged() -> tuple[set[str], set[str]]:
    """The names of the log lines in the code, and the modules that have some which are no literals."""
    literals: set[str] = set()
    others: set[str] = set()
    for file in (REPOSITORY / "trio_mcp").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=function), args=args) if len(args) > NAME_AT.get(function, 99):
                    name: ast.expr = args[NAME_AT[function]]
                case ast.Call(func=ast.Attribute(attr="note"), keywords=keywords):
                    given = [each.value for each in keywords if each.arg == "name"]
                    if not given:
                        continue
                    name = given[0]
                case _:
                    continue
            for each in (name.body, name.orelse) if isinstance(name, ast.IfExp) else (name,):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    literals.add(each.value)
                else:
                    others.add(str(file.relative_to(REPOSITORY / "trio_mcp")))
    return literals, others


def test_operating_names_every_log_line_and_no_other() -> None:
    page = (REPOSITORY / "docs" / "operating.md").read_text().split("\n## Logs\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    literals, others = logged()
    assert others == set(LOGGED_BY_FUNCTIONS)
    by_functions = {name for names in LOGGED_BY_FUNCTIONS.values() for name in names}
    written_beside = {"log lines dropped"}  # by the writer itself, when its queue has room again
    assert named == literals | by_functions | written_beside
