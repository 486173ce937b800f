"""Every public registration call with every wrong kind of argument, and the forms that are right."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio

from tests.transports.http.harness import Wire, serving
from tests.transports.test_stdio import piped
from trio_mcp import Context, Extension, MCPServer, Session
from trio_mcp.auth import require_scopes
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.route_request import RouteRequest


def work(a: int = 1) -> int:
    """Work."""
    return a


def greet(session: Session) -> None: ...


async def nothing() -> None: ...


async def app(scope: Scope, receive: Receive, send: Send) -> None: ...


def route(request: RouteRequest) -> str:
    return ""


class Bag:
    @classmethod
    def made(cls) -> int:
        return 1

    @property
    def size(self) -> int:
        return 1

    @functools.cached_property
    def weight(self) -> int:
        return 1

    @staticmethod
    async def still() -> int:
        return 7

    def method(self) -> int:
        return 2


IN_CLASS = {name: vars(Bag)[name] for name in ("made", "size", "weight")}

REGISTER: dict[str, Callable[[Any, Any], Any]] = {
    "@tool": lambda mcp, fn: mcp.tool(fn),
    "@tool()": lambda mcp, fn: mcp.tool()(fn),
    '@tool("x")': lambda mcp, fn: mcp.tool("x")(fn),
    "add_tool": lambda mcp, fn: mcp.add_tool(fn),
    "@prompt": lambda mcp, fn: mcp.prompt(fn),
    "@prompt()": lambda mcp, fn: mcp.prompt()(fn),
    "add_prompt": lambda mcp, fn: mcp.add_prompt(fn),
    "@resource": lambda mcp, fn: mcp.resource("x://y")(fn),
    "@resource template": lambda mcp, fn: mcp.resource("x://{a}")(fn),
    "add_resource": lambda mcp, fn: mcp.add_resource(fn, "x://y"),
    "@completion": lambda mcp, fn: mcp.completion("p", "a")(fn),
    "@on_session": lambda mcp, fn: mcp.on_session(fn),
    "@on_session()": lambda mcp, fn: mcp.on_session()(fn),
    "@on_restore": lambda mcp, fn: mcp.on_restore(fn),
    "@on_restore()": lambda mcp, fn: mcp.on_restore()(fn),
    "@custom_route": lambda mcp, fn: mcp.custom_route("/x")(fn),
}
"""A function in each form a function can be given in."""

BARE = [name for name in REGISTER if name in ("@tool", "@prompt", "@on_session", "@on_restore")]


@pytest.mark.parametrize("form", REGISTER)
@pytest.mark.parametrize("kind", IN_CLASS)
def test_what_a_class_body_holds_is_refused_with_the_line_to_write_below_it(form: str, kind: str) -> None:
    with pytest.raises(
        TypeError, match=rf"(?s)its class does not exist yet\. Below the class, write mcp\..*\(Bag\.{kind}\)"
    ):
        REGISTER[form](MCPServer("t"), IN_CLASS[kind])


@pytest.mark.parametrize(
    "form", [name for name in REGISTER if name not in ("@tool", "@prompt", "@on_session", "@on_restore")]
)
def test_none_is_no_function(form: str) -> None:
    with pytest.raises(TypeError, match=r"None is no function\. Write mcp\."):
        REGISTER[form](MCPServer("t"), None)


@pytest.mark.parametrize("form", REGISTER)
@pytest.mark.parametrize("given", [42, [work], {"fn": work}, b"x"], ids=["int", "list", "dict", "bytes"])
def test_what_cannot_be_called_is_refused_with_the_line_to_write(form: str, given: Any) -> None:
    with pytest.raises(TypeError, match=r"is no function\. Write mcp\."):
        REGISTER[form](MCPServer("t"), given)


@pytest.mark.parametrize("form", REGISTER)
def test_the_coroutine_of_a_call_is_no_function(form: str) -> None:
    coroutine: Coroutine[Any, Any, None] = nothing()
    with pytest.raises(TypeError, match=r"nothing\(\) is the coroutine of a call"):
        REGISTER[form](MCPServer("t"), coroutine)


@pytest.mark.parametrize("form", REGISTER)
def test_a_generator_is_refused(form: str) -> None:
    def generator(a: Any = None) -> Any:
        yield a

    with pytest.raises(ValueError, match="generator"):
        REGISTER[form](MCPServer("t"), generator)


@pytest.mark.parametrize("form", REGISTER)
def test_a_method_without_its_object_is_refused(form: str) -> None:
    for fn in (lambda self, other, more: 1, lambda cls, other, more: 1):
        fn.__name__, fn.__qualname__ = "method", "Bag.method"
        with pytest.raises((TypeError, ValueError), match=r"register the bound method|is called with"):
            REGISTER[form](MCPServer("t"), fn)


@pytest.mark.parametrize("form", ["@on_session", "@on_session()", "@on_restore", "@on_restore()", "@custom_route"])
@pytest.mark.parametrize("fn", [nothing, lambda a, b: None, lambda *, key: None], ids=["none", "two", "keyword"])
def test_what_is_called_with_one_thing_takes_one_thing(form: str, fn: Any) -> None:
    with pytest.raises(TypeError, match=r"is called with the (session|request) alone"):
        REGISTER[form](MCPServer("t"), fn)


def nothing_typed(value: str) -> list[str]:
    return []


def advertise(article: str, tone: str = "loud") -> str:
    return f"{article} {tone}"


WRONG: list[tuple[str, Callable[[Any], Any], type[Exception], str]] = [
    ("bare @resource", lambda m: m.resource(work), TypeError, r'@mcp\.resource\("config://app"\)'),
    ("@resource(42)", lambda m: m.resource(42), TypeError, r"a resource has a URI"),
    ("@resource(no scheme)", lambda m: m.resource("config")(work), ValueError, "needs a scheme"),
    ("add_resource turned round", lambda m: m.add_resource("x://y", work), TypeError, r"mcp\.add_resource\(fn, "),
    ("template with size", lambda m: m.resource("x://{a}", size=3)(work), TypeError, "is a template"),
    ("bare @completion", lambda m: m.completion(work), TypeError, r'@mcp\.completion\("ref", "argument"\)'),
    ("@completion()", lambda m: m.completion(), TypeError, r'@mcp\.completion\("ref", "argument"\)'),
    ("@completion(ref, 1)", lambda m: m.completion("p", 1), TypeError, "an argument of it"),
    ("completion of three", lambda m: m.completion("p", "a")(lambda r, a, c: []), ValueError, r"\(value, arguments\)"),
    (
        "completion of no argument",
        lambda m: [m.prompt(work), m.completion("work", "style")(nothing_typed)],
        ValueError,
        "work has no argument style; there are a",
    ),
    (
        "completion of a misspelt argument",
        lambda m: [m.prompt(advertise), m.completion("advertise", "ton")(nothing_typed)],
        ValueError,
        "advertise has no argument ton; did you mean tone?",
    ),
    (
        "completion of no variable",
        lambda m: [m.resource("x://{a}")(lambda a: a), m.completion("x://{a}", "b")(nothing_typed)],
        ValueError,
        r"x://\{a\} has no argument b; there are a",
    ),
    (
        "completion of a resource",
        lambda m: [m.resource("x://y")(work), m.completion("x://y", "a")(nothing_typed)],
        ValueError,
        "x://y has no argument a; there are none",
    ),
    ("bare @custom_route", lambda m: m.custom_route(route), TypeError, r'@mcp\.custom_route\("/health"\)'),
    ("route without slash", lambda m: m.custom_route("health"), ValueError, r'write @mcp\.custom_route\("/health"\)'),
    ("route with a query", lambda m: m.custom_route("/a?b=1"), ValueError, r'write @mcp\.custom_route\("/a"\)'),
    ("route with a space", lambda m: m.custom_route("/a b"), ValueError, "no path of a request"),
    ("route that is empty", lambda m: m.custom_route(""), ValueError, r'write @mcp\.custom_route\("/"\)'),
    ("route with {}", lambda m: m.custom_route("/a/{}"), ValueError, r"write \{name\}"),
    ("route with {a", lambda m: m.custom_route("/a/{a"), ValueError, r"write \{name\}"),
    ("route with {a} twice", lambda m: m.custom_route("/{a}/{a}"), ValueError, "twice"),
    ("route with {a:int}", lambda m: m.custom_route("/{a:int}"), ValueError, r"write \{a\} and convert"),
    ("route without methods", lambda m: m.custom_route("/a", []), ValueError, r'methods=\["POST"\]'),
    ("route with methods=1", lambda m: m.custom_route("/a", 1), TypeError, r'methods=\["POST"\]'),
    ("route with [1]", lambda m: m.custom_route("/a", [1]), TypeError, r'methods=\["POST"\]'),
    (
        "route that is taken",
        lambda m: [m.custom_route("/a", x)(route) for x in ("GET", "get")],
        ValueError,
        "GET already",
    ),
    ("mount without slash", lambda m: m.mount("site", app), ValueError, r'write mcp\.mount\("/site", app\)'),
    (
        "mount turned round",
        lambda m: m.mount(app, "/site"),
        TypeError,
        "a mount has a path first|no ASGI app|is an ASGI",
    ),
    ("mount of a server alone", lambda m: m.mount(MCPServer("b")), TypeError, r'mcp\.mount\("/site", app\)'),
    ("mount without an app", lambda m: m.mount("/site"), TypeError, r'mcp\.mount\("/site", app\)'),
    ("mount of a class", lambda m: m.mount("/site", MCPServer), TypeError, "not <class"),
    ("mount of a WSGI app", lambda m: m.mount("/site", lambda e, s: []), TypeError, r"\(scope, receive, send\)"),
    ("mount of 42", lambda m: m.mount("/site", 42), TypeError, "not 42"),
    ("mount of itself", lambda m: m.mount("/site", m), ValueError, "into itself"),
    ("mount that is taken", lambda m: [m.mount(p, app) for p in ("/a", "/a/")], ValueError, "at /a/ already"),
    ("two names", lambda m: m.tool("a", name="b"), TypeError, r'write @mcp\.tool\("a"\)'),
    ("two names of a prompt", lambda m: m.prompt("a", name="b"), TypeError, r'write @mcp\.prompt\("a"\)'),
    ("tool named 42", lambda m: m.tool(work, name=42), TypeError, "name= of a tool is text"),
    ("tool of a lambda", lambda m: m.tool(lambda: 1), ValueError, "give another with name="),
    ("prompt of a lambda", lambda m: m.prompt(lambda: 1), ValueError, "give one with name="),
    ("name that is taken", lambda m: [m.tool(work) for _ in range(2)], ValueError, "already registered"),
    ("description=42", lambda m: m.tool(work, description=42), TypeError, "description= of a tool is text"),
    ("meta=[]", lambda m: m.prompt(work, meta=[]), TypeError, "meta= of a prompt is an object"),
    ("icons=one", lambda m: m.tool(work, icons={"src": "x:y"}), TypeError, "a list of Icon"),
    ("size='1'", lambda m: m.resource("x://y", size="1")(work), TypeError, "number of bytes"),
    ("output_schema=False", lambda m: m.tool(work, output_schema=False), TypeError, "an object"),
    ("structured_output=1", lambda m: m.tool(work, structured_output=1), TypeError, "True or False"),
    ("annotations='x'", lambda m: m.tool(work, annotations="x"), ValueError, "is no object"),
    ("a slip", lambda m: m.tool(work, desciption="x"), TypeError, "did you mean description="),
    ("tags of FastMCP", lambda m: m.tool(tags={"a"})(work), TypeError, "meta="),
    ("timeout of FastMCP", lambda m: m.tool(timeout=3)(work), TypeError, r"trio\.fail_after"),
    ("an unknown option", lambda m: m.prompt(work, zzz=3), TypeError, "it has auth, description, hide, icons"),
    ("auth of a text", lambda m: m.tool(work, auth="mcp:write"), ValueError, r"auth= takes require_scopes\(…\)"),
    ("auth of a scope with a space", lambda m: m.prompt(work, auth=require_scopes("a b")), ValueError, "scope"),
    ("hide=1", lambda m: m.tool(work, auth=require_scopes("a"), hide=1), TypeError, "True or False"),
    ("hide= alone", lambda m: m.resource("a://b", hide=True)(work), TypeError, "give auth= too"),
    ("a list nobody has", lambda m: m.notify_list_changed("tool"), ValueError, "tools, resources, prompts"),
    ("endpoint without slash", lambda m: m.http_app(path="mcp"), ValueError, r'write http_app\(path="/mcp"\)'),
    ("endpoint of None", lambda m: m.http_app(path=None), TypeError, "a path is text"),
    ("route at the endpoint", lambda m: [m.custom_route("/mcp")(route), m.http_app()], ValueError, "MCP endpoint"),
    ("mount at the endpoint", lambda m: [m.mount("/mcp", app), m.http_app()], ValueError, "MCP endpoint"),
    ("authenticate=42", lambda m: m.http_app(authenticate=42), TypeError, "an async or sync function, not 42"),
    ('run("sse")', lambda m: m.run("sse"), ValueError, r'write mcp\.run\("http"\)'),
    ('run("sdtio")', lambda m: m.run("sdtio"), ValueError, "unknown transport 'sdtio', did you mean 'stdio'"),
    ('run("HTTP")', lambda m: m.run("HTTP"), ValueError, "did you mean 'http'"),
    ("run(streamable_http)", lambda m: m.run("streamable_http"), ValueError, "did you mean 'streamable-http'"),
    ("run(42)", lambda m: m.run(42), ValueError, "there are 'stdio' and 'http'"),
    ("run(stateless)", lambda m: m.run("http", stateless_http=True), TypeError, "stateless_http= does not exist"),
]


@pytest.mark.parametrize(("call", "error", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_can_never_work_is_refused_with_what_to_write(
    call: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(MCPServer("t"))


def generates(request: Any) -> Any:
    yield request


CONSTRUCTOR: list[tuple[dict[str, Any], str]] = [
    ({"name": 42}, "name= of MCPServer is text"),
    ({"name": None}, "name= of MCPServer is text"),
    ({"name": "a", "instructions": 3}, "instructions= of MCPServer is text"),
    ({"version": 1}, "version= of MCPServer is text"),
    ({"icons": {"src": "x:y"}}, "a list of Icon"),
    ({"options": {"page_size": 3}}, r"an Options\("),
    ({"authenticate": "token"}, "is an async or sync function, not 'token'. Write\nasync def authenticate"),
    ({"authenticate": Bag}, "is an async or sync function, not <class"),
    ({"authenticate": nothing}, "nothing is called with the request alone.*\nasync def authenticate"),
    ({"authenticate": lambda request, token: None}, "is called with the request alone: missing"),
    ({"authenticate": lambda *, request: None}, "is called with the request alone"),
    ({"authenticate": Bag().method}, r"Bag\.method is called with the request alone"),
    ({"authenticate": generates}, "generates is a generator"),
    ({"lifespan": 42}, "@asynccontextmanager"),
    ({"lifespan": nothing}, "@asynccontextmanager"),
    ({"lifespan": lambda: None}, "called with the server alone"),
    ({"lifespan": contextmanager(generates)}, "@asynccontextmanager"),
    ({"dependencies": ["httpx"]}, r"pyproject\.toml"),
    ({"stateless_http": True}, "leave it out"),
    ({"token_verifier": object()}, r"auth=BearerAuth\(verifier"),
    ({"instuctions": "x"}, "did you mean instructions="),
    ({"max_body": 3}, r'mcp\.run\("http", max_body=…\)'),
]


@pytest.mark.parametrize(
    ("arguments", "words"), CONSTRUCTOR, ids=lambda value: ",".join(value) if isinstance(value, dict) else ""
)
def test_a_server_refuses_arguments_that_mean_nothing(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        MCPServer(**arguments)


def test_an_app_refuses_what_cannot_be_asked_who_is_calling() -> None:
    mcp = MCPServer("t")
    wrongs: list[Any] = ["token", nothing, generates, nothing()]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="async def authenticate"):
            mcp.http_app(authenticate=wrong)
    mcp.auth = nothing  # type: ignore[assignment]
    with pytest.raises(TypeError, match="nothing is called with the request alone"):
        mcp.http_app()


def test_a_refused_function_leaves_nothing_behind() -> None:
    mcp = MCPServer("t")
    for _, call, error, _ in WRONG:
        if error is TypeError:
            with pytest.raises(error):
                call(mcp)
    registry = mcp.registry
    assert not any((registry.tools, registry.resources, registry.templates, registry.prompts, registry.completions))


def completing_nothing(mcp: MCPServer) -> None:
    mcp.completion("advertize", "tone")(nothing_typed)
    mcp.completion("advertise", "ton")(nothing_typed)
    mcp.completion("x://{b}", "b")(nothing_typed)
    mcp.prompt(advertise)
    mcp.completion("advertise", "tone")(nothing_typed)


LOST = [
    ("advertize", "tone", "no prompt or resource template is advertize; did you mean advertise?"),
    ("advertise", "ton", "advertise has no argument ton; did you mean tone?"),
    ("x://{b}", "b", "no prompt or resource template is x://{b}; there are advertise, late"),
]


@pytest.mark.parametrize("front", ["http", "stdio"])
async def test_the_start_warns_of_completions_that_no_client_can_ask_for(
    front: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only then: a prompt may be registered after what completes it, and by the lifespan as well."""

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        server.prompt(work, name="late")
        yield

    mcp = MCPServer("t", lifespan=lifespan)
    completing_nothing(mcp)
    mcp.completion("late", "a")(nothing_typed)
    assert not caplog.records
    async with serving(mcp) if front == "http" else piped(mcp):
        lines = [record.mcp_fields for record in caplog.records if record.message == "completion of nothing"]  # type: ignore[attr-defined]
    assert [(line["target"], line["argument"], line["reason"]) for line in lines] == LOST


