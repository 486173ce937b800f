"""What the drill of tasks counts as a violation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rig.task_traffic import Watched
from tools.task_drill import violations


def ended(tool: str, status: str, reason: str = "") -> Watched:
    error: dict[str, Any] = {"error": {"data": {"reason": reason}}} if reason else {}
    return Watched("t1", tool, 5, statuses=["working", status], last={"status": status, **error})


ONCE = [("t1", "began"), ("t1", "done")]
TWICE = [("t1", "began"), *ONCE]
ASKED = [("t1:accept", "began"), ("t1:accept", "done")]


@pytest.mark.parametrize(
    ("task", "runs", "count"),
    [
        (ended("plain", "completed"), ONCE, 0),
        (ended("plain", "completed"), TWICE, 1),
        (ended("plain", "completed"), ONCE[:1], 1),
        (ended("plain", "failed", "node_gone"), ONCE[:1], 0),
        (ended("plain", "failed", "attempts"), ONCE[:1], 1),
        (ended("plain", "working"), ONCE, 1),
        (ended("again", "completed"), TWICE, 0),
        (ended("again", "failed", "attempts"), TWICE, 0),
        (ended("again", "failed", "node_gone"), ONCE, 1),
        (ended("asks", "completed"), ASKED, 0),
        (ended("asks", "completed"), [*ASKED, *ASKED], 1),
        (ended("asks", "failed", "shutdown"), ASKED[:1], 0),
    ],
)
def test_what_should_not_have_been(task: Watched, runs: list[tuple[str, str]], count: int) -> None:
    assert len(violations([task], runs, ["a poll was answered wrongly"])) == 1 + count
