"""How many workers a node has: as told, or one for each core that it may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trio_mcp.serving.cores import parse_workers, usable_cores


@pytest.mark.parametrize(("value", "expected"), [(1, 1), ("8", 8), (" 2 ", 2)])
def test_a_number_is_that_many(value: object, expected: int) -> None:
    assert parse_workers(value) == expected


@pytest.mark.parametrize("value", [0, "0", "-1", "two", "", 1.5, True, 5000, None])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a number from 1 to 1024, or auto"):
        parse_workers(value)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("9999999 100000", 8), ("nonsense", 8)],
)
def test_auto_is_the_cores_of_the_affinity_within_the_quota_of_the_container(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "missing") == 8


def test_auto_is_read_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.serving.cores.usable_cores", lambda: 5)
    assert parse_workers("auto") == 5
