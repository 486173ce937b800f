"""What is no `Exception`, raised by user code in real processes: `trio-mcp serve`, and `trio-mcp run` on stdio."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.rig.waiting import PATIENCE
from tests.serving.peer import connect, open_session
from tests.serving.process import WORKERS, served
from tests.serving.raisers import AT_END
from tests.serving.test_stdio_process import Child, child

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

SERVER = Path(__file__).parent / "raisers.py"
RUN = ("-m", "trio_mcp", "run", str(SERVER), "--log-format", "json")

RAISING = pytest.mark.parametrize(
    ("tool", "arguments", "raised"),
    [
        ("convert", {"options": ["--quality", "high"]}, "SystemExit"),
        ("convert", {"options": ["--help"]}, "SystemExit"),
        ("interrupt_thread", {}, "KeyboardInterrupt"),
        ("interrupt_loop", {}, "KeyboardInterrupt"),
    ],
    ids=[
        "argparse, a wrong value",
        "argparse, --help",
        "KeyboardInterrupt in a thread",
        "KeyboardInterrupt in the loop",
    ],
)


def errors(log: str) -> list[dict[str, Any]]:
    """The lines of level error; argparse's own words are beside them."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"].lower() == "error"]


def check(result: dict[str, Any], log: str, tool: str, raised: str) -> None:
    """The error result has the reference of the one line that tells what was raised."""
    text = result["content"][0]["text"]
    (line,) = errors(log)
    assert result["isError"] is True
    assert (line["event"], line["tool"]) == ("tool failed", tool)
    assert f"(ref {line['ref']})" in text
    assert raised in json.dumps(line)


def _last(answer: Any) -> Any:
    """The response, which comes as a stream where it takes long."""
    return answer[-1] if isinstance(answer, list) else answer


@RAISING
async def test_a_tool_that_exits_does_not_end_a_served_node(tool: str, arguments: dict[str, Any], raised: str) -> None:
    with trio.fail_after(WORKERS * PATIENCE):
        async with served(target=SERVER) as node:
            first, other = await open_session(node.port), await open_session(node.port)
            async with connect(node.port) as peer:
                await peer.tool(first, 1, tool, **arguments)
                result = _last(await peer.answer())["result"]
                for session in (other, first):
                    await peer.tool(session, 2, "convert", options=["--quality", "7"])
                    assert _last(await peer.answer())["result"]["structuredContent"] == {"result": 7}
            await node.says("tool failed")
            assert node.process.poll() is None
    check(result, node.log, tool, raised)


@RAISING
async def test_a_tool_that_exits_does_not_end_a_process_on_stdio(
    tool: str, arguments: dict[str, Any], raised: str
) -> None:
    async with child(*RUN) as process:
        await process.open()
        await process.start(1, "tools/call", {"name": tool, "arguments": arguments})
        result = (await process.hear())["result"]
        await process.start(2, "tools/call", {"name": "convert", "arguments": {"options": ["--quality", "7"]}})
        assert (await process.hear())["result"]["structuredContent"] == {"result": 7}
        log = await ended(process)
        assert process.process.returncode == 0
    check(result, log, tool, raised)


async def ended(process: Child) -> str:
    """Close the process's stdin; its whole stderr, when it has ended."""
    await process.stdin.aclose()
    await process.process.wait()
    await process.silent.wait()
    return process.errors.decode()


@pytest.mark.parametrize("front", ["serve", "run"])
@pytest.mark.parametrize("raised", AT_END)
async def test_the_end_of_a_lifespan_that_raises_is_one_line_of_the_log(
    raised: str, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAISED_AT_END", raised)
    with trio.fail_after(WORKERS * PATIENCE):
        if front == "serve":
            async with served(target=SERVER) as node:
                node.process.send_signal(signal.SIGTERM)
                code = await node.process.wait()
            log = node.log
        else:
            async with child(*RUN) as process:
                await process.open()
                log = await ended(process)
                code = await process.process.wait()
    lines = errors(log)
    assert [line["event"] for line in lines] == ["the server crashed"] * (WORKERS if front == "serve" else 1)
    assert all("lifespan" in line["traceback"] for line in lines)
    assert code == 1
    assert "Traceback" not in "".join(text for text in log.splitlines() if not text.startswith("{"))
