"""The tasks that run on this node: their nursery, their bounds, and what the store says of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
import trio

from trio_mcp.dispatch.call import Call, Ending, Service
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.user_code import labels
from trio_mcp.features.task_options import Task
from trio_mcp.observability.logs import event
from trio_mcp.observability.task_metrics import TaskMetrics
from trio_mcp.protocol.errors import Busy, ProtocolError
from trio_mcp.tasks.again import call_again, start_of
from trio_mcp.tasks.changes import ChangeRefused, Fail, Release
from trio_mcp.tasks.endings import reason_of, reply_of
from trio_mcp.tasks.limits import Admission
from trio_mcp.tasks.methods import TaskMethods
from trio_mcp.tasks.record import FailReason, TaskError, TaskRecord, new_task
from trio_mcp.tasks.run import CREATE_SECONDS, TaskRun
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.transitions import answers_size
from trio_mcp.tasks.wire import created, short_id

__all__ = ["TaskNode"]

logger: logging.Logger = logging.getLogger("trio_mcp.tasks")

FLUSH_SECONDS = 0.3
"""For the ends of tasks to be written when the server stops. In a drain they are before that."""

_SHORT_REPLY_SECONDS = 2.0
"""A call that becomes a task this soon is answered in JSON: its exchange begins no stream before."""

_RECORD_SECONDS = CREATE_SECONDS + 1.0
"""No stream begins while the first record of a task is being written: that it cannot be is an HTTP status."""


class TaskNode:
    """Runs calls that may become tasks, and implements `TaskRunner` for the store."""

    def __init__(self, service: Service, store: TaskStore) -> None:
        self._service = service
        self.store: TaskStore = store
        self.methods: TaskMethods = TaskMethods(store)
        self.runs: dict[str, TaskRun] = {}
        """The tasks that run here, by id."""
        self._admission = Admission(store.limits)
        self._metrics = TaskMetrics(service.metrics.registry, lambda: len(self.runs))
        self._nursery: trio.Nursery | None = None
        self._recorded = False
        """The drain writes what the store is owed."""
        self._ending = False
        store.attach(self)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TaskNode]:
        """Tasks may run in the block; those that are left at its end are cancelled, and fail with the reason `shutdown`."""
        async with trio.open_nursery() as store_nursery:
            store_nursery.start_soon(self.store.work)
            async with trio.open_nursery() as self._nursery:
                yield self
                self._ending = True
                self._nursery.cancel_scope.cancel("the server stops")
            if not self._recorded:
                with trio.move_on_after(FLUSH_SECONDS, shield=True):
                    await self.store.flushed()
            store_nursery.cancel_scope.cancel("the server stops")

    async def call(self, call: Call, options: Task) -> dict[str, Any] | None:
        """The answer to a call whose client takes tasks; None where the node has no place for it, and it runs as any other.

        Raises Busy where the tool runs as a task or not at all.
        """
        who = call.principal.recorded_as
        call.note_binding()
        size = len(call.bound_to)
        if not self._admission.admit(who, size):
            if options.required:
                raise Busy(503, "The server runs as many tasks as it may; try again later")
            return None
        run = self._run_of(call, options, size)
        self._start(run, who, at_once=options.after == 0)
        if options.after is not None and options.after <= _SHORT_REPLY_SECONDS:
            call.outbox.hold_back(trio.current_time() + options.after + _RECORD_SECONDS)
        task = await run.wait(options.after)
        return created(task, self.store.now()) if task is not None else _result_of(call, run)

    # What the store says (`TaskRunner`).

    def changed(self, task: TaskRecord) -> None:
        """Answers came for a task that runs here, or its end was asked for."""
        run = self.runs.get(task.id)
        if run is not None:
            run.changed(task)
            held = run.held
            run.answered = answers_size(task)
            self._admission.hold(run.held - held)

    def lost(self, task_id: str) -> None:
        """A task that runs here is not ours any more."""
        self.stop(task_id)

    def stop(self, task_id: str) -> None:
        """A task that runs here was parked or released: its handler is cancelled, and its end is not recorded."""
        run = self.runs.get(task_id)
        if run is not None:
            run.give_up()

    def end_all(self) -> None:
        """The node was drained: end the tasks that run here, whether their handlers stop or not. What is owed is written by the caller."""
        self._recorded = self._ending = True
        for task in self.store.here():
            with suppress(ChangeRefused):
                self._ended(self.store.own(task.id, Fail(FailReason.SHUTDOWN.error)))
            self.stop(task.id)

    def run(self, task: TaskRecord) -> None:
        """A task that was taken over: run its handler from the start. A node that ends releases it: it has not run here."""
        if self._ending:
            self._recorded = False
            with suppress(ChangeRefused):
                self.store.own(task.id, Release())
            return
        self._metrics.ran_again()
        size = len(msgspec.json.encode(task.start.arguments))
        run = self._run_of(call_again(self._service, task), Task(), size, task)
        self._admission.take(task.principal, run.held)
        self.runs[task.id] = run
        self._start(run, task.principal, at_once=False)

    # The runs.

    def _run_of(self, call: Call, options: Task, size: int, task: TaskRecord | None = None) -> TaskRun:
        return TaskRun(
            self.store,
            call,
            record=partial(self._new_record, options),
            began=self._began,
            ended=self._ended,
            size=size,
            required=options.required,
            task=task,
        )

    def _start(self, run: TaskRun, who: str, *, at_once: bool) -> None:
        assert self._nursery is not None, "requests are refused before the app runs"
        # Not the context variables of the request: the task belongs to the node.
        self._service.variables.copy().run(self._nursery.start_soon, self._work, run, who, at_once)

    async def _work(self, run: TaskRun, who: str, at_once: bool) -> None:
        try:
            if at_once:
                # Before the first line of its handler, which may be the last.
                await run.become_task()
            await respond(run.call)
        finally:
            self._admission.leave(who, run.held)
            if run.task_id is not None and self.runs.get(run.task_id) is run:
                del self.runs[run.task_id]

    def _new_record(self, options: Task, call: Call) -> TaskRecord:
        ttl = options.ttl_seconds or self.store.limits.ttl
        start = start_of(call)
        return new_task(start, self.store.owner, self.store.now(), ttl=int(ttl * 1000), idempotent=options.idempotent)

    def _began(self, run: TaskRun) -> None:
        task = run.task
        assert task is not None
        self.runs[task.id] = run
        self._metrics.began()
        event(logger, logging.INFO, "task began", task=short_id(task.id), tool=task.start.tool, **labels(run.call))

    def _ended(self, task: TaskRecord) -> None:
        reason = reason_of(task.error)
        self._metrics.ended(task.status.value, reason)
        level = logging.WARNING if reason else logging.INFO
        seconds = (task.updated - task.created) / 1000
        event(
            logger,
            level,
            "task ended",
            task=short_id(task.id),
            tool=task.start.tool,
            status=task.status.value,
            reason=reason,
            duration_ms=round(seconds * 1000),
        )


def _result_of(call: Call, run: TaskRun) -> dict[str, Any]:
    """The result of a call that did not become a task; raises ProtocolError where it ended with one, Busy where it had to become one."""
    assert run.reply is not None
    if run.call.ending is Ending.NO_TASK:
        raise Busy(503, Ending.NO_TASK.value)
    call.reference = run.call.reference
    reply = reply_of(run.reply)
    if isinstance(reply, TaskError):
        raise ProtocolError(reply.code, reply.message, reply.data)
    result: dict[str, Any] = msgspec.json.decode(reply)
    return result
