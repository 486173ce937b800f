"""How many cores this process may use: its CPU affinity, and the quota of its container."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

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


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that the scheduler gives this process; at most what the quota of its cgroup (v2) pays for, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    paid = _paid_cores(quota)
    return cores if paid is None else max(1, min(cores, math.ceil(paid)))


def _paid_cores(quota: Path) -> float | None:
    """`cpu.max` says microseconds of CPU time in each period, or "max"."""
    try:
        allowed, period = quota.read_text().split()
    except (OSError, ValueError):
        return None
    return int(allowed) / int(period) if allowed.isdigit() and period.isdigit() and int(period) else None
