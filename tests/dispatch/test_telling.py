"""Progress and log messages: who gets which, in which form, and when none."""

from __future__ import annotations

import logging
import math
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.doubles import DispatchHarness
from trio_mcp import Context, MCPServer
from trio_mcp.protocol.envelope import LEVELS
from trio_mcp.protocol.versions import LEGACY_VERSIONS, SERVED_VERSIONS
from trio_mcp.streams.backlog import Kind

ALL = pytest.mark.parametrize("version", SERVED_VERSIONS)


@pytest.fixture(scope="module")
def mcp() -> MCPServer:
    """For tests that add nothing to it: to make one takes longer than a test."""
    return made()


def made() -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def climb(steps: list[float], ctx: Context) -> None:
        for step in steps:
            await ctx.report_progress(step, 10, f"at {step}")
        await ctx.report_progress(1000)

    @mcp.tool
    async def speak(ctx: Context) -> None:
        for level in LEVELS:
            await ctx.log(level, {"level": level}, "speaker")

    @mcp.tool
    async def speak_plainly(ctx: Context) -> None:
        await ctx.debug("d")
        await ctx.info("i")
        await ctx.warning("w")
        await ctx.error("e")

    return mcp


async def said(
    harness: DispatchHarness, name: str, arguments: dict[str, Any] | None = None, **meta: Any
) -> list[dict[str, Any]]:
    await harness.result("tools/call", {"name": name, "arguments": arguments or {}, "_meta": meta})
    return [message["params"] for message in harness.outbox.said]


@ALL
@pytest.mark.parametrize("token", [7, 0, "7", ""])
async def test_progress_goes_out_under_its_token_with_its_type_and_only_grows(
    mcp: MCPServer, version: str, token: int | str
) -> None:
    params = await said(DispatchHarness(mcp, version), "climb", {"steps": [0, 1, 1, 0.5, 2]}, progressToken=token)
    assert [each["progress"] for each in params] == [0, 1, 2, 1000]
    assert all(each["progressToken"] == token and type(each["progressToken"]) is type(token) for each in params)
    assert params[0]["total"] == 10
    assert params[0].get("message") == ("at 0.0" if version > "2024-11-05" else None)
    assert params[-1].keys() == {"progressToken", "progress"}


async def test_progress_is_worth_its_latest_value(mcp: MCPServer) -> None:
    harness = DispatchHarness(mcp)
    await said(harness, "climb", {"steps": [1]}, progressToken="t")
    assert set(harness.outbox.kinds) == {(Kind.LATEST, ("progress", "t"))}


@ALL
async def test_without_a_token_there_is_no_progress(mcp: MCPServer, version: str) -> None:
    assert await said(DispatchHarness(mcp, version), "climb", {"steps": [1, 2]}) == []


@ALL
@pytest.mark.parametrize("token", [True, 1.5, [], {}])
async def test_a_token_of_another_type_is_invalid_params(mcp: MCPServer, version: str, token: object) -> None:
    params = {"name": "climb", "arguments": {"steps": [1]}, "_meta": {"progressToken": token}}
    assert (await DispatchHarness(mcp, version).error("tools/call", params))["code"] == -32602


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
@pytest.mark.parametrize("threshold", LEVELS)
async def test_a_session_hears_from_its_level_up(mcp: MCPServer, version: str, threshold: str) -> None:
    harness = DispatchHarness(mcp, version)
    assert await harness.result("logging/setLevel", {"level": threshold}) == {}
    heard = await said(harness, "speak")
    assert [each["level"] for each in heard] == list(LEVELS[LEVELS.index(threshold) :])
    assert heard[0] == {"level": threshold, "data": {"level": threshold}, "logger": "speaker"}
    assert {kind for kind, _ in harness.outbox.kinds} == {Kind.LOG}


@pytest.mark.parametrize("level", [None, "INFO", "", 1, []])
async def test_a_level_that_is_none_is_invalid_params(mcp: MCPServer, level: object) -> None:
    harness = DispatchHarness(mcp)
    assert (await harness.error("logging/setLevel", {"level": level}))["code"] == -32602


async def test_a_modern_request_hears_what_it_asked_for_and_else_nothing(mcp: MCPServer) -> None:
    harness = DispatchHarness(mcp, "2026-07-28")
    assert await said(harness, "speak") == []
    harness.log_level = "error"
    assert [each["level"] for each in await said(harness, "speak")] == ["error", "critical", "alert", "emergency"]


async def test_there_are_short_names_for_common_levels(mcp: MCPServer) -> None:
    harness = DispatchHarness(mcp)
    await harness.result("logging/setLevel", {"level": "debug"})
    assert await said(harness, "speak_plainly") == [
        {"level": level, "data": level[0]} for level in ("debug", "info", "warning", "error")
    ]


