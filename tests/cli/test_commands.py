"""What the command line accepts, and what it says about itself."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trio_mcp.cli import execute, settings_flags
from trio_mcp.cli.app import app
from trio_mcp.cli.settings_flags import markdown
from trio_mcp.protocol.versions import SERVED_VERSIONS
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.settings_report import describe

Printed = pytest.CaptureFixture[str]


def test_version_names_the_package_and_every_protocol_version(capsys: Printed) -> None:
    assert execute(["version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("trio-mcp ")
    assert all(version in out for version in SERVED_VERSIONS)


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_and_what_it_does(capsys: Printed, argv: list[str]) -> None:
    assert execute(argv) == 0
    out = capsys.readouterr().out
    for command in app:
        if not command.startswith("-"):
            assert re.search(rf"│ {command} +[A-Z]\w+ ", out), command


@pytest.mark.parametrize(
    "argv", [["nope"], ["serve"], ["call", "x.py"], ["serve", "x.py", "--nope"], ["run", "x.py", "-t", "sse"]]
)
def test_a_command_line_that_makes_no_sense_is_exit_code_2(capsys: Printed, argv: list[str]) -> None:
    assert execute(argv) == 2
    assert capsys.readouterr().err


def test_every_setting_but_the_secrets_has_a_flag(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "console", Console(width=160))  # long names are not broken
    assert execute(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for name in Settings.model_fields:
        assert (f"--{name.replace('_', '-')} " in out) == (name not in ("secret", "auth_introspection_client_secret"))


def test_flags_reach_the_settings(capsys: Printed) -> None:
    argv = ["config", "--json", "-p", "9", "-b", "a:1", "--bind", "b:2", "--no-access-log", "-l", "debug"]
    assert execute([*argv, "--drain-timeout", "2m", "--max-body", "1k"]) == 0
    rows = {row["name"]: (row["value"], row["source"]) for row in json.loads(capsys.readouterr().out)}
    assert rows["port"] == ("9", "flag --port")
    assert rows["bind"] == ("a:1,b:2", "flag --bind")
    assert rows["access_log"] == ("false", "flag --access-log")
    assert rows["log_level"] == ("DEBUG", "flag --log-level")
    assert rows["drain_timeout"] == ("2m", "flag --drain-timeout")
    assert rows["max_body"] == ("1KiB", "flag --max-body")
    assert rows["host"] == ("127.0.0.1", "default")


def test_no_flag_is_no_setting() -> None:
    assert settings_flags.given(settings_flags.NO_FLAGS) == {}


def test_config_masks_the_secret(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_MCP_SECRET", "s" * 40)
    assert execute(["config"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^secret +\(set\) +environment TRIO_MCP_SECRET$", out, re.MULTILINE)
    assert "ssss" not in out


def test_config_says_which_variables_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTH_ISSUER", "https://login.example.com")
    monkeypatch.delenv("TRIO_MCP_AUTH_ISSUER", raising=False)
    assert execute(["config"]) == 0
    assert "trio-mcp: AUTH_ISSUER is not read; did you mean TRIO_MCP_AUTH_ISSUER?\n" in capsys.readouterr().err


def test_config_of_a_target_sees_what_its_file_does_to_the_environment(
    shop: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_MCP_PORT", "1")
    path = Path(shop)
    path.write_text("import os\nos.environ['TRIO_MCP_PORT'] = '4242'\n" + path.read_text())
    assert execute(["config", shop]) == 0
    assert re.search(r"^port +4242 +environment TRIO_MCP_PORT$", capsys.readouterr().out, re.MULTILINE)


def test_a_wrong_setting_is_exit_code_2_and_names_its_source(capsys: Printed) -> None:
    assert execute(["config", "--path", "mcp"]) == 2
    assert capsys.readouterr().err.startswith("trio-mcp: path (flag --path): ")


def test_the_markdown_table_has_a_line_for_every_setting(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_MCP_PORT", "1")
    assert execute(["config", "--markdown"]) == 0
    table = capsys.readouterr().out
    assert table.rstrip("\n") == markdown(describe())
    assert "| `--port` | `TRIO_MCP_PORT`, `PORT` | `8000` | Port to listen on; 0 picks a free one. |" in table
    assert len(table.splitlines()) == len(Settings.model_fields) + 2


def test_workers_are_refused_over_stdio_with_the_reason(shop: str, capsys: Printed) -> None:
    assert execute(["run", shop, "--workers", "4"]) == 2
    assert "--workers means nothing on stdio" in capsys.readouterr().err


def test_workers_are_refused_where_the_server_has_no_name_to_import_it_by(
    shop: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_MCP_WORKERS", "4")
    assert execute(["demo"]) == 1
    assert "trio-mcp serve file.py --workers 4" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_with_workers_the_target_is_left_to_them(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor imports none of the user's code."""
    launched: list[str] = []

    def launch_workers(target: str, flags: dict[str, Any]) -> int:
        launched.append(target)
        return 0

    monkeypatch.setattr("trio_mcp.serving.workers.launch.launch_workers", launch_workers)
    (tmp_path / "node.toml").write_text("workers = 2")
    argv = {"flag": ["--workers", "2"], "environment": [], "file": ["--config", str(tmp_path / "node.toml")]}[source]
    if source == "environment":
        monkeypatch.setenv("TRIO_MCP_WORKERS", "2")
    assert execute(["serve", "no_such_file.py", *argv]) == 0
    assert launched == ["no_such_file.py"]


def test_hypercorn_that_is_not_installed_is_told_with_the_command_that_installs_it(
    shop: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.serving.launch.find_spec", lambda name: None)
    assert execute(["serve", shop, "--server", "hypercorn"]) == 1
    assert "pip install 'trio-mcp[hypercorn]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "run"])
def test_a_target_may_set_variables_of_the_environment(
    shop: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ports: list[int] = []
    monkeypatch.setenv("TRIO_MCP_PORT", "1")
    Path(shop).write_text("import os\nos.environ['TRIO_MCP_PORT'] = '2'\n" + Path(shop).read_text())
    monkeypatch.setattr(
        "trio_mcp.cli.serve.launch", lambda server, transport, settings, *pipes: ports.append(settings.port)
    )
    assert execute([command, shop]) == 0
    assert ports == [2]
