"""The client against servers written by hand: a function from request to answer."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio

from trio_mcp.cli.mcp_client import connect
from trio_mcp.cli.refusals import _WRONG_PATH, AuthorizationRequired, HttpRefused, Refused
from trio_mcp.http_client import AnswerCut, CannotConnect, Exchange, Head, Headers, HttpClientError

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
HANG = b"<hang>"
CUT = b"<cut>"

Answer = tuple[int, dict[str, str], Sequence[bytes]]
Script = Callable[[str, dict[str, str], dict[str, Any]], Answer]

Answers = Mapping[str, Callable[[dict[str, Any]], Answer]]


class ScriptedTransport:
    """Asks a function for each answer and remembers what was sent."""

    def __init__(self, script: Script) -> None:
        self.sent: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self._script = script

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        request = (method, {name.lower(): value for name, value in headers}, json.loads(body or b"{}"))
        self.sent.append(request)
        yield ScriptedExchange(*self._script(*request))

    def methods(self) -> list[str]:
        return [message.get("method", http) for http, _, message in self.sent]


class ScriptedExchange:
    def __init__(self, status: int, headers: dict[str, str], chunks: Sequence[bytes]) -> None:
        self._head = Head(status, headers)
        self._chunks = iter(chunks)

    async def head(self) -> Head:
        await trio.lowlevel.checkpoint()
        return self._head

    async def receive(self) -> bytes:
        chunk = next(self._chunks, b"")
        if chunk == HANG:
            await trio.sleep_forever()
        if chunk == CUT:
            raise AnswerCut("broke off")
        await trio.lowlevel.checkpoint()
        return chunk


def result(message: dict[str, Any], value: dict[str, Any], headers: Mapping[str, str] = JSON) -> Answer:
    body = {"jsonrpc": "2.0", "id": message["id"], "result": value}
    return 200, dict(headers), [json.dumps(body).encode()]


def error(message: dict[str, Any], code: int, status: int, text: str = "no") -> Answer:
    body = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}
    return status, JSON, [json.dumps(body).encode()]


def event(message: dict[str, Any], id: str = "") -> bytes:
    return (
        (f"id: {id}\n" if id else "").encode()
        + b"data: "
        + json.dumps({"jsonrpc": "2.0", **message}).encode()
        + b"\n\n"
    )


def modern(answers: Answers) -> Script:
    def script(http: str, headers: dict[str, str], message: dict[str, Any]) -> Answer:
        if message["method"] == "server/discover":
            meta = {"io.modelcontextprotocol/serverInfo": {"name": "m", "version": "1"}}
            found = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": meta}
            return result(message, found)
        return answers[message["method"]](message)

    return script


def legacy(answers: Answers, probe: int = 400) -> Script:
    def script(http: str, headers: dict[str, str], message: dict[str, Any]) -> Answer:
        match message.get("method", http):
            case "server/discover":
                return error(message, -32022, probe)
            case "initialize":
                found = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "l"}}
                return result(message, found, {**JSON, "mcp-session-id": "node.abc"})
            case "notifications/initialized":
                return 202, {}, []
            case "DELETE":
                return 204, {}, []
            case method:
                return answers[method](message)

    return script


TOOL = {"name": "add", "inputSchema": {"properties": {"a": {"x-mcp-header": "A"}}}}
DONE = {"content": [{"type": "text", "text": "3"}]}


async def test_a_modern_server_is_used_without_a_session() -> None:
    transport = ScriptedTransport(modern({"tools/call": lambda message: result(message, DONE)}))
    async with connect(transport) as client:
        assert (client.version, client.server_info["name"]) == ("2026-07-28", "m")
        assert await client.call_tool(TOOL, {"a": 1}) == DONE
    assert transport.methods() == ["server/discover", "tools/call"]
    headers = transport.sent[1][1]
    assert (headers["mcp-method"], headers["mcp-name"], headers["mcp-param-a"]) == ("tools/call", "add", "1")
    assert headers["mcp-protocol-version"] == "2026-07-28"


@pytest.mark.parametrize("probe", [200, 400, 404])
async def test_a_server_that_refuses_the_probe_gets_a_session_and_a_goodbye(probe: int) -> None:
    transport = ScriptedTransport(legacy({"tools/call": lambda message: result(message, DONE)}, probe))
    async with connect(transport) as client:
        assert (client.version, client.server_info["name"]) == ("2025-06-18", "l")
        assert await client.call_tool(TOOL, {}) == DONE
    expected = ["server/discover", "initialize", "notifications/initialized", "tools/call", "DELETE"]
    assert transport.methods() == expected
    for _, headers, _ in transport.sent[2:]:
        assert headers["mcp-session-id"] == "node.abc"
        assert headers["mcp-protocol-version"] == "2025-06-18"


async def test_asked_for_a_session_it_does_not_probe() -> None:
    transport = ScriptedTransport(legacy({}))
    async with connect(transport, legacy=True):
        pass
    assert transport.methods() == ["initialize", "notifications/initialized", "DELETE"]


async def test_a_server_that_stumbles_over_the_probe_is_not_taken_for_an_old_one() -> None:
    with pytest.raises(HttpRefused, match="the server answered 503: busy"):
        async with connect(ScriptedTransport(lambda *request: (503, {"content-type": "text/plain"}, [b"busy"]))):
            pass


@pytest.mark.parametrize(
    ("status", "challenge", "told", "login_offered"),
    [
        (401, "Bearer realm=x", "^the server wants a token$", False),
        (401, 'Bearer resource_metadata="https://a/m"', "^the server wants a token$", True),
        (401, "Basic realm=x", "401: Basic realm=x", False),
        (403, "Bearer realm=x", "403: Bearer realm=x", False),
    ],
)
async def test_a_challenge_is_its_own_error(status: int, challenge: str, told: str, login_offered: bool) -> None:
    transport = ScriptedTransport(lambda *request: (status, {**JSON, "www-authenticate": challenge}, [b"{}"]))
    with pytest.raises(AuthorizationRequired, match=told) as caught:
        async with connect(transport):
            pass
    assert caught.value.login_offered is login_offered


async def test_a_403_without_a_challenge_says_what_the_server_says() -> None:
    transport = ScriptedTransport(
        lambda http, headers, message: error(message, -32600, 403, "Origin is not allowed here")
    )
    with pytest.raises(Refused, match="Origin is not allowed here"):
        async with connect(transport):
            pass


async def test_a_redirect_is_told_not_followed() -> None:
    transport = ScriptedTransport(lambda *request: (307, {"location": "https://b/mcp"}, []))
    with pytest.raises(HttpRefused, match="307: it is at https://b/mcp"):
        async with connect(transport):
            pass


async def test_notifications_of_a_stream_are_heard_before_its_answer() -> None:
    def call(message: dict[str, Any]) -> Answer:
        progress = {"method": "notifications/progress", "params": {"progress": 1}}
        stream = event(progress) + event({"id": message["id"], "result": DONE}) + event(progress)
        return 200, SSE, [b": hello\n\n", stream[:20], stream[20:]]

    heard: list[tuple[str, dict[str, Any]]] = []
    transport = ScriptedTransport(modern({"tools/call": call}))
    async with connect(transport, notify=lambda *each: heard.append(each)) as client:
        assert await client.call_tool(TOOL, {}) == DONE
    assert heard == [("notifications/progress", {"progress": 1})]


async def test_what_a_legacy_server_asks_is_answered() -> None:
    def call(message: dict[str, Any]) -> Answer:
        asked = [event({"id": 7, "method": "ping"}), event({"id": 8, "method": "roots/list"})]
        return 200, SSE, [*asked, event({"id": message["id"], "result": DONE})]

    def script(http: str, headers: dict[str, str], message: dict[str, Any]) -> Answer:
        if http == "POST" and "method" not in message:
            return 202, {}, []
        return legacy({"tools/call": call})(http, headers, message)

    transport = ScriptedTransport(script)
    async with connect(transport, legacy=True) as client:
        assert await client.call_tool(TOOL, {}) == DONE
    answers = [message for http, _, message in transport.sent if http == "POST" and "method" not in message]
    assert answers[0] == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert answers[1]["error"]["code"] == -32601


@pytest.mark.parametrize("end", [[], [CUT]])
async def test_a_legacy_stream_that_ends_early_is_resumed_where_it_ended(autojump_clock: Any, end: list[bytes]) -> None:
    transport = ScriptedTransport(
        legacy(
            {
                "tools/call": lambda message: (200, SSE, [b"retry: 250\nid: e.1.0\ndata:\n\n", *end]),
                "GET": lambda message: (200, SSE, [event({"id": call_id(transport), "result": DONE}, "e.1.1")]),
            }
        )
    )

    def call_id(transport: ScriptedTransport) -> int:
        return next(int(message["id"]) for _, _, message in transport.sent if message.get("method") == "tools/call")

    async with connect(transport, legacy=True) as client:
        started = trio.current_time()
        assert await client.call_tool(TOOL, {}) == DONE
        assert trio.current_time() - started == pytest.approx(0.25)
    resumed = next(headers for http, headers, _ in transport.sent if http == "GET")
    assert resumed["last-event-id"] == "e.1.0"


async def test_a_server_cannot_make_a_person_wait_longer_than_they_said(autojump_clock: Any) -> None:
    opening = b"retry: 86400000\nid: e.1.0\ndata:\n\n"
    transport = ScriptedTransport(
        legacy({name: lambda message: (200, SSE, [opening]) for name in ("tools/call", "GET")})
    )
    started = trio.current_time()
    with pytest.raises(HttpClientError, match="ended without an answer"):
        async with connect(transport, legacy=True, silence=10) as client:
            await client.call_tool(TOOL, {})
    assert trio.current_time() - started == pytest.approx(50)


async def test_a_stream_that_never_answers_is_given_up(autojump_clock: Any) -> None:
    answers = {name: lambda message: (200, SSE, [b"id: e.1.0\ndata:\n\n"]) for name in ("tools/call", "GET")}
    transport = ScriptedTransport(legacy(answers))
    with pytest.raises(HttpClientError, match="ended without an answer"):
        async with connect(transport, legacy=True) as client:
            await client.call_tool(TOOL, {})
    assert transport.methods().count("GET") == 5
    assert transport.methods()[-1] == "DELETE"


async def test_a_modern_stream_that_ends_early_is_an_error_at_once() -> None:
    transport = ScriptedTransport(modern({"tools/call": lambda message: (200, SSE, [])}))
    with pytest.raises(HttpClientError, match="ended without an answer"):
        async with connect(transport) as client:
            await client.call_tool(TOOL, {})


async def test_silence_is_borne_so_long_and_no_longer(autojump_clock: Any) -> None:
    transport = ScriptedTransport(modern({"tools/call": lambda message: (200, SSE, [b": comment\n\n", HANG])}))
    started = trio.current_time()
    with pytest.raises(HttpClientError, match="silent for 30 s"):
        async with connect(transport, silence=30) as client:
            await client.call_tool(TOOL, {})
    assert trio.current_time() - started == pytest.approx(30)


async def test_every_page_of_a_list_is_fetched() -> None:
    def page(message: dict[str, Any]) -> Answer:
        cursor = message["params"].get("cursor")
        more = {} if cursor else {"nextCursor": "next"}
        return result(message, {"tools": [{"name": cursor or "first"}], **more})

    async with connect(ScriptedTransport(modern({"tools/list": page}))) as client:
        assert [tool["name"] for tool in await client.list_all("tools/list", "tools")] == ["first", "next"]


async def test_pages_that_never_end_are_an_error() -> None:
    transport = ScriptedTransport(
        modern({"tools/list": lambda message: result(message, {"tools": [], "nextCursor": "same"})})
    )
    with pytest.raises(HttpClientError, match="never end: the cursor"):
        async with connect(transport) as client:
            await client.list_all("tools/list", "tools")


async def test_a_json_rpc_error_is_raised_with_its_code() -> None:
    transport = ScriptedTransport(
        modern({"tools/call": lambda message: error(message, -32602, 400, "Unknown tool: add")})
    )
    with pytest.raises(Refused, match=r"Unknown tool: add \(-32602\)") as caught:
        async with connect(transport) as client:
            await client.call_tool(TOOL, {})
    assert (caught.value.code, caught.value.status) == (-32602, 400)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, JSON, [b"<html>"]), "not JSON: b'<html>'"),
        ((200, JSON, [b"[" * 60_000]), "not JSON: b'"),
        ((404, {"content-type": "text/plain"}, [b"[" * 60_000]), "the server answered 404: ["),
        ((200, JSON, [b'{"detail":"x"}']), 'the server answered 200 with something that is not MCP: {"detail":"x"}'),
        ((404, JSON, [b'{"error":"not found"}']), 'the server answered 404: {"error":"not found"}'),
        ((200, SSE, [b"data: 5\n\n"]), "not JSON-RPC: 5"),
        ((200, SSE, [CUT]), "broke off"),
    ],
)
async def test_nonsense_is_named(answer: Answer, words: str) -> None:
    transport = ScriptedTransport(modern({"tools/call": lambda message: answer}))
    with pytest.raises((HttpClientError, HttpRefused)) as caught:
        async with connect(transport) as client:
            await client.call_tool(TOOL, {})
    assert words in str(caught.value)


TEXT = {"content-type": "text/plain"}
LOST = ". The call may or may not have been done"


@pytest.mark.parametrize(
    ("answer", "of_a_list", "of_a_call"),
    [
        ((200, SSE, [CUT]), ". Try again", LOST),
        ((200, JSON, [CUT]), ". Try again", LOST),
        ((200, SSE, []), ". Try again", LOST),
        ((200, SSE, [HANG]), ". Wait longer with --timeout", f"{LOST}. Wait longer with --timeout"),
        ((502, TEXT, [b"Bad Gateway"]), ". Try again", LOST),
        ((503, TEXT, []), ". Try again", LOST),
        ((503, {**TEXT, "retry-after": "5"}, []), ". Try again in 5 s", ". Try again in 5 s"),
        ((429, {**TEXT, "retry-after": "5"}, []), ". Try again in 5 s", ". Try again in 5 s"),
        ((413, TEXT, []), "", ""),
        ((404, TEXT, []), _WRONG_PATH, _WRONG_PATH),
    ],
)
async def test_where_no_answer_tells_what_became_of_a_call_the_error_says_so(
    answer: Answer, of_a_list: str, of_a_call: str, autojump_clock: Any
) -> None:
    transport = ScriptedTransport(modern({each: lambda message: answer for each in ("tools/list", "tools/call")}))

    async def step_after(method: str) -> str:
        with pytest.raises((HttpClientError, HttpRefused)) as caught:
            async with connect(transport) as client:
                await client.request(method, {"name": "add", "arguments": {}})
        return cast("HttpClientError | HttpRefused", caught.value).next_step

    assert (await step_after("tools/list"), await step_after("tools/call")) == (of_a_list, of_a_call)


async def test_a_server_that_dies_while_its_stream_is_resumed_may_have_done_the_call(autojump_clock: Any) -> None:
    class Dies(ScriptedTransport):
        @asynccontextmanager
        async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
            if method == "GET":
                raise CannotConnect("cannot reach it", ". Does it run?")
            async with super().exchange(method, headers, body) as exchange:
                yield exchange

    transport = Dies(legacy({"tools/call": lambda message: (200, SSE, [b"id: e.1.0\ndata:\n\n", CUT])}))
    with pytest.raises(AnswerCut, match="ended without an answer; then: cannot reach it") as caught:
        async with connect(transport, legacy=True) as client:
            await client.call_tool(TOOL, {})
    assert caught.value.next_step == LOST


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, JSON, [b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"its node is gone"}}']), "then: its node is gone"),
        ((503, TEXT, [b"no server"]), "then: the server answered 503: no server"),
    ],
)  # fmt: skip
async def test_a_session_that_is_gone_when_its_stream_is_resumed_had_a_call(
    answer: Answer, words: str, autojump_clock: Any
) -> None:
    cut = (200, SSE, [b"id: e.1.0\ndata:\n\n", CUT])
    transport = ScriptedTransport(legacy({"tools/call": lambda message: cut, "GET": lambda message: answer}))
    with pytest.raises(AnswerCut, match=words) as caught:
        async with connect(transport, legacy=True) as client:
            await client.call_tool(TOOL, {})
    assert caught.value.next_step == LOST


@pytest.mark.parametrize(("status", "step"), [(500, "try --legacy"), (502, "Try again"), (503, "Try again")])
async def test_only_what_the_server_itself_fails_at_may_be_for_its_age(status: int, step: str) -> None:
    with pytest.raises(HttpRefused) as caught:
        async with connect(ScriptedTransport(lambda *request: (status, TEXT, []))):
            pass
    assert step in caught.value.next_step


async def test_a_goodbye_nobody_answers_is_not_waited_for(autojump_clock: Any) -> None:
    class Deaf(ScriptedExchange):
        async def head(self) -> Head:
            await trio.sleep_forever()
            raise AssertionError

    class DeafToGoodbyes(ScriptedTransport):
        @asynccontextmanager
        async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
            async with super().exchange(method, headers, body) as exchange:
                yield Deaf(200, {}, []) if method == "DELETE" else exchange

    started = trio.current_time()
    async with connect(DeafToGoodbyes(legacy({})), legacy=True):
        pass
    assert trio.current_time() - started == pytest.approx(2)
