"""`inspect`, `list` and `call` on a TARGET in memory; by URL in test_processes.py."""

import json
from pathlib import Path

import pytest

from trio_mcp.cli import execute

Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize("era", [[], ["--legacy"]])
def test_call_prints_the_result_and_nothing_else_on_stdout(shop: str, capsys: Printed, era: list[str]) -> None:
    assert execute(["call", shop, "price", "name=123", "count=2", *era]) == 0
    assert capsys.readouterr() == ("6\n", "")


@pytest.mark.parametrize("era", [[], ["--legacy"]])
def test_progress_is_on_stderr_before_the_result(shop: str, capsys: Printed, era: list[str]) -> None:
    assert execute(["call", shop, "wait", *era]) == 0
    assert capsys.readouterr() == ("done\n", "progress 1/2  half way\n")


def test_call_as_json_is_the_whole_result(shop: str, capsys: Printed) -> None:
    assert execute(["call", shop, "price", "name=abc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["structuredContent"] == {"result": 3}


def test_an_error_result_is_exit_code_1_and_on_stderr(shop: str, capsys: Printed) -> None:
    assert execute(["call", shop, "refuse"]) == 1
    assert capsys.readouterr() == ("", "sold out\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prise"], "there is no tool 'prise'. There are: price, wait, refuse"),
        (["price", "abc"], "expected an argument such as city=Berlin, got 'abc'"),
        (["price", "--header", "nonsense"], "expected a header such as"),
    ],
)
def test_what_was_asked_wrongly_is_exit_code_2(shop: str, capsys: Printed, words: list[str], message: str) -> None:
    assert execute(["call", shop, *words]) == 2
    assert message in capsys.readouterr().err


def test_an_argument_that_the_tool_does_not_declare_is_refused_before_anything_runs(shop: str, capsys: Printed) -> None:
    assert execute(["call", shop, "price", "name=abc", "cuont=2"]) == 2
    assert capsys.readouterr() == ("", "trio-mcp: price has no argument cuont; it has: name, count\n")


def test_a_tool_of_a_server_without_tools_is_not_there(tmp_path: Path, capsys: Printed) -> None:
    """And the command does not quote that the server has no such method."""
    server = tmp_path / "empty.py"
    server.write_text("from trio_mcp import MCPServer\nmcp = MCPServer('empty')\n")
    assert execute(["call", str(server), "price"]) == 2
    assert capsys.readouterr().err == "trio-mcp: there is no tool 'price'. There are: none\n"


def test_a_file_that_asks_for_tokens_offers_no_login(tmp_path: Path, capsys: Printed) -> None:
    server = tmp_path / "guarded.py"
    server.write_text(
        "from trio_mcp import MCPServer\n"
        "from trio_mcp.auth import BearerAuth, StaticTokenVerifier\n"
        "mcp = MCPServer('guarded', auth=BearerAuth(StaticTokenVerifier({}), authorization_servers=['https://a.example']))\n"
    )
    assert execute(["list", str(server)]) == 3
    assert capsys.readouterr().err == "trio-mcp: the server wants a token. Send a token with --bearer @file\n"


@pytest.mark.parametrize("words", [["list"], ["list", "--legacy"], ["inspect"]])
def test_a_server_without_anything_says_so(tmp_path: Path, capsys: Printed, words: list[str]) -> None:
    server = tmp_path / "empty.py"
    server.write_text("from trio_mcp import MCPServer\nmcp = MCPServer('empty')\n")
    command, *flags = words
    assert execute([command, str(server), *flags]) == 0
    assert capsys.readouterr().err == "trio-mcp: the server offers no tools, resources or prompts\n"


def test_list_shows_what_there_is(shop: str, capsys: Printed) -> None:
    assert execute(["list", shop]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["Tools (3)", "  price   What it costs."]
    assert "stock://list" in out
    assert "Prompts (1)" in out


def test_list_as_json_has_the_definitions(shop: str, capsys: Printed) -> None:
    assert execute(["list", shop, "--json"]) == 0
    catalog = json.loads(capsys.readouterr().out)
    assert [tool["name"] for tool in catalog["tools"]] == ["price", "wait", "refuse"]
    assert catalog["resources"][0]["uri"] == "stock://list"


def test_inspect_introduces_the_server_and_shows_parameters(shop: str, capsys: Printed) -> None:
    assert execute(["inspect", shop]) == 0
    out = capsys.readouterr().out
    assert out.startswith("shop 3 - The shop\n  speaks  MCP 2026-07-28, ")
    assert "  says    Buy.\n" in out
    assert "price(name: string, count: integer = 1)  What it costs." in out


def test_inspect_as_json_has_everything(shop: str, capsys: Printed) -> None:
    assert execute(["inspect", shop, "--json", "--legacy"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["serverInfo"]["name"] == "shop"
    assert found["versions"] == ["2025-11-25"]
    assert found["capabilities"]["tools"]


@pytest.mark.parametrize(
    "target", ["127.0.0.1:8000/mcp", "localhost:8000", "[::1]:8000/mcp", "mcp.example.com/mcp", "mcp.example.com:443"]
)
def test_a_url_without_its_scheme_is_told_as_one(target: str, capsys: Printed) -> None:
    assert execute(["list", target]) == 2
    said = f"trio-mcp: {target!r} is no URL and no file: did you mean http://{target} or https://{target}?"
    assert capsys.readouterr().err.splitlines()[0] == said


@pytest.mark.parametrize("target", ["no.such.module:mcp", "no_such_file.py", "folder.d/no_such.py:mcp", "module"])
def test_what_may_be_a_module_or_file_is_looked_for(target: str, capsys: Printed) -> None:
    assert execute(["list", target]) != 0
    assert "did you mean http" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--port", "1"], "--port"),
        (["--auth-issuer", "https://a.example", "--allowed-hosts", "*"], "--allowed-hosts, --auth-issuer"),
        (["--redis-url", "redis://r"], "--redis-url"),
    ],
)
def test_flags_of_http_are_refused_on_stdio(shop: str, words: list[str], named: str, capsys: Printed) -> None:
    assert execute(["run", shop, *words]) == 2
    assert f"{named} means nothing on stdio: add `-t http`" in capsys.readouterr().err


def test_a_target_that_does_not_start_says_why(shop: str, capsys: Printed) -> None:
    with open(shop, "a") as source:
        source.write("raise RuntimeError('no database')\n")
    assert execute(["list", shop]) == 1
    err = capsys.readouterr().err
    assert err.startswith("trio-mcp: shop.py raised while it was imported:")
    assert err.rstrip().endswith("RuntimeError: no database")
    assert err.count("Traceback") == 1


def test_a_lifespan_that_fails_says_why_once(shop: str, capsys: Printed) -> None:
    with open(shop, "a") as source:
        source.write(
            "from contextlib import asynccontextmanager\n"
            "@asynccontextmanager\n"
            "async def lifespan(server):\n"
            "    raise RuntimeError('no database')\n"
            "    yield\n"
            "mcp = MCPServer('shop', lifespan=lifespan)\n"
        )
    assert execute(["list", shop]) == 1
    assert "RuntimeError: no database" in capsys.readouterr().err
