"""How many cores this process may use: its CPU affinity, and the quota of its container."""

from __future__ import annotations

import math
import os
from typing import Any

from trio_mcp.serving.cgroups import cpu_quota

__all__ = ["parse_workers", "usable_cores"]

MAX_WORKERS = 1024
"""More is a mistake: each is a process."""


def parse_workers(value: Any) -> int:
    """A number of workers, or `auto`: one for each core that may be used. Raises ValueError for anything else."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text == "auto":
            return usable_cores()
        value = int(text) if text.isascii() and text.isdigit() else None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORKERS:
        raise ValueError(f"expected a number from 1 to {MAX_WORKERS}, or auto: one for each core")
    return value


def usable_cores() -> int:
    """The cores that the scheduler gives this process; at most what the quota of its cgroups pays for, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))
