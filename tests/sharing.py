"""What several processes that run tests would each do, done once."""

from __future__ import annotations

import importlib
from pathlib import Path

__all__ = ["compile_share"]

TESTS = Path(__file__).parent


def compile_share(worker: int, workers: int) -> None:
    """Import this worker's part of the test modules, so that pytest rewrites each once, and not once in each worker."""
    for path in sorted(TESTS.rglob("test_*.py"))[worker::workers]:
        importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