async def test_a_level_that_does_not_exist_is_the_handlers_error() -> None:
    mcp = made()
    seen: list[ValueError] = []

    @mcp.tool
    async def shout(ctx: Context) -> None:
        try:
            await ctx.log("loud", "x")  # type: ignore[arg-type]
        except ValueError as error:
            seen.append(error)

    harness = DispatchHarness(mcp)
    assert await said(harness, "shout") == []
    assert "not 'loud'" in str(seen[0])


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_a_session_subscribes_and_unsubscribes(version: str) -> None:
    mcp = MCPServer("t")
    mcp.add_resource(lambda: "x", "x://y", name="y")
    harness = DispatchHarness(mcp, version)
    assert await harness.result("resources/subscribe", {"uri": "x://y"}) == {}
    assert harness.conversation is not None
    assert harness.conversation.uris == {"x://y"}
    assert await harness.result("resources/unsubscribe", {"uri": "x://y"}) == {}
    assert harness.conversation.uris == set()
    for method in ("resources/subscribe", "resources/unsubscribe"):
        assert (await harness.error(method, {"uri": 1}))["code"] == -32602


# --- whatever a handler says


class Unsayable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def circular() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


class Model(BaseModel):
    at: datetime = datetime(2026, 1, 2)
    raw: bytes = b"\xff"


@pytest.fixture
def talkative() -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def say(which: int, ctx: Context) -> str:
        for _ in range(2):
            await ctx.error(DATA[which][0])
            await ctx.info("after", logger=DATA[which][0])
        return "said"

    @mcp.tool
    async def count(which: int, ctx: Context) -> str:
        for _ in range(2):
            await ctx.report_progress(NUMBERS[which][0], NUMBERS[which][1])
        await ctx.report_progress(99, None, "caf\udce9")
        return "counted"

    return mcp


DATA: list[tuple[Any, Any]] = [
    (ZeroDivisionError("division by zero"), "division by zero"),
    (Path("/a"), "/a"),
    (Model(), {"at": "2026-01-02T00:00:00", "raw": "/w=="}),
    (Decimal("0.5"), 0.5),
    ({"caf\udce9": math.nan}, {"caf?": None}),
    ({1, 2}, [1, 2]),
    (object, "<class 'object'>"),
    (Unsayable(), None),
    (circular(), None),
    ({"a": 10**5000}, None),
]


@ALL
@pytest.mark.parametrize(("which", "sent"), [(at, sent) for at, (_, sent) in enumerate(DATA)])
async def test_a_log_message_may_be_anything_and_never_fails_its_tool(
    talkative: MCPServer, version: str, which: int, sent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    harness = DispatchHarness(talkative, version)
    harness.log_level = "info"
    result = await harness.result("tools/call", {"name": "say", "arguments": {"which": which}})
    assert result["content"][0]["text"] == "said"
    data = [message["params"]["data"] for message in harness.outbox.said if message["params"]["level"] == "error"]
    assert data == ([] if sent is None else [sent, sent])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (sent is None), "one warning for a tool, however often"
    assert all(record.getMessage() == "a log message was not sent" for record in warnings)


NUMBERS: list[tuple[Any, Any, Any]] = [
    (Decimal("0.5"), Fraction(1, 1), {"progress": 0.5, "total": 1}),
    (True, 2, {"progress": 1, "total": 2}),
    (1, math.inf, {"progress": 1}),
    (1, Unsayable(), {"progress": 1}),
    (math.nan, 2, None),
    ("half", 2, None),
    (None, 2, None),
    (Unsayable(), 2, None),
    (10**400, None, None),
]


@ALL
@pytest.mark.parametrize("which", range(len(NUMBERS)))
async def test_progress_is_a_number_of_any_type_and_never_fails_its_tool(
    talkative: MCPServer, version: str, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, total, sent = NUMBERS[which]
    harness = DispatchHarness(talkative, version)
    params = {"name": "count", "arguments": {"which": which}, "_meta": {"progressToken": 1}}
    assert (await harness.result("tools/call", params))["content"][0]["text"] == "counted"
    said = [message["params"] for message in harness.outbox.said]
    expected = [] if sent is None else [{"progressToken": 1, **sent}]
    message = {"message": "caf?"} if version > "2024-11-05" else {}
    assert said == [*expected, {"progressToken": 1, "progress": 99, **message}]
    whole = sent is not None and ("total" in sent or total is None)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == (not whole)


@ALL
@pytest.mark.parametrize(
    ("extra", "data"),
    [
        ({"user": 1, "path": Path("/x")}, {"message": "m", "user": 1, "path": "/x"}),
        ({}, {"message": "m"}),
        ("more", {"message": "m", "extra": "more"}),
    ],
)
async def test_a_log_message_has_its_extra_beside_it(version: str, extra: Any, data: Any) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def speak(ctx: Context) -> None:
        for say in (ctx.info, ctx.warning, ctx.error):
            await say("m", extra=extra)
        await ctx.log("alert", "m", extra=extra)

    harness = DispatchHarness(mcp, version)
    harness.log_level = "info"
    assert [params["data"] for params in await said(harness, "speak")] == [data] * 4
