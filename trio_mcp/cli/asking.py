"""Questions of a server, asked on the terminal: forms and URLs of elicitation (2026-07-28 client/elicitation)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import trio

from trio_mcp.cli.arguments import parse_arguments
from trio_mcp.observability.logs import printable

__all__ = ["Asker"]


def _read_line(prompt: str) -> str | None:
    """A line from the terminal without its end; None at the end of the input. Prompts go to stderr, as all that is no result."""
    print(printable(prompt, keep="\n"), end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


class Asker:
    """Asks whoever is at the terminal. `read_line` shows a prompt and gives a line, or None at the end of the input."""

    capabilities: Mapping[str, Any] = {"elicitation": {"form": {}, "url": {}}}
    """What a client that has one declares."""

    def __init__(self, read_line: Callable[[str], str | None] = _read_line) -> None:
        self._read_line = read_line

    async def answer(self, requests: Mapping[str, Any]) -> dict[str, Any]:
        """A result for each request, by its key. What is no elicitation is cancelled: it was not declared."""
        return {key: await self._one(request) for key, request in requests.items()}

    async def _one(self, request: Any) -> dict[str, Any]:
        match request:
            case {"method": "elicitation/create", "params": {"mode": "url", "message": str(message), "url": str(url)}}:
                return await self._url(message, url)
            case {"method": "elicitation/create", "params": {"message": str(message), "requestedSchema": dict(schema)}}:
                return await self._form(message, schema)
        return {"action": "cancel"}

    async def _url(self, message: str, url: str) -> dict[str, Any]:
        said = await self._ask(f"{message}\n  {url}\n  opened? [y/N] ")
        if said is None:
            return {"action": "cancel"}
        return {"action": "accept" if said.strip().lower() in ("y", "yes") else "decline"}

    async def _form(self, message: str, schema: dict[str, Any]) -> dict[str, Any]:
        """One line for each field. An empty one leaves it out, the end of the input (Ctrl+D) cancels the question."""
        required = schema.get("required") or ()
        words: list[str] = []
        prompt = f"{message}\n"
        for name, field in (schema.get("properties") or {}).items():
            said = await self._ask(f"{prompt}  {_label(name, field, optional=name not in required)}: ")
            prompt = ""
            if said is None:
                return {"action": "cancel"}
            if said.strip():
                words.append(f"{name}={said.strip()}")
        return {"action": "accept", "content": parse_arguments(words, schema)}

    async def _ask(self, prompt: str) -> str | None:
        # In a thread, which Ctrl+C leaves behind: it ends with the process.
        return await trio.to_thread.run_sync(self._read_line, prompt, abandon_on_cancel=True)


def _label(name: str, field: Any, *, optional: bool) -> str:
    about = field if isinstance(field, dict) else {}
    choices = about.get("enum")
    kind = " | ".join(map(str, choices)) if isinstance(choices, list) else about.get("type", "text")
    return f"{about.get('title') or name} ({kind}{', optional' if optional else ''})"
