"""The MCP Inspector's command line logs in: `login_inspector.py NODE INSPECTOR URL legacy|auto`; `xdg-open` is the browser.

Each command is a process. Tokens are in a file, since there is no keychain where tests run.
"""

import json
import os
import sys
import tempfile
import time

from inspector import Inspector, verdict
from renewal import seconds_left


class LoggedIn:
    """Only `login` may open a browser."""

    def __init__(self, home: str, node: str, program: str, url: str, era: str) -> None:
        self.ask = Inspector(home, node, program, url, era).ask

    def text(self, tool: str, *options: str) -> str:
        said = self.ask("--method", "tools/call", "--tool-name", tool, *options)
        return str(said["content"][0]["text"])

    def login(self) -> None:
        self.ask("--method", "tools/list")

    def list(self) -> None:
        names = [tool["name"] for tool in self.ask("--method", "tools/list", "--stored-auth-only")["tools"]]
        assert "add" in names, names

    def call(self) -> None:
        assert self.text("add", "--tool-arg", "a=1", "b=2", "--stored-auth-only") == "3"

    def refresh(self) -> None:
        first = int(self.text("expires", "--stored-auth-only"))
        if left := seconds_left(first):
            time.sleep(left)
            assert int(self.text("expires", "--stored-auth-only")) > first


def main() -> None:
    os.environ |= {"MCP_AUTO_OPEN_ENABLED": "true", "MCP_INSPECTOR_SECRET_STORE": "file"}
    with tempfile.TemporaryDirectory() as home:
        inspector = LoggedIn(home, *sys.argv[1:])
        steps = {
            "login": inspector.login,
            "list": inspector.list,
            "call": inspector.call,
            "refresh": inspector.refresh,
        }
        print(json.dumps({name: verdict(step) for name, step in steps.items()}))


if __name__ == "__main__":
    main()
