"""`Task`: what the author of a tool says of calls that may become tasks (SEP-2663)."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from trio_mcp.defaults import SSE_AFTER

__all__ = ["TASKS", "Task"]

TASKS = "io.modelcontextprotocol/tasks"
"""The identifier of the extension."""

_MODES = ("optional", "required")
_TTL = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Task:
    """How calls of a tool become tasks: `@mcp.tool(task=Task(ttl="1d"))`; `task=True` is `Task()`.

    A task goes on without the request that began it, and its client asks for its state. Only requests whose client declares the
    extension `io.modelcontextprotocol/tasks` (2026-07-28) get one. Raises ValueError for a value that cannot work.
    """

    mode: Literal["optional", "required"] = "optional"
    """Other clients' calls: "optional" runs them as ordinary calls, "required" refuses those of 2026-07-28 with -32021."""
    _: KW_ONLY
    after: float | None = SSE_AFTER
    """Seconds a call may take before it becomes a task; a quicker one is answered at once. 0: always a task. None: only where
    the function calls `await ctx.background()`."""
    ttl: float | str | None = None
    """How long a task can be read after its creation: seconds, or text such as "90s", "15m", "1d". An hour unless given."""
    idempotent: bool = False
    """Whether the function may run again, from its start, after the node that ran it is gone. Never guessed from hints."""

    def __post_init__(self) -> None:
        """Check it where the tool is registered, not in a client's call."""
        if self.mode not in _MODES:
            raise ValueError(f"mode of Task is 'optional' or 'required', not {self.mode!r:.80}")
        if self.after is not None and not (_is_number(self.after) and self.after >= 0):
            raise ValueError(f"after= of Task is a number of seconds, or None, not {self.after!r:.80}")
        if not isinstance(self.idempotent, bool):
            raise ValueError(f"idempotent= of Task is True or False, not {self.idempotent!r:.80}")
        if self.ttl is not None and not _ttl_seconds(self.ttl) >= 1:
            raise ValueError(f'ttl= of Task is a time of at least a second, such as 3600 or "1h", not {self.ttl!r:.80}')

    @classmethod
    def of(cls, given: Any) -> Task | None:
        """The options that `task=` of a tool gives: True, False, None or a Task; raises TypeError for anything else."""
        if isinstance(given, cls):
            return given
        if given is None or isinstance(given, bool):
            return cls() if given else None
        raise TypeError(f"task= of a tool is True or a Task(…), not {given!r:.80}")

    @property
    def required(self) -> bool:
        """Whether calls of clients without the extension are refused."""
        return self.mode == "required"

    @property
    def ttl_seconds(self) -> float | None:
        """`ttl` in seconds; None where the server decides."""
        return None if self.ttl is None else _ttl_seconds(self.ttl)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ttl_seconds(value: Any) -> float:
    """Seconds; 0 for what is no time."""
    if _is_number(value):
        return float(value)
    match = _TTL.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1]) * _SECONDS[match[2]] if match else 0.0
