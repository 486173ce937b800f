"""What cgroups allow: the files of v1 and v2, as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_mcp.serving.cgroups import cpu_quota, memory_limit

GIB = 1 << 30


def cgroups(root: Path, files: dict[str, str], own: str = "0::/\n") -> tuple[Path, Path]:
    for name, text in files.items():
        (root / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "fs" / name).write_text(text)
    (root / "own").write_text(own)
    return root / "fs", root / "own"


@pytest.mark.parametrize(
    ("files", "own", "limit"),
    [
        ({}, "0::/\n", None),
        ({"memory.max": "max\n"}, "0::/\n", None),
        ({"memory.max": f"{GIB}\n"}, "0::/\n", GIB),
        ({"a/b/memory.max": "5000\n", "a/memory.max": "4000\n", "memory.max": "max\n"}, "0::/a/b\n", 4000),
        ({"a/memory.max": "max\n", "other/memory.max": "1\n"}, "0::/a\n", None),
        ({"memory/memory.limit_in_bytes": f"{GIB}\n"}, "4:memory:/docker/1\n", GIB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "4:memory:/\n", None),
        (
            {"memory/a/b/memory.limit_in_bytes": "5000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"},
            "5:cpu,cpuacct:/other\n4:memory:/a/b\n0::/\n",
            5000,
        ),
    ],
)
def test_the_memory_limit_is_the_smallest_of_our_cgroup_and_those_around_it(
    tmp_path: Path, files: dict[str, str], own: str, limit: int | None
) -> None:
    assert memory_limit(*cgroups(tmp_path, files, own)) == limit


def test_where_there_are_no_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "none", tmp_path / "neither") is None
    assert cpu_quota(tmp_path / "none", tmp_path / "neither") is None


def v1(quota: int, folder: str = "cpu", period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("files", "own", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 0.5),
        ({"cpu.max": "nonsense\n"}, "0::/\n", None),
        ({"cpu.max": "100000 0\n"}, "0::/\n", None),
        # Of a service of systemd, and of the slice that it is in.
        (
            {"s.slice/a.service/cpu.max": "300000 100000\n", "s.slice/cpu.max": "max 100000\n"},
            "0::/s.slice/a.service\n",
            3,
        ),
        (
            {"s.slice/a.service/cpu.max": "300000 100000\n", "s.slice/cpu.max": "40000 20000"},
            "0::/s.slice/a.service\n",
            2,
        ),
        ({"s.slice/cpu.max": "1 1\n"}, "0::/other\n", None),
        (v1(-1), "4:cpu,cpuacct:/\n", None),
        (v1(250_000), "4:cpu,cpuacct:/docker/1\n", 2.5),
        ({**v1(-1), **v1(75_000, "cpu/a/b", 50_000)}, "4:cpu,cpuacct:/a/b\n0::/\n", 1.5),
        ({"cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n", None),
    ],
)
def test_the_quota_is_the_smallest_of_our_cgroup_and_those_around_it(
    tmp_path: Path, files: dict[str, str], own: str, quota: float | None
) -> None:
    assert cpu_quota(*cgroups(tmp_path, files, own)) == quota
