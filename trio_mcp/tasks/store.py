"""The port of tasks: what the runner asks of the store of their records, and what the store tells the runner.

                       create · own · here                ┌─ memory: one node; the records end with the process
runner, methods ──── get · tell · watch ───▶ TaskStore ───┤
       ▲                                                  └─ Redis: several nodes; any of them answers
       └── changed · lost · run · stop ──────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from trio_mcp.tasks.changes import ClientChange, OwnChange, Park, Release
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import TaskOwner, TaskRecord

__all__ = ["Heard", "TaskRunner", "TaskStore", "TaskStoreAway", "Watchers"]


class TaskStoreAway(Exception):
    """The store did not answer. A request for a task that is not here is refused with 503: the task is not lost."""


Heard = Callable[[TaskRecord], None]
"""Called with the record after each change. It may neither block nor raise."""


class TaskRunner(Protocol):
    """Runs the handlers of this node's tasks. None of these functions may block or raise."""

    def changed(self, task: TaskRecord) -> None:
        """A task that runs here has answers that its handler waits for, or its client asks for its end (`task.cancel`)."""

    def lost(self, task_id: str) -> None:
        """A task that runs here is another process' now, or is not there any more: cancel the handler. What it does is not recorded."""

    def run(self, task: TaskRecord) -> None:
        """The task was taken over: run its handler from the start, in this process."""

    def stop(self, task_id: str) -> None:
        """The task was parked or released, because this node stops: cancel the handler. What it does is not recorded."""


class TaskStore(Protocol):
    """The records of tasks, as one node sees them."""

    @property
    def owner(self) -> TaskOwner:
        """This process: the owner of tasks that are created here."""
        ...

    @property
    def limits(self) -> TaskLimits:
        """The bounds that it keeps."""
        ...

    def attach(self, runner: TaskRunner) -> None:
        """Tell `runner` from now on. To be called before anything else."""
        ...

    async def work(self) -> None:
        """The store's own task: writes, looks at the tasks of other nodes, moves the ttl of running ones on. Until cancelled."""
        ...

    def now(self) -> int:
        """Milliseconds on the wall clock: what the times in records are."""
        ...

    async def create(self, task: TaskRecord) -> None:
        """Record a task that runs here. Every node can read it when this returns; raises TaskStoreAway, and then there is no task."""
        ...

    async def get(self, task_id: str) -> TaskRecord | None:
        """The task; None when it is unknown or has expired. Who may read it is for the caller to ask (`TaskRecord.is_of`).

        A task that runs here is answered without the store. One whose node is gone is taken over, kept or ended first. Raises
        TaskStoreAway.
        """
        ...

    def own(self, task_id: str, change: OwnChange) -> TaskRecord:
        """Change a task that runs here. This node sees the change at once, the others soon; while the store is away it is owed.

        Returns the record. Raises ChangeRefused, with NOT_OWNER where the task does not run here (any more).
        """
        ...

    async def tell(self, task_id: str, change: ClientChange) -> TaskRecord | None:
        """Record what a client says to a task of any node, and tell the process that runs it. None for a task that is unknown.

        Raises TaskStoreAway; the end of a task that runs here can be asked for without the store.
        """
        ...

    async def leave(self, task_id: str, change: Park | Release) -> bool:
        """Leave a task that runs here to other nodes, and stop its handler. Returns when that is recorded; False where nothing is kept."""
        ...

    def here(self) -> list[TaskRecord]:
        """The tasks that run here."""
        ...

    def watch(self, task_id: str, heard: Heard) -> Callable[[], None]:
        """Call `heard` after each change of the task, wherever it runs; returns what ends that."""
        ...

    async def flushed(self) -> None:
        """Wait until nothing is owed to the store; while it is away that may take for ever."""
        ...


class Watchers:
    """Who hears of the changes of which task."""

    def __init__(self) -> None:
        self._watching: dict[str, list[Heard]] = {}

    def add(self, task_id: str, heard: Heard) -> Callable[[], None]:
        """Tell `heard` of each change; returns what ends that."""
        self._watching.setdefault(task_id, []).append(heard)
        return lambda: self._remove(task_id, heard)

    def _remove(self, task_id: str, heard: Heard) -> None:
        watching = self._watching.get(task_id, [])
        if heard in watching:
            watching.remove(heard)
        if not watching:
            self._watching.pop(task_id, None)

    def tell(self, task: TaskRecord) -> None:
        """The task has changed."""
        for heard in list(self._watching.get(task.id, ())):
            heard(task)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._watching

    def __iter__(self) -> Iterator[str]:
        """The ids of the tasks that somebody watches."""
        return iter(list(self._watching))
