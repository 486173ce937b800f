"""How the workers of pytest-xdist share the tests."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

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

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid
