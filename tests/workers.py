"""How the workers of pytest-xdist share the tests."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

__all__ = ["TOGETHER", "Scheduling"]

TOGETHER = (
    "tests/cli/test_check.py",
    "tests/cluster/e2e/test_decision.py",
    "tests/cluster/e2e/test_matrix.py",
    "tests/cluster/e2e/test_redis_outages.py",
    "tests/deploy/test_dockerfile.py",
)
"""Files whose tests share a fixture that is too dear to have once in each worker."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """One test after the other to whoever is free; all tests of a file in `TOGETHER` to the same worker, and these first.

    Marks of pytest-xdist would say the same, but with pytest 9.2 it does not see them.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._indexes: dict[str, int] = {}
        """Of each test; all workers have the same."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """As in the base class, but what is done is forgotten: it counts all that a worker was ever given, for each test."""
        nodeid = self.registered_collections[node][item_index]
        scope = self._split_scope(nodeid)
        unit = self.assigned_work[node][scope]
        unit[nodeid] = True
        if all(unit.values()):
            del self.assigned_work[node][scope]
        self._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """As in the base class, but without a search through ten thousand names for each test."""
        scope, unit = self.workqueue.popitem(last=False)
        self.assigned_work[node][scope] = unit
        if not self._indexes:
            self._indexes.update({nodeid: index for index, nodeid in enumerate(self.registered_collections[node])})
        node.send_runtest_some([self._indexes[nodeid] for nodeid, done in unit.items() if not done])
