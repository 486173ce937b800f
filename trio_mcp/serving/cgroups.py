"""What the cgroups around this process allow it: bytes of memory, CPU time.

v2 is one tree, at `root`. v1 has one for each controller, in the folder of its name. The smallest limit on the way from our own cgroup up
to the root of the tree holds. A container that sees only its own cgroup has that as the root, and the path in `own` leads nowhere there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["cpu_quota", "memory_limit"]

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 50
"""cgroup v1 writes "no limit" as a number near 2**63."""


def memory_limit(root: Path = _ROOT, own: Path = _OWN) -> int | None:
    """In bytes; None where there is none."""
    v2 = [folder / "memory.max" for folder in _folders(root, own)]
    v1 = [folder / "memory.limit_in_bytes" for folder in _folders(root, own, "memory")]
    return min((limit for file in [*v2, *v1] for limit in _numbers(file) if 0 < limit < _UNLIMITED), default=None)


def cpu_quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """Seconds of CPU time in each second, as many as that many cores give; None where there is no quota."""
    v2 = [_numbers(folder / "cpu.max") for folder in _folders(root, own)]
    v1 = [
        [*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us")]
        for folder in _folders(root, own, "cpu")
    ]
    return min(_quotas([*v2, *v1]), default=None)


def _quotas(found: Iterable[list[int]]) -> Iterable[float]:
    """Of those that are both: microseconds of CPU time, and of the period that they are for. "max" and -1 are no number here."""
    return (each[0] / each[1] for each in found if len(each) == 2 and each[1])


def _folders(root: Path, own: Path, controller: str = "") -> list[Path]:
    """Our cgroup's, and those around it; without a controller those of v2."""
    tree = root / controller
    folder = tree / _path(own, controller).strip("/")
    return [folder, *(parent for parent in folder.parents if parent == tree or tree in parent.parents)]


def _path(own: Path, controller: str) -> str:
    """Of our cgroup, from lines such as `4:cpu,cpuacct:/docker/1`, and `0::/a/b` for v2."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return "/"
    return next((line[2] for line in lines if len(line) == 3 and controller in line[1].split(",")), "/")


def _numbers(file: Path) -> list[int]:
    """Those in the file; none where it is not there."""
    try:
        words = file.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words if word.isascii() and word.isdigit()]
