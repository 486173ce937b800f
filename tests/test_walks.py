"""The ways into the code that the documentation shows are true.

The walks of docs/design.md, "From the network to your handler": each step names a function, and a real run enters them in that
order. Places that CONTRIBUTING.md names are there.
"""

from __future__ import annotations

import ast
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import trio_mcp
from tests.cluster.nodes import at, in_process_cluster
from tests.serving.peer import connect, open_session
from tests.serving.test_node import Running, running
from trio_mcp import MCPServer

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

PACKAGE = Path(trio_mcp.__file__).parent
PAGE = PACKAGE.parent / "docs" / "design.md"
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"
STEP = re.compile(r"`([\w/]+\.py):([\w.]+)`")


def walk(title: str) -> list[str]:
    """The steps below a heading of the page, as `file.py:function`."""
    _, _, rest = PAGE.read_text().partition(f"\n### {title}\n")
    assert rest, f"docs/design.md has no heading {title!r}"
    section, _, _ = rest.partition("\n#")
    return [f"{file}:{name}" for file, name in STEP.findall(section)]


class Trace:
    """The functions of the package that were entered, in order."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{PACKAGE}/"):
            self.entered.append(f"{code.co_filename[len(f'{PACKAGE}/') :]}:{code.co_qualname}")

    def missing(self, steps: list[str]) -> str | None:
        """The first step that was not entered after the steps before it; None when all were."""
        left = iter(self.entered)
        return next((step for step in steps if step not in left), None)


@contextmanager
def traced() -> Iterator[Trace]:
    trace, before = Trace(), sys.getprofile()
    sys.setprofile(trace)
    try:
        yield trace
    finally:
        sys.setprofile(before)


def demo() -> MCPServer:
    mcp = MCPServer("demo")

    @mcp.tool
    async def add(a: int, b: int) -> int:
        return a + b

    return mcp


async def legacy_call(node: Running) -> None:
    session = await open_session(node.port)
    async with connect(node.port) as peer:
        await peer.tool(session, 1, "add", a=1, b=2)
        assert (await peer.answer())["result"]["structuredContent"] == {"result": 3}


async def modern_call(node: Running) -> None:
    async with connect(node.port) as peer:
        await peer.modern(1, "tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}, name="add")
        assert (await peer.answer())["result"]["structuredContent"] == {"result": 3}


async def sigterm(node: Running) -> None:
    await open_session(node.port)
    signal.raise_signal(signal.SIGTERM)
    await node.ended.wait()
    assert node.code == 0


@pytest.mark.parametrize(
    ("title", "drive"),
    [("One legacy call", legacy_call), ("One modern call", modern_call), ("One SIGTERM", sigterm)],
    ids=["legacy", "modern", "sigterm"],
)
async def test_a_walk_of_one_node_is_the_way_it_goes(title: str, drive: Callable[[Running], Awaitable[None]]) -> None:
    async with running(demo()) as node:
        await node.ready.wait()
        with traced() as trace:
            await drive(node)
        if node.code is None:
            signal.raise_signal(signal.SIGTERM)
    assert len(walk(title)) >= 8
    assert trace.missing(walk(title)) is None


async def test_the_walk_to_a_session_elsewhere_is_the_way_it_goes(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        with traced() as trace:
            call = at(nodes[2], client).tool("where")
            assert (await call.result())["structuredContent"] == {"result": "node1"}
            await call.raw.finished.wait()
    steps = walk("One request for a session elsewhere")
    assert len(steps) >= 8
    assert trace.missing(steps) is None


def places() -> list[str]:
    """What CONTRIBUTING.md names: `file.py`, `file.py:name` and `file.py:Class.name`."""
    return re.findall(r"`((?:trio_mcp|tests|tools)/[\w/]+\.py(?::[\w.]+)?)`", CONTRIBUTING.read_text())


def test_contributing_names_places() -> None:
    assert len(places()) >= 20


@pytest.mark.parametrize("place", places())
def test_a_place_that_contributing_names_is_there(place: str) -> None:
    file, _, name = place.partition(":")
    found: ast.AST = ast.parse((PACKAGE.parent / file).read_text())
    for part in name.split(".") if name else []:
        found = next(node for node in ast.walk(found) if part in _named(node))


def _named(node: ast.AST) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []
