"""Whatever handlers raise, no worker ends by it, and every other session goes on: four workers, as processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig.client import Answer, LegacyClient
from tests.rig.waiting import until
from tests.serving.workers.node import Clients, WorkersNode, node
from tests.serving.workers.raising import RAISED

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

SERVER = Path(__file__).parent / "raising.py"


def handlers(kind: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """A request of each kind of handler that raises."""
    about = {"ref": {"type": "ref/resource", "uri": "raise://{kind}"}, "argument": {"name": "kind", "value": kind}}
    return {
        "sync tool": ("tools/call", {"name": "sync_tool", "arguments": {"kind": kind}}),
        "async tool": ("tools/call", {"name": "async_tool", "arguments": {"kind": kind}}),
        "template": ("resources/read", {"uri": f"raise://{kind}"}),
        "prompt": ("prompts/get", {"name": "prompt", "arguments": {"kind": kind}}),
        "completion": ("completion/complete", about),
    }


def told(answer: Answer) -> str:
    """What the client hears of a failure: a tool's is a result, all others are errors."""
    return str(answer.message["error"]["message"] if "error" in answer.message else answer.result["content"][0]["text"])


async def test_whatever_a_handler_raises_no_worker_ends_and_every_other_session_goes_on() -> None:
    async with node(workers=4, target=SERVER) as served_node:
        clients = Clients(served_node)
        await clients.open(8)
        hurt = dict(zip(clients.owners, clients.clients, strict=True))
        others = [client for client in clients.clients if client not in hurt.values()]
        for kind in RAISED:
            for where, (method, params) in handlers(kind).items():
                # On each worker, by a connection that any of them may accept.
                for owner, client in hurt.items():
                    line = await _the_line(served_node, await client.request(method, params), f"{kind} in a {where}")
                    assert kind in json.dumps(line), (where, line)
                    assert await clients.process(client) == owner
        for kind in RAISED:
            await _its_session_alone_ends(served_node, kind)
        assert [await clients.process(client) for client in others]
        assert not served_node.events("worker died")
        assert len(served_node.pids) == 4


async def _the_line(served_node: WorkersNode, answer: Answer, what: str) -> dict[str, Any]:
    """The error in the log that has the reference which the client was told."""
    reference = told(answer).rpartition("ref ")[2].rstrip(")")
    assert reference, (what, answer)
    await served_node.run.says(f'"ref":"{reference}"')
    found = [each for each in map(_read, served_node.run.lines) if each.get("ref") == reference]
    # The call has a line of its own, which may be there already.
    (line,) = [each for each in found if each["level"].lower() == "error"]
    return line


def _read(line: str) -> dict[str, Any]:
    return json.loads(line) if line.startswith("{") else {}


async def _its_session_alone_ends(served_node: WorkersNode, kind: str) -> None:
    client = LegacyClient(served_node.url, fresh=True)
    assert not (await client.initialize()).error
    assert not (await client.tool("in_session", kind=kind)).error

    async def gone() -> str:
        answer = await client.tool("process")
        return answer.reason if answer.status == 404 else ""

    assert await until(gone, "the session has ended") == "crashed"
