"""`Session`, as handlers and hooks meet it: one object for the session's whole time here, with the users' methods alone."""

from __future__ import annotations

import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.sessions.doubles import ANN, OFFER, ask, open_hub
from trio_mcp import Context, MCPServer, Session
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.live_session import LiveSession

USERS_NAMES = {
    "client_capabilities",
    "client_info",
    "close",
    "id",
    "log",
    "log_level",
    "notify_prompts_changed",
    "notify_resource_updated",
    "notify_resources_changed",
    "notify_tools_changed",
    "principal",
    "protocol_version",
    "restored",
    "short_id",
    "start_soon",
}


@asynccontextmanager
async def a_session(mcp: MCPServer) -> AsyncIterator[LiveSession]:
    async with open_hub(mcp) as hub:
        yield await hub.open(OFFER, ANN)


def test_it_has_the_users_names_and_no_others() -> None:
    assert {name for name in dir(Session) if not name.startswith("_")} == USERS_NAMES


async def test_hooks_and_handlers_meet_the_same_object() -> None:
    mcp, met = MCPServer("t"), list[Session | None]()

    @mcp.on_session
    async def hook(session: Session) -> None:
        met.append(session)

    @mcp.tool
    async def look(ctx: Context) -> None:
        met.append(ctx.session)

    async with a_session(mcp) as live:
        for number in (1, 2):
            await ask(live, "tools/call", {"name": "look"}, id=number)
        assert met == [live.user_session] * 3
        kept = weakref.WeakKeyDictionary({live.user_session: "basket"})
        assert kept[live.user_session] == "basket"


async def test_it_shows_what_the_live_session_is() -> None:
    async with a_session(MCPServer("t")) as live:
        session = live.user_session
        assert (session.id, session.short_id, session.principal) == (live.id, live.short_id, ANN)
        assert (session.protocol_version, session.restored) == ("2025-11-25", False)
        assert session.client_info == {"name": "test", "version": "1"}
        assert session.client_capabilities == {"elicitation": {}, "roots": {}}
        assert repr(session) == f"<Session {live.short_id} 2025-11-25 0 in flight>"
        assert live.id not in repr(session)


async def test_its_log_level_is_the_clients_and_takes_levels_alone() -> None:
    async with a_session(MCPServer("t")) as live:
        assert live.user_session.log_level == "info"
        live.user_session.log_level = "error"
        assert live.log_level == "error"
        with pytest.raises(ValueError, match="not 'loud'"):
            live.user_session.log_level = "loud"  # type: ignore[assignment]


async def test_a_misspelt_attribute_is_an_error_and_not_a_new_one() -> None:
    async with a_session(MCPServer("t")) as live:
        with pytest.raises(AttributeError):
            live.user_session.log_levl = "error"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "reason", "why"),
    [
        ("closed", "closed", None),
        ("the game is over", "closed", "the game is over"),
        ("deleted", "deleted", None),
        ("moved", "closed", "moved"),
    ],
)
async def test_user_code_that_closes_it_may_say_why(
    given: str, reason: str, why: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_mcp.sessions")
    async with a_session(MCPServer("t")) as live:
        live.user_session.close(given)
        assert live.closed_because is CloseReason(reason)
        await trio.testing.wait_all_tasks_blocked()
    (closed,) = [record for record in caplog.records if record.getMessage() == "session closed"]
    fields = vars(closed)["mcp_fields"]
    assert (fields["reason"], fields.get("why")) == (reason, why)
