"""Asking the client, in both eras: a request and its answer, or `input_required` and a retry."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from pydantic import BaseModel

from tests.doubles import DispatchHarness
from trio_mcp import Context, MCPServer
from trio_mcp.auth.keyring import Keyring
from trio_mcp.auth.principal import Principal
from trio_mcp.dispatch.options import Options
from trio_mcp.protocol.errors import ClientRefused
from trio_mcp.protocol.types import SamplingMessage, TextContent

MODERN = "2026-07-28"
EVERYTHING: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}},
    "roots": {},
}
ACCEPTED = {"action": "accept", "content": {"name": "ann"}}


class Who(BaseModel):
    """A form."""

    name: str


@pytest.fixture
def runs() -> list[str]:
    return []


@pytest.fixture
def mcp(runs: list[str]) -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def greet(ctx: Context, greeting: str = "hello") -> str:
        runs.append("greet")
        answer = await ctx.elicit("who are you?", Who)
        return f"{greeting} {answer.data.name}" if answer.data else answer.action

    @mcp.tool
    async def twice(ctx: Context) -> str:
        runs.append("start")
        first = await ctx.elicit("first?", Who)
        runs.append("between")
        second = await ctx.elicit("second?", Who)
        assert first.data is not None
        assert second.data is not None
        return f"{first.data.name} {second.data.name}"

    @mcp.tool
    async def at_once(ctx: Context) -> str:
        names: dict[str, str] = {}

        async def ask(key: str) -> None:
            answer = await ctx.elicit(key, Who, key=key)
            assert answer.data is not None
            names[key] = answer.data.name

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "a")
            nursery.start_soon(ask, "b")
        return names["a"] + names["b"]

    @mcp.tool
    async def visit(ctx: Context) -> str:
        return (await ctx.elicit_url("sign in", "https://example.com/x")).action

    @mcp.tool
    async def think(ctx: Context, with_tools: bool = False) -> str:
        tools = [{"name": "add", "inputSchema": {"type": "object"}}] if with_tools else None
        messages = [SamplingMessage(role="user", content=TextContent(text="hm"))]
        result = await ctx.sample(messages, max_tokens=5, system_prompt="be brief", tools=tools)
        content = result.content
        return content.text if isinstance(content, TextContent) else "?"

    @mcp.tool
    async def wonder(ctx: Context) -> str:
        await ctx.sample("hm", max_tokens=5)
        return "ok"

    @mcp.tool
    async def roots(ctx: Context) -> list[str]:
        return [root.uri for root in await ctx.list_roots()]

    @mcp.prompt
    async def ask_prompt(ctx: Context, x: str = "") -> str:
        return (await ctx.elicit("who?", Who)).action

    @mcp.resource("x://ask")
    async def ask_resource(ctx: Context) -> str:
        return (await ctx.elicit("who?", Who)).action

    @mcp.completion("ask_prompt", "x")
    async def complete(value: str, ctx: Context) -> list[str]:
        return [(await ctx.elicit("who?", Who)).action]

    return mcp


def harness(mcp: MCPServer, version: str = MODERN, **capabilities: Any) -> DispatchHarness:
    made = DispatchHarness(mcp, version)
    made.capabilities = capabilities or EVERYTHING
    return made


def call(name: str, asked: dict[str, Any] | None = None, **answers: Any) -> dict[str, Any]:
    """Params of a call, or of its retry with the answers to what the last round asked."""
    params: dict[str, Any] = {"name": name, "arguments": {}}
    if asked is not None:
        params |= {"requestState": asked["requestState"], "inputResponses": answers}
    return params


def text(result: dict[str, Any]) -> str:
    found: str = result["content"][0]["text"]
    return found


async def test_questions_are_taken_as_fastmcp_spells_them(mcp: MCPServer) -> None:
    asked: list[dict[str, Any]] = []

    @mcp.tool
    async def spelt(ctx: Context) -> str:
        await ctx.sample("hm")
        await ctx.sample("hm", max_tokens=None)
        answer = await ctx.elicit("who?", response_type=Who)
        wrong: list[dict[str, Any]] = [{}, {"schema": Who, "response_type": Who}]
        for arguments in wrong:
            with pytest.raises(TypeError, match=r"write ctx\.elicit\(message, Model\)"):
                await ctx.elicit("who?", **arguments)
        return answer.data.name if answer.data else answer.action

    def answer(method: str, params: dict[str, Any]) -> Any:
        asked.append(params)
        if method == "elicitation/create":
            return ACCEPTED
        return {"role": "assistant", "model": "m", "content": {"type": "text", "text": "aha"}}

    result = await harness(mcp, "2025-11-25").result("tools/call", call("spelt"), answer=answer)
    assert text(result) == "ann"
    assert [params.get("maxTokens") for params in asked] == [512, 512, None]
    assert asked[2]["requestedSchema"]["required"] == ["name"]


# Legacy


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_on_a_session_the_handler_waits_for_the_answer(mcp: MCPServer, runs: list[str], version: str) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(method: str, params: dict[str, Any]) -> Any:
        asked.append((method, params))
        return ACCEPTED

    result = await harness(mcp, version).result("tools/call", call("greet"), answer=answer)
    assert text(result) == "hello ann"
    assert runs == ["greet"]
    ((method, params),) = asked
    assert method == "elicitation/create"
    assert params["message"] == "who are you?"
    assert params["requestedSchema"]["required"] == ["name"]


async def test_every_question_has_its_method_and_params(mcp: MCPServer) -> None:
    asked: dict[str, dict[str, Any]] = {}

    def answer(method: str, params: dict[str, Any]) -> Any:
        asked[method] = params
        return {
            "elicitation/create": {"action": "accept"},
            "sampling/createMessage": {"role": "assistant", "model": "m", "content": {"type": "text", "text": "aha"}},
            "roots/list": {"roots": [{"uri": "file:///x"}]},
        }[method]

    legacy = harness(mcp, "2025-11-25")
    assert text(await legacy.result("tools/call", call("visit"), answer=answer)) == "accept"
    assert asked["elicitation/create"]["mode"] == "url"
    assert len(asked["elicitation/create"]["elicitationId"]) >= 16
    assert text(await legacy.result("tools/call", call("think"), answer=answer)) == "aha"
    assert asked["sampling/createMessage"] == {
        "messages": [{"role": "user", "content": {"type": "text", "text": "hm"}}],
        "maxTokens": 5,
        "systemPrompt": "be brief",
    }
    await legacy.result("tools/call", call("wonder"), answer=answer)
    assert asked["sampling/createMessage"]["messages"] == [{"role": "user", "content": {"type": "text", "text": "hm"}}]
    assert "file:///x" in text(await legacy.result("tools/call", call("roots"), answer=answer))


@pytest.mark.parametrize(
    ("tool", "answer"),
    [
        ("greet", "text"),
        ("greet", {"action": "accept", "content": {}}),
        ("visit", {"action": []}),
        ("think", {"role": "assistant"}),
        ("roots", {}),
        ("roots", {"roots": [{}]}),
    ],
)
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_an_answer_of_the_wrong_form_is_the_tools_failure_and_no_crash(
    mcp: MCPServer, tool: str, answer: Any, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = harness(mcp, version)
    if version == MODERN:
        asked = await made.result("tools/call", call(tool))
        if not isinstance(answer, dict):
            return
        result = await made.result("tools/call", call(tool, asked, q1=answer))
    else:
        result = await made.result("tools/call", call(tool), answer=lambda *_: answer)
    assert result["isError"]
    assert not caplog.records


async def test_a_refusal_of_the_client_is_the_tools_failure(mcp: MCPServer) -> None:
    def answer(*_: Any) -> Any:
        raise ClientRefused(-1, "the user rejected it")

    result = await harness(mcp, "2025-11-25").result("tools/call", call("think"), answer=answer)
    assert result["isError"]
    assert "the user rejected it" in text(result)


NEEDS = [
    ("greet", {}, {"elicitation": {}}),
    ("greet", {"elicitation": {"url": {}}}, {"elicitation": {"form": {}}}),
    ("greet", {"elicitation": None}, {"elicitation": {}}),
    ("visit", {"elicitation": {}}, {"elicitation": {"url": {}}}),
    ("think", {"elicitation": {}}, {"sampling": {}}),
    ("roots", {"sampling": {}}, {"roots": {}}),
]


@pytest.mark.parametrize(("tool", "declared", "required"), NEEDS)
async def test_a_client_is_not_asked_for_what_it_did_not_declare(
    mcp: MCPServer, tool: str, declared: dict[str, Any], required: dict[str, Any]
) -> None:
    modern = harness(mcp, MODERN)
    modern.capabilities = declared
    error = await modern.error("tools/call", call(tool))
    assert error["code"] == -32021
    assert error["data"] == {"requiredCapabilities": required}
    legacy = harness(mcp, "2025-11-25")
    legacy.capabilities = declared
    result = await legacy.result("tools/call", call(tool))
    assert result["isError"]
    assert next(iter(required)) in text(result)


async def test_tools_in_sampling_are_a_capability_of_their_own(mcp: MCPServer) -> None:
    params = {"name": "think", "arguments": {"with_tools": True}}
    error = await harness(mcp, MODERN, sampling={}).error("tools/call", params)
    assert error["data"] == {"requiredCapabilities": {"sampling": {"tools": {}}}}


@pytest.mark.parametrize("declared", [{}, {"form": {}}, {"form": {}, "url": {}}, {"applyDefaults": True}])
async def test_who_names_no_mode_shows_forms(mcp: MCPServer, declared: dict[str, Any]) -> None:
    assert (await harness(mcp, MODERN, elicitation=declared).result("tools/call", call("greet")))["inputRequests"]


# Modern


async def test_a_modern_call_ends_with_the_question_and_its_retry_brings_the_answer(
    mcp: MCPServer, runs: list[str]
) -> None:
    made = harness(mcp)
    asked = await made.result("tools/call", call("greet"))
    assert asked["resultType"] == "input_required"
    assert "ttlMs" not in asked
    question = asked["inputRequests"]["q1"]
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "who are you?"
    assert question.keys() == {"method", "params"}
    answered = await made.result("tools/call", call("greet", asked, q1=ACCEPTED))
    assert text(answered) == "hello ann"
    assert runs == ["greet", "greet"]


@pytest.mark.parametrize(
    ("method", "params"),
    [("prompts/get", {"name": "ask_prompt"}), ("resources/read", {"uri": "x://ask"})],
)
async def test_prompts_and_resources_ask_as_tools_do(mcp: MCPServer, method: str, params: dict[str, Any]) -> None:
    made = harness(mcp)
    asked = await made.result(method, params)
    retry = {"requestState": asked["requestState"], "inputResponses": {"q1": {"action": "decline"}}}
    assert "decline" in str(await made.result(method, params | retry))


async def test_no_other_method_asks(mcp: MCPServer) -> None:
    params = {"ref": {"type": "ref/prompt", "name": "ask_prompt"}, "argument": {"name": "x", "value": ""}}
    error = await harness(mcp).error("completion/complete", params)
    assert "cannot ask" in error["message"]


async def test_answers_are_kept_from_round_to_round_without_the_client_sending_them_again(
    mcp: MCPServer, runs: list[str]
) -> None:
    made = harness(mcp)
    first = await made.result("tools/call", call("twice"))
    assert list(first["inputRequests"]) == ["q1"]
    second = await made.result("tools/call", call("twice", first, q1=ACCEPTED))
    assert list(second["inputRequests"]) == ["q2"]
    other = {"action": "accept", "content": {"name": "bob"}}
    assert text(await made.result("tools/call", call("twice", second, q2=other))) == "ann bob"
    assert runs == ["start", "start", "between", "start", "between"]


async def test_an_answer_given_once_cannot_be_changed_later(mcp: MCPServer) -> None:
    made = harness(mcp)
    first = await made.result("tools/call", call("twice"))
    second = await made.result("tools/call", call("twice", first, q1=ACCEPTED))
    forged = {"action": "accept", "content": {"name": "eve"}}
    assert text(await made.result("tools/call", call("twice", second, q1=forged, q2=forged))) == "ann eve"


async def test_questions_asked_at_the_same_time_go_out_together(mcp: MCPServer) -> None:
    made = harness(mcp)
    asked = await made.result("tools/call", call("at_once"))
    assert set(asked["inputRequests"]) == {"a", "b"}
    again = await made.result("tools/call", call("at_once", asked, a=ACCEPTED, unknown=ACCEPTED))
    assert set(again["inputRequests"]) == {"b"}
    assert text(await made.result("tools/call", call("at_once", again, b=ACCEPTED))) == "annann"


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_two_questions_with_one_key_are_the_handlers_mistake_in_both_eras(
    mcp: MCPServer, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    @mcp.tool
    async def clumsy(ctx: Context) -> None:
        await ctx.elicit("x", Who, key="k")
        await ctx.elicit("y", Who, key="k")

    made = harness(mcp, version)
    if version == MODERN:
        asked = await made.result("tools/call", call("clumsy"))
        result = await made.result("tools/call", call("clumsy", asked, k=ACCEPTED))
    else:
        result = await made.result("tools/call", call("clumsy"), answer=lambda *_: ACCEPTED)
    assert result["isError"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "Two questions have the key 'k'" in str(record.exc_info[1])


async def test_a_question_that_is_no_json_is_the_handlers_error_and_no_more(
    mcp: MCPServer, caplog: pytest.LogCaptureFixture
) -> None:
    @mcp.tool
    async def clumsy(ctx: Context) -> None:
        await ctx.sample("x", max_tokens=1, metadata={"x": object()})

    assert (await harness(mcp).result("tools/call", call("clumsy")))["isError"]
    assert len(caplog.records) == 1


async def test_cleanup_runs_when_the_handler_ends_at_its_question(mcp: MCPServer, runs: list[str]) -> None:
    @mcp.tool
    async def tidy(ctx: Context) -> None:
        try:
            await ctx.elicit("x", Who)
        finally:
            runs.append("tidied")

    await harness(mcp).result("tools/call", call("tidy"))
    assert runs == ["tidied"]


# What comes back is attacker-controlled


async def refused(made: DispatchHarness, params: dict[str, Any]) -> None:
    error = await made.error("tools/call", params)
    assert error["code"] == -32602
    assert "requestState is not for this request" in error["message"]
    assert made.outbox.status == 400


async def test_an_altered_state_is_refused_before_the_handler_runs(mcp: MCPServer, runs: list[str]) -> None:
    made = harness(mcp)
    asked = await made.result("tools/call", call("greet"))
    runs.clear()
    state = asked["requestState"]
    for altered in ("", "x", state[:-2], state[:20] + ("A" if state[20] != "A" else "B") + state[21:]):
        await refused(made, call("greet", {"requestState": altered}, q1=ACCEPTED))
    assert not runs


async def test_a_state_is_refused_for_another_tool_or_with_other_arguments(mcp: MCPServer) -> None:
    made = harness(mcp)
    asked = await made.result("tools/call", call("greet"))
    await refused(made, call("twice", asked, q1=ACCEPTED))
    await refused(made, call("greet", asked, q1=ACCEPTED) | {"arguments": {"greeting": "bye"}})
    prompt = {"name": "greet", "requestState": asked["requestState"], "inputResponses": {}}
    assert (await made.error("prompts/get", prompt))["code"] == -32602


async def test_the_order_of_arguments_does_not_matter(mcp: MCPServer) -> None:
    @mcp.tool
    async def pair(a: dict[str, int], b: int, ctx: Context) -> str:
        return (await ctx.elicit("x", Who)).action

    made = harness(mcp)
    asked = await made.result("tools/call", {"name": "pair", "arguments": {"a": {"x": 1, "y": 2}, "b": 3}})
    retry = call("pair", asked, q1=ACCEPTED) | {"arguments": {"b": 3, "a": {"y": 2, "x": 1}}}
    assert text(await made.result("tools/call", retry)) == "accept"


async def test_a_handler_may_change_its_arguments_before_it_asks(mcp: MCPServer) -> None:
    @mcp.tool
    async def sorter(items: Any, ctx: Context) -> str:
        items.sort()
        return (await ctx.elicit("x", Who)).action

    made = harness(mcp)

    def params(**more: Any) -> dict[str, Any]:
        return {"name": "sorter", "arguments": {"items": [3, 1, 2]}, **more}

    asked = await made.result("tools/call", params())
    retry = params(requestState=asked["requestState"], inputResponses={"q1": ACCEPTED})
    assert text(await made.result("tools/call", retry)) == "accept"


async def test_a_state_belongs_to_the_principal_it_was_given_to(mcp: MCPServer) -> None:
    made = harness(mcp)
    made.principal = Principal("ann")
    asked = await made.result("tools/call", call("greet"))
    made.principal = Principal("bob")
    await refused(made, call("greet", asked, q1=ACCEPTED))
    made.principal = Principal("ann")
    assert text(await made.result("tools/call", call("greet", asked, q1=ACCEPTED))) == "hello ann"


async def test_a_state_belongs_to_the_client_it_was_given_to_whatever_its_token_claims(mcp: MCPServer) -> None:
    made = harness(mcp)
    made.principal = Principal("ann", client_id="c1", claims={"scope": "read"})
    asked = await made.result("tools/call", call("greet"))
    made.principal = Principal("ann", client_id="c2", claims={"scope": "read"})
    await refused(made, call("greet", asked, q1=ACCEPTED))
    made.principal = Principal("ann", client_id="c1", claims={"scope": "write"})
    assert text(await made.result("tools/call", call("greet", asked, q1=ACCEPTED))) == "hello ann"


def first_release(patch: pytest.MonkeyPatch, principal: Principal) -> None:
    """From here on the server knows the principal as nodes of the release before do: by the digest of form 1 alone."""
    first = "5c1fd9322071981551347ca3c2e2c089"
    assert principal == Principal("ann")
    patch.setattr(Principal, "known_as", (first,))
    patch.setattr(Principal, "recorded_as", first)


@pytest.mark.parametrize("newer_asks", [True, False], ids=["sealed by the newer", "sealed by the older"])
async def test_a_state_is_good_at_a_node_of_the_release_before_and_of_this_one(
    mcp: MCPServer, monkeypatch: pytest.MonkeyPatch, newer_asks: bool
) -> None:
    made = harness(mcp)
    made.principal = Principal("ann")
    with monkeypatch.context() as before:
        if not newer_asks:
            first_release(before, made.principal)
        asked = await made.result("tools/call", call("greet"))
    with monkeypatch.context() as before:
        if newer_asks:
            first_release(before, made.principal)
        assert text(await made.result("tools/call", call("greet", asked, q1=ACCEPTED))) == "hello ann"
    for other in (Principal("bob"), Principal("ann", client_id="c1")):
        made.principal = other
        await refused(made, call("greet", asked, q1=ACCEPTED))


async def test_a_state_that_a_later_release_sealed_is_good_for_its_principal(
    mcp: MCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = harness(mcp)
    made.principal = Principal("ann")
    with monkeypatch.context() as later:
        later.setattr(Principal, "recorded_as", made.principal.digest)
        asked = await made.result("tools/call", call("greet"))
    assert text(await made.result("tools/call", call("greet", asked, q1=ACCEPTED))) == "hello ann"


async def test_a_state_is_good_for_its_time_and_no_longer(mcp: MCPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = DispatchHarness(mcp, MODERN, options=Options(request_state_ttl=60))
    made.capabilities = EVERYTHING
    asked = await made.result("tools/call", call("greet"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 58)
    await made.result("tools/call", call("greet", asked, q1=ACCEPTED))
    monkeypatch.setattr(time, "time", lambda: now + 62)
    await refused(made, call("greet", asked, q1=ACCEPTED))


async def test_a_retry_is_served_by_any_server_with_the_same_secret(mcp: MCPServer) -> None:
    here, there, stranger = harness(mcp), harness(mcp), harness(mcp)
    here.service.keyring = there.service.keyring = Keyring([b"shared"])
    asked = await here.result("tools/call", call("greet"))
    assert text(await there.result("tools/call", call("greet", asked, q1=ACCEPTED))) == "hello ann"
    await refused(stranger, call("greet", asked, q1=ACCEPTED))


@pytest.mark.parametrize(
    "bad",
    [
        {"inputResponses": []},
        {"inputResponses": {"q1": None}},
        {"inputResponses": {"q1": "accept"}},
        {"requestState": 1},
        {"requestState": {}},
    ],
)
async def test_a_malformed_retry_is_invalid_params_even_for_a_tool_that_would_not_ask(
    mcp: MCPServer, bad: dict[str, Any]
) -> None:
    @mcp.tool
    async def plain() -> None:
        """Asks nothing."""

    assert (await harness(mcp).error("tools/call", call("plain") | bad))["code"] == -32602


async def test_a_null_state_is_none(mcp: MCPServer) -> None:
    asked = await harness(mcp).result("tools/call", call("greet") | {"requestState": None})
    assert asked["resultType"] == "input_required"


async def test_on_a_session_retry_params_mean_nothing(mcp: MCPServer) -> None:
    params = call("greet") | {"requestState": "x", "inputResponses": []}
    result = await harness(mcp, "2025-11-25").result("tools/call", params, answer=lambda *_: ACCEPTED)
    assert text(result) == "hello ann"


async def test_a_question_asked_inside_a_shield_is_refused_at_once_not_left_hanging() -> None:
    mcp = MCPServer("shielded")

    @mcp.tool
    async def stubborn(ctx: Context) -> str:
        with trio.CancelScope(shield=True):
            await ctx.elicit("Who?", Who)
        return "answered"

    harness = DispatchHarness(mcp, MODERN)
    harness.capabilities = EVERYTHING
    with trio.fail_after(60):
        result = await harness.tool("stubborn")
    assert result["isError"] is True
    assert "shielded cancel scope" in result["content"][0]["text"]
