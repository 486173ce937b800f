"""How many workers a node has: as told, or one for each core that it may use."""

from __future__ import annotations

import os

import pytest

from trio_mcp.serving.cores import parse_workers, usable_cores


@pytest.mark.parametrize(("value", "expected"), [(1, 1), ("8", 8), (" 2 ", 2)])
def test_a_number_is_that_many(value: object, expected: int) -> None:
    assert parse_workers(value) == expected


@pytest.mark.parametrize("value", [0, "0", "-1", "two", "", 1.5, True, 5000, None])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a number from 1 to 1024, or auto"):
        parse_workers(value)


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (1.5, 2), (0.5, 1), (99.0, 8)])
def test_auto_is_the_cores_of_the_affinity_within_the_quota_of_the_container(
    quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("trio_mcp.serving.cores.cpu_quota", lambda: quota)
    assert usable_cores() == cores


def test_auto_is_read_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.serving.cores.usable_cores", lambda: 5)
    assert parse_workers("auto") == 5
