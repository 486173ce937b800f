"""One call of a tool that may become a task, from its first line: it runs in the node's nursery of tasks (SEP-2663).

attached ──after, background()──▶ deciding ──recorded──▶ task       only tasks/cancel, its ttl and the node's end stop it
   │                                  └─ nobody keeps it ─▶ plain    its request waits for it, as for any call
   └─ done, a question (MRTR), client left: its request is answered, and there is no task
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from enum import Enum
from typing import Any

import trio
from msgspec.structs import replace

from trio_mcp.dispatch.call import Call, Ending
from trio_mcp.observability.logs import event
from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.streams.backlog import Kind
from trio_mcp.tasks.changes import ChangeRefused, OwnChange, Progress
from trio_mcp.tasks.endings import end_of
from trio_mcp.tasks.open_questions import OpenQuestions
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskStore, TaskStoreAway
from trio_mcp.tasks.transitions import answers_size

__all__ = ["CREATE_SECONDS", "TaskRun"]

logger: logging.Logger = logging.getLogger("trio_mcp.tasks")

CREATE_SECONDS = 5.0
"""How long the first record of a task may take to be written. Stores have shorter deadlines of their own."""
LEAVING_SECONDS = 5.0
"""How long an exchange whose client left waits for the cleanup of the handler, which goes on in the nursery of tasks."""


class _State(Enum):
    ATTACHED = "its request waits for it"
    DECIDING = "its record is being written"
    PLAIN = "its request waits for it, and it cannot become a task any more"
    TASK = "it is a task"


class TaskRun:
    """Runs a tool once. It is the outbox of the call that it makes, and the `BackgroundCall` that its handler meets.

    `record` makes the record of a new task, `began` is called when there is one, `ended` with its record when it has ended.
    Its arguments have `size` bytes.
    """

    answers_cancelled = True
    holder = None

    def __init__(
        self,
        store: TaskStore,
        call: Call,
        *,
        record: Callable[[Call], TaskRecord],
        began: Callable[[TaskRun], None],
        ended: Callable[[TaskRecord], None],
        size: int = 0,
        required: bool = False,
        task: TaskRecord | None = None,
    ) -> None:
        """`call` is the request that waits, `required`: not without a task. With `task`, one that runs again, nothing waits."""
        self._store = store
        self._outer = call
        self._record = record
        self._began = began
        self._ended = ended
        self._size = size
        self._required = required
        self.call: Call = replace(call, outbox=self, scope=trio.CancelScope(), background=self, counted=False)
        self.task: TaskRecord | None = task
        """Its record, as last seen; None before it is a task."""
        self.answered: int = 0 if task is None else answers_size(task)
        """Bytes of its client's answers, as they are counted for the node."""
        self.reply: bytes | None = None
        """The response of its call, once its handler is done."""
        self._state = _State.ATTACHED if task is None else _State.TASK
        self._decided = trio.Event()
        self._answered = trio.Event()
        """Its request can be answered: the handler is done, or it is a task."""
        self._questions = OpenQuestions(self._own)
        self._is_ours = True
        """Whether its end is recorded: not when the task is another process' by then."""
        self._left = False

    @property
    def task_id(self) -> str | None:
        """The id of the task; None while it is none."""
        return None if self.task is None else self.task.id

    @property
    def held(self) -> int:
        """Bytes of its arguments and of its client's answers."""
        return self._size + self.answered

    # Its request.

    async def wait(self, after: float | None) -> TaskRecord | None:
        """Wait until the request can be answered: the task that it is then, or None, and then there is a `reply`.

        After `after` seconds it becomes a task, if it can; None: only when its handler says so. A caller that is cancelled
        here takes the handler along, and the task that nobody has heard of.
        """
        heard = False
        try:
            with trio.move_on_after(math.inf if after is None else after):
                await self._answered.wait()
            if not self._answered.is_set():
                await self.become_task()
            await self._answered.wait()
            heard = True
        finally:
            if not heard:
                self._left = True
                self.call.cancel(Ending.CLIENT_LEFT)
                with trio.move_on_after(LEAVING_SECONDS, shield=True):
                    await self._answered.wait()
        return self.task

    # What its handler meets (`BackgroundCall`).

    async def become_task(self) -> bool:
        """Become a task, unless it is done, or ends at a question; returns whether it is one."""
        if self._state is _State.ATTACHED and self.call.ending is None and self.reply is None:
            self._state = _State.DECIDING
            await self._decide()
        return await self.settled()

    async def settled(self) -> bool:
        """Wait while its record is being written; returns whether it is a task."""
        if self._state is _State.DECIDING:
            await self._decided.wait()
        return self._state is _State.TASK

    async def _decide(self) -> None:
        kept: TaskRecord | None = None
        try:
            kept = await self._create()
        finally:
            self.task = kept
            self._state = _State.PLAIN if kept is None else _State.TASK
            self._decided.set()
            if kept is not None:
                self._began(self)
                self._answered.set()
                # Nothing of the request is held for as long as the task runs: neither its exchange nor its headers.
                self._outer = self.call
                self.call.headers = None
            elif self._required:
                self.call.cancel(Ending.NO_TASK)
            if self.reply is not None:
                self._take(self.reply)

    async def _create(self) -> TaskRecord | None:
        task, reason = self._record(self._outer), "it took too long"
        with trio.move_on_after(CREATE_SECONDS, shield=True):
            try:
                await self._store.create(task)
            except TaskStoreAway as away:
                reason = str(away)
            else:
                return task
        event(logger, logging.WARNING, "no task could be kept", tool=self.call.tool_name, reason=reason)
        return None

    def report(self, text: str) -> None:
        """Show the text as status message; nothing happens where the task is not ours any more."""
        self._change(Progress(text))

    async def wait_for_answer(self, method: str, params: dict[str, Any], key: str) -> Any:
        """Ask the client, and wait here for its answer; raises NoBackChannel where the task may ask no more."""
        return await self._questions.ask(method, params, key)

    # What the store says of it.

    def changed(self, task: TaskRecord) -> None:
        """Answers came, or its end was asked for."""
        self.task = task
        self._questions.answered(task.answers)
        if task.cancel:
            self.call.cancel(Ending.CANCELLED)

    def give_up(self) -> None:
        """The task is not this process' any more: cancel the handler, and record nothing that it does."""
        self._is_ours = False
        self.call.cancel(Ending.SHUTDOWN)

    # The outbox of its call.

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Messages of a task go nowhere: its client is not there (ext-tasks, no progress or log notifications)."""
        if self._state is not _State.TASK and not self._left:
            self._outer.emit(data, kind, key)

    async def wait_for_reader(self) -> None:
        """Wait for the reader of the request, while there is one; raises SlowReader."""
        if self._state is _State.TASK or self._left:
            await trio.lowlevel.checkpoint()
        else:
            await self._outer.outbox.wait_for_reader()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """There are no requests to the client on 2026-07-28."""
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def close_stream(self) -> None:
        """Nothing: streams of 2026-07-28 cannot be resumed."""

    def hold_back(self, until: float) -> None:
        """Nothing: no call is made within this one."""

    def finish(self, body: bytes | None, status: int) -> None:
        """The handler is done: that is the reply to its request, or the end of the task."""
        if self.call.ending is None and trio.current_effective_deadline() == -math.inf:
            # The nursery of tasks was cancelled, not this call.
            self.call.ending = Ending.SHUTDOWN
        self.reply = body or b""
        if self._state is not _State.DECIDING:
            self._take(self.reply)

    def _take(self, reply: bytes) -> None:
        self._answered.set()
        if self._state is _State.TASK and self._is_ours:
            task = self._change(end_of(reply, self.call.ending, self._store.limits.result))
            if task is not None:
                self._ended(task)

    def _change(self, change: OwnChange) -> TaskRecord | None:
        """The record after a change of ours; None where it cannot be changed any more."""
        try:
            return self._own(change)
        except ChangeRefused as refused:
            event(
                logger, logging.DEBUG, "task is not ours to change", task=(self.task_id or "")[:8], reason=str(refused)
            )
            return None

    def _own(self, change: OwnChange) -> TaskRecord:
        assert self.task is not None
        self.task = self._store.own(self.task.id, change)
        return self.task