@pytest.mark.parametrize("front", ["http", "stdio"])
async def test_the_start_warns_of_options_for_an_extension_that_is_not_there(
    front: str, caplog: pytest.LogCaptureFixture
) -> None:
    mcp = MCPServer("t", extensions=[Extension("com.example/rates")])
    mcp.tool(work, name="right", extensions={"com.example/rates": 1}, task=True, ui="ui://site/chart")
    mcp.tool(work, name="wrong", extensions={"com.example/rate": 1})
    async with serving(mcp) if front == "http" else piped(mcp):
        lines = [record.mcp_fields for record in caplog.records if record.message == "extension of a tool is not there"]  # type: ignore[attr-defined]
    assert [(line["tool"], line["target"]) for line in lines] == [("wrong", "com.example/rate")]
    assert lines[0]["reason"].endswith("did you mean com.example/rates?")


def test_every_decorator_takes_its_name_in_every_form() -> None:
    mcp = MCPServer("t")

    @mcp.tool(name="a")
    def first() -> int:
        return 1

    mcp.tool(work, name="b")
    mcp.tool("c")(work)
    mcp.add_tool(work, name="d", title="D")
    mcp.tool(work)
    assert [each.name for each in mcp.registry.tools] == ["a", "b", "c", "d", "work"]
    mcp.prompt(name="a")(work)
    mcp.prompt(work, name="b")
    mcp.prompt("c")(work)
    mcp.add_prompt(work, name="d")
    assert [each.name for each in mcp.registry.prompts] == ["a", "b", "c", "d"]
    mcp.resource("x://a", name="a")(work)
    mcp.resource(uri="x://b", name="b")(work)
    mcp.add_resource(work, "x://c", name="c")
    assert [each.name for each in mcp.registry.resources] == ["a", "b", "c"]
    assert first() == 1


