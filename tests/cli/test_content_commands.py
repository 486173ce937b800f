"""`read` and `prompt` on a TARGET in memory, in both eras."""

import json
from pathlib import Path

import pytest

from trio_mcp.cli import execute

Printed = pytest.CaptureFixture[str]

SERVER = """
from trio_mcp import MCPServer, ToolError
from trio_mcp.types import PromptMessage, TextContent

mcp = MCPServer("library")

@mcp.resource("library://rules")
async def rules() -> str:
    return "Be quiet.\\nAlways."

@mcp.resource("library://covers/{book}", mime_type="image/png")
async def cover(book: str) -> bytes:
    return b"1234"

@mcp.prompt
async def review(book: str, stars: int = 3) -> list[PromptMessage]:
    return [
        PromptMessage("user", TextContent(f"Give {book} {stars} stars.")),
        PromptMessage("assistant", TextContent("Why?")),
    ]
"""

each_era = pytest.mark.parametrize("era", [[], ["--legacy"]], ids=["modern", "legacy"])


@pytest.fixture
def library(tmp_path: Path) -> str:
    (tmp_path / "library.py").write_text(SERVER)
    return str(tmp_path / "library.py")


@each_era
def test_read_prints_text_as_it_is_and_of_bytes_how_many(library: str, capsys: Printed, era: list[str]) -> None:
    assert execute(["read", library, "library://rules", *era]) == 0
    assert capsys.readouterr() == ("Be quiet.\nAlways.\n", "")
    assert execute(["read", library, "library://covers/emma", *era]) == 0
    assert capsys.readouterr() == ("[image/png, 4 bytes]\n", "")


def test_read_as_json_has_the_bytes(library: str, capsys: Printed) -> None:
    assert execute(["read", library, "library://covers/emma", "--json"]) == 0
    (contents,) = json.loads(capsys.readouterr().out)["contents"]
    assert (contents["uri"], contents["blob"]) == ("library://covers/emma", "MTIzNA==")


@each_era
def test_prompt_prints_each_message_behind_its_role(library: str, capsys: Printed, era: list[str]) -> None:
    assert execute(["prompt", library, "review", "book=Emma", "stars=5", *era]) == 0
    assert capsys.readouterr() == ("user: Give Emma 5 stars.\nassistant: Why?\n", "")


def test_prompt_as_json_is_the_whole_result(library: str, capsys: Printed) -> None:
    assert execute(["prompt", library, "review", "book=Emma", "--json"]) == 0
    assert [each["role"] for each in json.loads(capsys.readouterr().out)["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["read", "library://nothing"], 1, "library://nothing"),
        (["prompt", "revue"], 2, "there is no prompt 'revue'. There are: review"),
        (["prompt", "review", "bok=Emma"], 2, "review has no argument bok; it has: book, stars"),
        (["prompt", "review", "Emma"], 2, "expected an argument such as city=Berlin, got 'Emma'"),
        (["prompt", "review"], 1, "book"),
    ],
)
def test_what_is_not_there_is_told(library: str, capsys: Printed, words: list[str], code: int, told: str) -> None:
    command, *rest = words
    assert execute([command, library, *rest]) == code
    out, err = capsys.readouterr()
    assert (out, told in err) == ("", True), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [(["read", "a://b"], "the server has no resources"), (["prompt", "a"], "there is no prompt 'a'. There are: none")],
)
def test_a_server_without_any_says_so(tmp_path: Path, capsys: Printed, words: list[str], told: str) -> None:
    (tmp_path / "empty.py").write_text("from trio_mcp import MCPServer\nmcp = MCPServer('empty')\n")
    command, *rest = words
    assert execute([command, str(tmp_path / "empty.py"), *rest]) == 2
    assert capsys.readouterr() == ("", f"trio-mcp: {told}\n")
