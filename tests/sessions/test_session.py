"""One session: its requests, its questions, its subscriptions, and what is left when it closes."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.sessions.doubles import ANN, OFFER, Listener, ask, open_hub, replies
from trio_mcp import Context, MCPServer
from trio_mcp.dispatch.listening import MAX_SUBSCRIPTIONS
from trio_mcp.dispatch.options import Options
from trio_mcp.protocol.errors import (
    ClientRefused,
    ClientTimeout,
    ProtocolError,
    RemoteProtocolError,
    SessionClosed,
    SessionError,
)
from trio_mcp.protocol.jsonrpc import InvalidMessage, Notification, Reply, Request, decode, encode
from trio_mcp.sessions.calls import TooManyRequests
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.subscriptions import MAX_SUBSCRIBED_BYTES
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.event_log import EventLog

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


@asynccontextmanager
async def a_session(mcp: MCPServer | None = None, options: Options | None = None) -> AsyncIterator[LiveSession]:
    async with open_hub(mcp or server(), options) as hub:
        yield await hub.open(OFFER, ANN)


def server() -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def sleep(ctx: Context) -> None:
        await ctx.info("sleeping")
        await trio.sleep_forever()

    @mcp.tool
    async def who() -> str:
        return user.get()

    @mcp.tool
    async def name(ctx: Context) -> str:
        answer = await ctx.elicit("name?", {"type": "object", "properties": {"name": {"type": "string"}}})
        return str(answer.data)

    mcp.add_resource(lambda: "x", "x://y", name="y")
    return mcp


def call(tool: str, id: int | str = 1, **meta: Any) -> Request:
    return Request(id, "tools/call", {"name": tool, "_meta": meta})


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


def said(log: EventLog) -> list[Any]:
    return [decode(entry.data) for entry in log.after(0)]


def error_of(messages: list[Any]) -> dict[str, Any]:
    error: dict[str, Any] = messages[-1]["error"]
    return error


# Tasks and contexts


async def test_a_request_does_not_inherit_the_context_of_who_accepted_it() -> None:
    user.set("the first user of the connection")
    async with a_session() as session:
        assert (await ask(session, "tools/call", {"name": "who"}))["content"][0]["text"] == "nobody"


async def test_a_background_task_does_not_inherit_the_context_of_who_started_it() -> None:
    seen: list[str] = []

    async def look(prefix: str) -> None:
        seen.append(prefix + user.get())

    user.set("somebody")
    async with a_session() as session:
        session.start_soon(look, "it is ")
        await settled()
    assert seen == ["it is nobody"]


async def test_a_background_task_is_cancelled_with_its_session() -> None:
    ended: list[bool] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async with a_session() as session:
        session.start_soon(work)
        await settled()
        session.close(CloseReason.DELETED)
        await settled()
        assert ended == [True]


async def test_what_is_not_open_yet_starts_nothing() -> None:
    mcp = server()
    from trio_mcp.dispatch.call import Client

    session = LiveSession("node.x", mcp.service(), ANN, Client({}, {}), "2025-11-25")
    with pytest.raises(SessionError, match="is not open yet"):
        session.start_soon(trio.sleep_forever)
    with pytest.raises(SessionError, match="is not open yet"):
        session.accept([call("who")], who=session.principal, streams=True)
    assert repr(session) == "<Session x 2025-11-25 0 in flight>"


# Requests


async def test_a_cancelled_request_is_answered_and_the_others_go_on() -> None:
    async with a_session() as session:
        first = session.accept([call("sleep", 1)], who=session.principal, streams=True)
        second = session.accept([call("sleep", "1")], who=session.principal, streams=True)
        await settled()
        session.receive(Notification("notifications/cancelled", {"requestId": 1, "reason": "enough"}))
        assert error_of(await replies(first)) == {"code": -32800, "message": "Request cancelled"}
        assert not second.ended
        assert len(session.calls) == 1


@pytest.mark.parametrize("named", [None, 2, "1", 1.0, True, [], {}])
async def test_a_cancellation_of_nothing_in_flight_is_ignored(named: object) -> None:
    async with a_session() as session:
        session.accept([call("sleep", 1)], who=session.principal, streams=True)
        await settled()
        session.receive(Notification("notifications/cancelled", {"requestId": named}))
        session.receive(Notification("notifications/cancelled", {}))
        await settled()
        assert len(session.calls) == 1


async def test_an_id_in_flight_is_not_taken_twice_and_is_free_again_afterwards() -> None:
    async with a_session() as session:
        session.accept([call("sleep", 1)], who=session.principal, streams=True)
        with pytest.raises(RemoteProtocolError, match="in flight already"):
            session.accept([call("who", 1)], who=session.principal, streams=True)
        with pytest.raises(RemoteProtocolError, match="in flight already"):
            session.accept([call("who", 2), call("who", 2)], who=session.principal, streams=True, batched=True)
        assert len(session.calls) == 1
        await settled()
        session.receive(Notification("notifications/cancelled", {"requestId": 1}))
        await settled()
        assert "content" in await ask(session, "tools/call", {"name": "who"}, id=1)


async def test_requests_in_flight_are_bounded() -> None:
    async with a_session(options=Options(max_in_flight=2)) as session:
        session.accept([call("sleep", 1)], who=session.principal, streams=True)
        with pytest.raises(TooManyRequests, match="More than 2"):
            session.accept([call("sleep", 2), call("sleep", 3)], who=session.principal, streams=True, batched=True)
        session.accept([call("sleep", 2)], who=session.principal, streams=True)
        with pytest.raises(TooManyRequests):
            session.accept([call("who", 3)], who=session.principal, streams=True)


async def test_a_batch_is_answered_on_one_stream_with_its_faults() -> None:
    async with a_session() as session:
        fault = InvalidMessage(-32600, "no message", "bad")
        log = session.accept(
            [call("who", 1), call("who", 2)], who=session.principal, streams=True, batched=True, faults=[fault]
        )
        answers = await replies(log)
        assert {answer["id"] for answer in answers} == {1, 2, "bad"}
        assert log.ended


async def test_faults_alone_are_answered_at_once() -> None:
    async with a_session() as session:
        fault = InvalidMessage(-32600, "no message")
        log = session.accept([], who=session.principal, streams=True, batched=True, faults=[fault])
        answer = log.answer()
        assert answer is not None
        assert answer.body.startswith(b"[")


async def test_closing_answers_what_is_in_flight_on_its_own_stream_and_ends_every_stream() -> None:
    async with a_session() as session:
        log = session.accept([call("sleep")], who=session.principal, streams=True)
        await settled()
        session.close(CloseReason.DELETED)
        await settled()
        assert error_of(await replies(log)) == {"code": -32603, "message": "The session was closed"}
        assert session.streams.standalone.ended
        with pytest.raises(SessionClosed, match="deleted"):
            session.accept([call("who", 2)], who=session.principal, streams=True)


async def test_a_crash_answers_what_is_in_flight_too() -> None:
    async def crash() -> None:
        raise ValueError("boom")

    async with a_session() as session:
        log = session.accept([call("sleep")], who=session.principal, streams=True)
        await settled()
        session.start_soon(crash)
        await settled()
        assert error_of(await replies(log))["message"] == "The session was closed"
        assert session.closed_because == "crashed"


async def test_notifications_for_a_client_that_takes_only_json_go_to_its_own_stream() -> None:
    async with a_session() as session:
        listener = Listener(session)
        log = session.accept([call("sleep")], who=session.principal, streams=False)
        await settled()
        assert [message["params"]["data"] for message in listener.heard()] == ["sleeping"]
        assert not log.streams


async def test_a_handshake_is_noted_and_an_unknown_notification_ignored() -> None:
    async with a_session() as session:
        assert not session.initialized
        session.receive(Notification("notifications/nonsense", {}))
        session.receive(Notification("notifications/initialized", {}))
        assert session.initialized


# Overflow


async def test_a_stream_that_overflows_closes_the_session() -> None:
    async with a_session() as session:
        log = session.accept([call("sleep")], who=session.principal, streams=True)
        await settled()
        log.backlog.max_events = 3
        outbox = next(iter(session.calls._in_flight.values())).outbox
        for _ in range(4):
            outbox.emit(b"{}", Kind.VITAL)
        assert session.closed_because == "overflow"
        await settled()
        assert log.ended


async def test_what_a_session_tells_never_overflows_its_own_stream() -> None:
    async with a_session() as session:
        listener = Listener(session)
        session.streams.standalone.backlog.max_events = 2
        for n in range(5):
            session.subscribe(f"x://{n}")
            await session.user_session.notify_resource_updated(f"x://{n}")
            await session.user_session.log("error", n)
        assert session.closed_because is None
        assert listener.heard()[-1]["params"]["data"] == 4


async def test_a_reply_that_overflows_closes_the_session() -> None:
    async with a_session() as session:
        log = session.accept([call("sleep")], who=session.principal, streams=True)
        await settled()
        log.backlog.max_events = 0
        session.receive(Notification("notifications/cancelled", {"requestId": 1}))
        await settled()
        assert session.closed_because == "overflow"


async def test_closing_its_stream_for_polling_ends_the_reader_of_that_call_only() -> None:
    mcp = server()

    @mcp.tool
    async def poll(ctx: Context) -> None:
        await ctx.close_stream()
        await trio.sleep_forever()

    async with a_session(mcp) as session:
        log = session.accept([call("poll")], who=session.principal, streams=True)
        json_only = session.accept([call("poll", 2)], who=session.principal, streams=False)
        await settled()
        assert await log.open_reader().batch() == []
        assert not log.ended
        assert not json_only.streams


# Questions to the client


async def asked(session: LiveSession, log: EventLog) -> Request:
    await settled()
    request = said(log)[-1]
    assert isinstance(request, Request)
    return request


async def test_a_question_goes_on_the_stream_of_its_request_and_its_answer_to_who_asked() -> None:
    async with a_session() as session:
        logs = [session.accept([call("name", each)], who=session.principal, streams=True) for each in (1, 2)]
        first, second = [await asked(session, log) for log in logs]
        assert first.method == "elicitation/create"
        assert first.id != second.id
        session.receive(Reply(second.id, {"action": "accept", "content": {"name": "bob"}}, None))
        session.receive(Reply(first.id, {"action": "accept", "content": {"name": "ann"}}, None))
        for log, name in zip(logs, ["ann", "bob"], strict=True):
            assert name in (await replies(log))[-1]["result"]["content"][0]["text"]


async def test_an_answer_may_carry_its_id_as_text() -> None:
    """Clients have sent "1" for 1."""
    async with a_session() as session:
        log = session.accept([call("name")], who=session.principal, streams=True)
        question = await asked(session, log)
        session.receive(Reply(str(question.id), {"action": "accept", "content": {"name": "ann"}}, None))
        assert "ann" in (await replies(log))[-1]["result"]["content"][0]["text"]


@pytest.mark.parametrize("id", ["01x", 99, "x", "", "٣", "9" * 5_000])
async def test_an_answer_to_nothing_that_was_asked_is_ignored(id: Any) -> None:
    async with a_session() as session:
        log = session.accept([call("name")], who=session.principal, streams=True)
        question = await asked(session, log)
        session.receive(Reply(id, {"action": "cancel"}, None))
        await settled()
        assert len(session.calls) == 1
        session.receive(Reply(question.id, {"action": "cancel"}, None))
        await settled()
        assert len(session.calls) == 0
        session.receive(Reply(question.id, {"action": "cancel"}, None))


async def test_a_client_that_does_not_answer_in_time_is_told_and_the_handler_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_session(options=Options(request_timeout=600)) as session:
        log = session.accept([call("name")], who=session.principal, streams=True)
        messages = await replies(log)
        assert trio.current_time() == pytest.approx(600)
        question, cancelled, reply = messages
        assert cancelled["method"] == "notifications/cancelled"
        assert cancelled["params"]["requestId"] == question["id"]
        assert reply["result"]["isError"]


async def test_a_question_of_a_cancelled_request_is_withdrawn() -> None:
    async with a_session() as session:
        log = session.accept([call("name", 1)], who=session.principal, streams=True)
        question = await asked(session, log)
        session.receive(Notification("notifications/cancelled", {"requestId": 1}))
        *_, cancelled, _ = await replies(log)
        assert cancelled["params"]["requestId"] == question.id


def answering(session: LiveSession, error: dict[str, Any]) -> Callable[[bytes, Kind], None]:
    """A client that answers every question with an error."""

    def emit(data: bytes, kind: Kind) -> None:
        request = decode(data)
        if isinstance(request, Request):
            session.receive(Reply(request.id, None, error))

    return emit


async def test_an_error_of_the_client_is_a_refusal() -> None:
    async with a_session() as session:
        errors: list[tuple[dict[str, Any], int]] = [
            ({"code": -1, "message": "no", "data": 1}, -1),
            ({}, 0),
            ({"code": "x"}, 0),
        ]
        for error, code in errors:
            with pytest.raises(ClientRefused) as refused:
                await session.ask(answering(session, error), "roots/list", {})
            assert refused.value.code == code


async def test_a_question_that_cannot_be_written_is_not_waited_for() -> None:
    async with a_session() as session:
        with pytest.raises(TypeError):
            await session.ask(lambda *_: None, "roots/list", {"x": object()})
        assert not session._questions._pending


async def test_patience_is_counted_per_question(autojump_clock: trio.testing.MockClock) -> None:
    async with a_session(options=Options(request_timeout=5)) as session:
        with pytest.raises(ClientTimeout, match="within 5 s"):
            await session.ask(lambda *_: None, "roots/list", {})


async def test_a_client_that_takes_only_json_cannot_be_asked() -> None:
    async with a_session() as session:
        log = session.accept([call("name")], who=session.principal, streams=False)
        await settled()
        answer = log.answer()
        assert answer is not None
        assert b"accepts only application/json" in answer.body


# What a session tells


async def test_only_subscribed_resources_and_what_is_below_them_are_told() -> None:
    async with a_session() as session:
        listener = Listener(session)
        await ask(session, "resources/subscribe", {"uri": "file:///dir/"})
        for uri in ("file:///dir/", "file:///dir/a", "file:///directory", "x://y"):
            await session.user_session.notify_resource_updated(uri)
        assert [message["params"]["uri"] for message in listener.heard()] == ["file:///dir/", "file:///dir/a"]
        await ask(session, "resources/unsubscribe", {"uri": "file:///dir/"})
        await session.user_session.notify_resource_updated("file:///dir/")
        assert listener.heard() == []


async def test_subscriptions_are_bounded_but_the_same_one_again_is_none() -> None:
    async with a_session() as session:
        for n in range(MAX_SUBSCRIPTIONS):
            session.subscribe(f"x://{n}")
        session.subscribe("x://0")
        with pytest.raises(ProtocolError, match="may subscribe to"):
            session.subscribe("x://one-more")


async def test_the_bytes_of_all_subscriptions_together_are_bounded() -> None:
    async with a_session() as session:
        for n in range(15):
            session.subscribe(f"x://{n:02}/" + "u" * 4_200)
        with pytest.raises(ProtocolError, match=f"URIs of {MAX_SUBSCRIBED_BYTES} bytes together"):
            session.subscribe("x://one-more/" + "u" * 4_200)
        session.subscribe("x://00/" + "u" * 4_200)
        with pytest.raises(ProtocolError, match="bytes together"):
            session.subscribe("\0" * 1_000)
        session.subscribe("x://short")
        assert len(encode(session.snapshot().subscriptions)) <= MAX_SUBSCRIBED_BYTES


async def test_changes_of_lists_are_told_on_the_sessions_own_stream() -> None:
    async with a_session() as session:
        listener = Listener(session)
        await session.user_session.notify_tools_changed()
        await session.user_session.notify_prompts_changed()
        await session.user_session.notify_resources_changed()
        await session.user_session.notify_tools_changed()
        assert [message["method"].split("/")[1] for message in listener.heard()] == [
            "tools",
            "prompts",
            "resources",
            "tools",
        ]


async def test_a_change_anywhere_on_the_server_reaches_every_session_until_it_closes() -> None:
    mcp = server()
    async with open_hub(mcp) as hub:
        one, other = await hub.open(OFFER, ANN), await hub.open(OFFER, ANN)
        listeners = [Listener(one), Listener(other)]
        mcp.remove_tool("who")
        await settled()
        assert [len(listener.heard()) for listener in listeners] == [1, 1]
        one.close(CloseReason.DELETED)
        await settled()
        mcp.notify_list_changed("tools")
        await settled()
        assert [len(listener.heard()) for listener in listeners] == [0, 1]


async def test_a_session_logs_from_its_level_up() -> None:
    async with a_session() as session:
        listener = Listener(session)
        await session.user_session.log("debug", "unheard")
        await session.user_session.log("info", "heard", logger="me")
        await ask(session, "logging/setLevel", {"level": "debug"})
        await session.user_session.log("debug", {"now": "heard"})
        assert [message["params"] for message in listener.heard()] == [
            {"level": "info", "data": "heard", "logger": "me"},
            {"level": "debug", "data": {"now": "heard"}},
        ]
        with pytest.raises(ValueError, match="not 'loud'"):
            await session.user_session.log("loud", "x")  # type: ignore[arg-type]


async def test_a_session_logs_anything_and_drops_what_cannot_be_said_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    circular: list[object] = []
    circular.append(circular)
    async with a_session() as session:
        listener = Listener(session)
        for data in (ValueError("no"), circular, circular, {"path": b"\xff\xfe"}):
            await session.user_session.log("info", data)
        assert [message["params"]["data"] for message in listener.heard()] == ["no", {"path": "//4="}]
    assert [record.getMessage() for record in caplog.records].count("a log message was not sent") == 1


async def test_an_answer_that_is_not_read_yet_outlasts_the_session_that_leaves() -> None:
    async with open_hub(MCPServer("x")) as hub:
        session = await hub.open(OFFER, ANN)
        log = session.accept([Request(1, "ping", {})], who=session.principal, streams=True)
        session.streams.make_resumable(log, 1)
        reader = log.open_reader()
        await session.calls.wait_done()
        session.hand_off()
        (answer,) = await reader.batch()
        assert b'"result"' in answer.data
        assert reader.ends_with(answer)


async def test_a_session_that_is_being_released_or_is_closed_records_no_change() -> None:
    """The record says `released`, or there is a tombstone: to write it again would undo that."""
    async with a_session() as session:
        recorded: list[str] = []
        session.on_change = lambda: recorded.append(session.log_level)
        session.log_level = "debug"
        session.release_pending = trio.Event()
        session.log_level = "error"
        session.release_pending = None
        session.log_level = "alert"
        session.close(CloseReason.DELETED)
        session.log_level = "info"
        assert recorded == ["debug", "alert"]