async def test_a_static_method_is_what_it_holds() -> None:
    mcp = MCPServer("t")
    mcp.tool(vars(Bag)["still"])
    mcp.tool(Bag().method)
    async with serving(mcp) as wire:
        for name, value in (("still", 7), ("method", 2)):
            result = await wire.modern().tool(name).result()
            assert result["structuredContent"] == {"result": value}


async def test_sync_session_functions_run_in_a_thread_of_every_session() -> None:
    mcp = MCPServer("t")
    ran = trio.Event()
    threads: list[bool] = []

    @mcp.on_session()
    def greet(session: Session) -> None:
        threads.append(trio.lowlevel.in_trio_task())
        trio.from_thread.run_sync(ran.set)

    async with serving(mcp) as wire:
        assert await wire.initialize().head() == 200
        await ran.wait()
    assert threads == [False], "it ran on the event loop"


def test_an_async_generator_is_a_lifespan() -> None:
    async def lifespan(server: MCPServer) -> AsyncIterator[str]:  # noqa: ASYNC900 - it is what is tested
        yield server.name

    async def entered() -> Any:
        async with MCPServer("t", lifespan=lifespan).lifespan() as value:  # type: ignore[arg-type]
            return value

    assert trio.run(entered) == "t"


def test_a_server_needs_no_name_and_takes_instructions_second() -> None:
    assert MCPServer().name == "mcp-server"
    assert MCPServer("t", "Do as told.").instructions == "Do as told."


