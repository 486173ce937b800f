import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_mcp.serving.loader import TargetError, load_target

SERVER = "from trio_mcp import MCPServer\n{name} = MCPServer('made by the test')\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def refusal(target: str) -> str:
    with pytest.raises(TargetError) as caught:
        load_target(target)
    return str(caught.value)


@pytest.mark.parametrize("name", ["mcp", "server", "app"])
def test_a_file_is_searched_for_the_usual_names(project: Path, name: str) -> None:
    (project / "made.py").write_text(SERVER.format(name=name))
    assert load_target("made.py").name == "made by the test"


@pytest.mark.parametrize("target", ["made.py:weather", "pkg.inner:weather", "pkg.inner:holder.weather"])
def test_a_name_picks_one_object(project: Path, target: str) -> None:
    holder = "class holder: pass\nholder.weather = weather\n"
    (project / "made.py").write_text(SERVER.format(name="weather"))
    (project / "pkg").mkdir()
    (project / "pkg" / "inner.py").write_text(SERVER.format(name="weather") + holder)
    assert load_target(target).name == "made by the test"


def test_a_file_may_import_what_lies_beside_it_and_does_not_run_its_main_guard(project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "beside_it.py").write_text("NAME = 'mcp'\n")
    guard = "import beside_it\nif __name__ == '__main__':\n    raise SystemExit('ran as a script')\n"
    (project / "sub" / "made.py").write_text(SERVER.format(name="mcp") + guard)
    assert load_target("sub/made.py").name == "made by the test"


def test_a_file_called_like_a_loaded_module_does_not_replace_it(project: Path) -> None:
    (project / "json.py").write_text(SERVER.format(name="mcp"))
    json = sys.modules["json"]
    load_target("json.py")
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("servr.py", ["there is no file servr.py", "Did you mean server.py?"]),
        ("sub/nothing.py", ["there is no file sub/nothing.py"]),
        ("sub", ["sub is a directory", "sub/server.py"]),
        ("./server", ["there is no file server"]),
        ("server.py:", ["names no server", "as in server.py:mcp"]),
        ("not a module", ["names no server"]),
        ("no.such.module", ["there is no module 'no'"]),
        ("serverless", ["there is no module 'serverless'"]),
    ],
)
def test_a_target_that_is_not_there_is_told_with_the_next_step(project: Path, target: str, words: list[str]) -> None:
    (project / "server.py").write_text("")
    (project / "sub").mkdir()
    text = refusal(target)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("", "made.py", ["has no server called mcp, server or app", "Make one: mcp = MCPServer"]),
        (SERVER.format(name="weather"), "made.py", ["Name it: made.py:weather"]),
        (SERVER.format(name="weather"), "made.py:wether", ["has no 'wether'", "Did you mean made.py:weather?"]),
        ("mcp = 5\n", "made.py", ["made.py:mcp is of the type int, not an MCPServer"]),
        ("def mcp(): ...\n", "made.py", ["is a function or class"]),
        ("class mcp: ...\n", "made.py", ["is a function or class"]),
        ("async def app(scope, receive, send): ...\n", "made.py", ["made.py:app is an ASGI app", "mount MCP into it"]),
        (
            "from starlette.applications import Starlette\nsite = Starlette()\n",
            "made.py:site",
            ["made.py:site is an ASGI app", "mount MCP into it", "Mounting in the README"],
        ),
        ("class FastMCP: ...\nmcp = FastMCP()\n", "made.py", ["of another package", "from trio_mcp import MCPServer"]),
    ],
)
def test_what_is_not_a_server_is_told_with_the_next_step(
    project: Path, source: str, target: str, words: list[str]
) -> None:
    (project / "made.py").write_text(source)
    text = refusal(target)
    assert all(word in text for word in words), text


def test_a_file_with_relative_imports_is_told_its_name_as_a_module(project: Path) -> None:
    package = project / "shop" / "web"
    package.mkdir(parents=True)
    (package / "made.py").write_text("from .util import mcp\n")
    assert "needs an __init__.py beside it, and is named as a module: web.made" in refusal("shop/web/made.py")
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    assert refusal("shop/web/made.py").endswith(f"is named as a module: shop.web.made, in {project.resolve()}")


def test_an_error_of_their_code_shows_their_frames_and_no_others(project: Path) -> None:
    (project / "helper.py").write_text("import json\ndef read():\n    return json.loads('{')\n")
    (project / "made.py").write_text("import helper\nsettings = helper.read()\n")
    text = refusal("made.py")
    assert text.startswith("made.py raised while it was imported:\nTraceback (most recent call last):\n")
    assert text.count("File ") == 2
    assert "made.py" in text
    assert "helper.py" in text
    assert "JSONDecodeError" in text.splitlines()[-1]


def test_a_syntax_error_shows_the_line(project: Path) -> None:
    (project / "made.py").write_text("mcp = MCPServer(\n")
    text = refusal("made.py")
    assert "made.py" in text
    assert "mcp = MCPServer(" in text
    assert "SyntaxError" in text.splitlines()[-1]
    assert "Traceback" not in text


def test_a_missing_dependency_is_named_with_the_python_it_is_missing_from(project: Path) -> None:
    (project / "made.py").write_text("import surely_not_installed\n")
    text = refusal("made.py")
    assert f"made.py imports 'surely_not_installed', which is not installed for {sys.executable}" in text
    assert text.count("File ") == 1


def test_a_module_that_runs_its_server_is_told_about_the_guard(project: Path) -> None:
    (project / "made.py").write_text("from trio_mcp import MCPServer\nmcp = MCPServer('x')\nmcp.run()\n")
    assert "made.py calls mcp.run() while it is imported" in refusal("made.py")
    assert "__main__" in refusal("made.py")


def test_a_script_without_a_guard_that_exits_is_told_about_the_guard(project: Path) -> None:
    (project / "made.py").write_text("import sys\nsys.exit(3)\n")
    assert "called sys.exit(3)" in refusal("made.py")
    assert "__main__" in refusal("made.py")
