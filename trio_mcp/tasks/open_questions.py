"""Questions of a task: its handler waits in place while a client finds them in `tasks/get` and answers by `tasks/update`.

ctx.elicit ─▶ Ask ─▶ record.questions ─▶ inputRequests ─▶ client
     ▲                                                      │
     └──────── record.answers ◀── Answer ◀── tasks/update ──┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import trio

from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.tasks.changes import Ask, ChangeRefused, OwnChange, Withdraw
from trio_mcp.tasks.record import Question, TaskRecord
from trio_mcp.tasks.transitions import wire_key

__all__ = ["OpenQuestions"]


class OpenQuestions:
    """Those of one run. `own` changes the task's record and raises ChangeRefused."""

    def __init__(self, own: Callable[[OwnChange], TaskRecord]) -> None:
        self._own = own
        self._waiting: dict[str, trio.Event] = {}
        """Handlers that wait, by the question's key on the wire."""
        self._answers: Mapping[str, Any] = {}

    async def ask(self, method: str, params: dict[str, Any], key: str) -> Any:
        """The client's answer, which an earlier run may have got; `key` is the author's. Raises NoBackChannel beyond the bounds."""
        # Raises in the handler what it was given without a JSON form, and keeps what it asks apart from what it changes later.
        asked = msgspec.json.decode(encode(params))
        wire = wire_key(key, method, asked)
        try:
            self._answers = self._own(Ask(wire, Question(method, asked))).answers
        except ChangeRefused as refused:
            raise NoBackChannel(f"{method}: {refused}") from None
        if wire in self._answers:
            await trio.lowlevel.checkpoint()
        else:
            await self._answer(wire)
        return self._answers[wire]

    async def _answer(self, wire: str) -> None:
        came = self._waiting[wire] = trio.Event()
        try:
            await came.wait()
        finally:
            del self._waiting[wire]
            if wire not in self._answers:
                self._withdraw(wire)

    def _withdraw(self, wire: str) -> None:
        """Nobody waits for the answer any more: the handler was cancelled, or moved on without it."""
        # Where the task has ended, or is another process', so is the question.
        with suppress(ChangeRefused):
            self._own(Withdraw((wire,)))

    def answered(self, answers: Mapping[str, Any]) -> None:
        """These are all answers that the client has given."""
        self._answers = answers
        for wire, came in self._waiting.items():
            if wire in answers:
                came.set()