async def ask(wire: Wire, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    exchange = wire.start(method, {"user-agent": "me", "content-type": "application/json"}, body, path=path)
    status = await exchange.head()
    return status, await exchange.raw.body()


async def test_json_that_is_nested_too_deeply_is_a_value_error_for_a_route() -> None:
    mcp = MCPServer("t")

    @mcp.custom_route("/deep", methods="POST")
    async def deep(request: RouteRequest) -> str:
        with pytest.raises(ValueError, match="nested too deeply"):
            await request.json()
        return "refused"

    async with serving(mcp) as wire:
        assert await ask(wire, "POST", "/deep", b"[" * 60_000) == (200, b"refused")


async def test_a_route_has_parameters_a_query_headers_and_a_body() -> None:
    mcp = MCPServer("t")

    @mcp.custom_route("/items/{item}/{rest:path}", methods="POST")
    async def item(request: RouteRequest) -> dict[str, Any]:
        return {
            **request.path_params,
            **request.query_params,
            **await request.json(),
            "by": request.headers["User-Agent"],
        }

    @mcp.custom_route("/items/all/of")
    def every(request: RouteRequest) -> str:
        return f"all in a thread: {not trio.lowlevel.in_trio_task()}"

    @mcp.custom_route("/items/{item}")
    async def one(request: RouteRequest) -> str:
        return request.path_params["item"]

    async with serving(mcp) as wire:
        status, body = await ask(wire, "POST", "/items/a/b/c", b'{"n":1}')
        assert (status, body) == (200, b'{"item":"a","rest":"b/c","n":1,"by":"me"}')
        assert await ask(wire, "GET", "/items/all/of") == (200, b"all in a thread: True")
        assert await ask(wire, "GET", "/items/pear") == (200, b"pear")
        assert (await ask(wire, "GET", "/items/a/b"))[0] == 405
        assert (await ask(wire, "GET", "/items/"))[0] == 404
        assert (await ask(wire, "POST", "/items/a/b", b"0" * (4 << 20) + b"0"))[0] == 413


@pytest.mark.parametrize("inner_path", ["/", "/mcp"])
async def test_a_mount_answers_with_and_without_the_slash_at_its_end(inner_path: str) -> None:
    site = MCPServer("site")
    site.mount("/tools/", MCPServer("inner").http_app(path=inner_path))
    async with serving(site) as wire:
        below = "/tools" + inner_path.rstrip("/")
        for path in (below, below + "/"):
            found = await wire.modern().start("server/discover", path=path).result()
            assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "inner"


async def only_alice(request: HttpRequestView) -> Any:
    return None


async def test_a_mounted_server_has_the_settings_of_the_one_around_it() -> None:
    ran: list[str] = []

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        ran.append(server.name)
        yield

    site, inner = MCPServer("site"), MCPServer("inner", lifespan=lifespan)
    site.mount("/tools", inner)
    async with serving(site, allowed_hosts=["site.example"]) as wire:
        exchange = wire.modern().start("server/discover", headers={"host": "site.example"}, path="/tools/mcp")
        found = await exchange.result()
        assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "inner"
        assert await wire.modern().start("server/discover", path="/tools/mcp").head() == 421
    assert ran == ["inner"]


async def test_a_mounted_server_without_an_authenticator_has_that_of_the_one_around_it() -> None:
    site = MCPServer("site", authenticate=only_alice)
    site.mount("/tools", MCPServer("inner"))
    async with serving(site) as wire:
        assert await wire.modern().start("server/discover", path="/tools/mcp").head() == 401


async def test_a_call_knows_the_id_of_its_session() -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def which(ctx: Context) -> str | None:
        return ctx.session_id

    async with serving(mcp) as wire:
        session = await wire.open()
        assert (await session.tool("which").result())["structuredContent"] == {"result": session.id}
        assert (await wire.modern().tool("which").result())["structuredContent"] == {"result": None}
