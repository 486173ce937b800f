"""The MCP Inspector's command line: `inspector.py NODE INSPECTOR URL legacy|auto`."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

COMMAND_SECONDS = 120


class Inspector:
    """One process for each question, as people use it."""

    def __init__(self, home: str, node: str, program: str, url: str, era: str) -> None:
        self._environment = {**os.environ, "HOME": home}  # it keeps files in ~/.mcp-inspector
        self._start = [node, program, "--cli", url, "--transport", "http", "--protocol-era", era, "--format", "json"]

    def ask(self, *options: str) -> Any:
        """The result it prints; an exit code other than 0 is an error (6: a tool's schema is not portable)."""
        done = subprocess.run(
            [*self._start, *options],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr.strip()[-1500:]}"
        return json.loads(done.stdout)["result"]

    def connect(self) -> None:
        self.ask("--method", "prompts/list")

    def list(self) -> None:
        names = [tool["name"] for tool in self.ask("--method", "tools/list", "--strict")["tools"]]
        assert "add" in names, names

    def call(self) -> None:
        said = self.ask("--method", "tools/call", "--tool-name", "add", "--tool-arg", "a=1", "b=2")
        text = said["content"][0]["text"]
        assert text == "3", text


def verdict(step: Callable[[], None]) -> str:
    try:
        step()
    except (AssertionError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        inspector = Inspector(home, *sys.argv[1:])
        steps = {"connect": inspector.connect, "list": inspector.list, "call": inspector.call}
        print(json.dumps({name: verdict(step) for name, step in steps.items()}))


if __name__ == "__main__":
    main()
