"""The bounds of tasks, and what counts against them: how many run, and how often each is asked for."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from trio_mcp.auth.principal import ANONYMOUS

__all__ = ["Admission", "PollRate", "TaskLimits"]

_MAX_POLLED = 10_000
"""Tasks whose polls are counted; past it the one that was asked for longest ago is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """What tasks may take. Times are in seconds, sizes in bytes. Raises ValueError for a bound below 1."""

    per_node: int = 1_000
    """Tasks that run on a node at the same time."""
    per_principal: int = 100
    """The same for one principal on a node; anonymous callers share no bound of their own."""
    result: int = 4 << 20
    """The encoded result, or a tool's JSON-RPC error."""
    answers: int = 4 << 20
    """The encoded answers to the questions of one task; once they are as large it asks no more."""
    held: int = 256 << 20
    """Arguments and answers of all tasks that run on a node; beyond it no task begins."""
    kept: int = 256 << 20
    """Ended tasks that a node without Redis keeps until they expire, with 1 KiB for each; beyond it no task begins."""
    message: int = 1_024
    """A status message in UTF-8; what is longer is cut."""
    open_questions: int = 20
    questions: int = 1_000
    """Questions that one task asks from its start to its end, in all its runs."""
    attempts: int = 3
    """How often an idempotent task, or one that was parked, is started."""
    polls_per_second: int = 20
    """`tasks/get` for one task on one node; what is more is refused with 429."""
    ttl: float = 3_600.0
    """How long a task can be read after its creation, where its tool does not say otherwise."""
    max_ttl: float = 86_400.0
    """How far that is moved on while the task runs. A task that runs longer fails."""
    working_left: float = 900.0
    """While it runs, at least this much of its ttl remains, up to `max_ttl`."""
    ended_left: float = 3_600.0
    """After its end it can be read for at least this long."""

    def __post_init__(self) -> None:
        """Every bound and time has to let something through."""
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}= of TaskLimits is at least 1, not {getattr(self, name)!r}")


class Admission:
    """Counts the tasks that run on this node, by principal, and what they hold in memory: their arguments and answers."""

    def __init__(self, limits: TaskLimits) -> None:
        self._limits = limits
        self._running: Counter[str] = Counter()
        self.total: int = 0
        """All that run here."""
        self.held: int = 0
        """Bytes that they hold."""

    def admit(self, principal: str, size: int) -> bool:
        """Count one more task of that principal (its digest), with arguments of `size` bytes.

        False, and nothing is counted, when a bound is reached.
        """
        if self.total >= self._limits.per_node or self.held + size > self._limits.held:
            return False
        if principal not in ANONYMOUS.known_as and self._running[principal] >= self._limits.per_principal:
            return False
        self.take(principal, size)
        return True

    def take(self, principal: str, size: int) -> None:
        """Count one more whatever the bounds are: a task that already exists, and runs again here."""
        self._running[principal] += 1
        self.total += 1
        self.held += size

    def hold(self, size: int) -> None:
        """One that is counted holds `size` bytes more."""
        self.held += size

    def leave(self, principal: str, size: int) -> None:
        """One that was counted has ended; it held `size` bytes."""
        self.total -= 1
        self.held -= size
        self._running[principal] -= 1
        if not self._running[principal]:
            del self._running[principal]


class PollRate:
    """Counts requests for each task within the current second."""

    def __init__(self, limits: TaskLimits) -> None:
        self._limit = limits.polls_per_second
        self._asked: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def allows(self, task_id: str, now: float) -> bool:
        """Whether one more is served now (seconds on a clock that only goes forward)."""
        second = int(now)
        since, count = self._asked.pop(task_id, (second, 0))
        count = count + 1 if since == second else 1
        self._asked[task_id] = second, count
        if len(self._asked) > _MAX_POLLED:
            self._asked.popitem(last=False)
        return count <= self._limit

    def __len__(self) -> int:
        return len(self._asked)
