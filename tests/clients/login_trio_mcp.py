"""Our own command line logs in: `login_trio_mcp.py URL legacy|auto`; the environment's BROWSER is the browser."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from renewal import seconds_left


class Shell:
    """Runs our commands with a home of their own."""

    def __init__(self, home: str, url: str, mode: str) -> None:
        self._environ = {**os.environ, "XDG_STATE_HOME": home}
        self._url = url
        self._era = ["--legacy"] if mode == "legacy" else []

    def run(self, command: str, *words: str) -> "subprocess.CompletedProcess[str]":
        era = [] if command in ("login", "logout") else self._era
        return subprocess.run(
            [sys.executable, "-m", "trio_mcp", command, self._url, *words, *era],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def good(self, command: str, *words: str) -> str:
        done = self.run(command, *words)
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-500:]}"
        return done.stdout.strip()

    def login(self) -> None:
        self.good("login")

    def list(self) -> None:
        assert "add" in self.good("list")

    def call(self) -> None:
        assert self.good("call", "add", "a=1", "b=2") == "3"

    def refresh(self) -> None:
        first = int(self.good("call", "expires"))
        if left := seconds_left(first):
            time.sleep(left)
            assert int(self.good("call", "expires")) > first

    def step_up(self) -> None:
        """Its error names the login that is needed; nothing opens a browser by itself."""
        done = self.run("call", "write", "text=a")
        assert done.returncode == 3, done
        assert "--scope 'mcp:read mcp:write'" in done.stderr, done.stderr
        self.good("login", "--scope", "mcp:read mcp:write")
        assert self.good("call", "write", "text=a") == "wrote a"


def verdict(step: Callable[[], None]) -> str:
    try:
        step()
    except (AssertionError, ValueError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        shell = Shell(home, *sys.argv[1:])
        steps = {
            "login": shell.login,
            "list": shell.list,
            "call": shell.call,
            "refresh": shell.refresh,
            "step-up": shell.step_up,
        }
        print(json.dumps({name: verdict(step) for name, step in steps.items()}))


if __name__ == "__main__":
    main()
