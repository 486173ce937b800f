"""One cluster for several tests: it runs in a thread, because a test's Trio ends with the test.

Tests may ask it anything over HTTP, read its logs and load another dynamic file; starting and stopping parts is for the
tests that have a cluster of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import trio

from tests.rig.cluster import Cluster, cluster
from tests.rig.waiting import PATIENCE

__all__ = ["shared_cluster"]


@contextmanager
def shared_cluster(**options: Any) -> Iterator[Cluster]:
    """A cluster for the length of the block, as `cluster(**options)` makes it."""
    held = _Held()
    with ThreadPoolExecutor(1, "cluster") as threads:
        running = threads.submit(trio.run, held.run, options)
        held.known.wait()
        if held.cluster is None:
            running.result()  # raises what kept it from standing
        try:
            assert held.cluster is not None
            yield held.cluster
        finally:
            held.stop()
            running.result(PATIENCE)


class _Held:
    def __init__(self) -> None:
        self.known = threading.Event()
        self.cluster: Cluster | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._over: trio.Event | None = None

    async def run(self, options: dict[str, Any]) -> None:
        """The cluster until `stop`."""
        self._token, self._over = trio.lowlevel.current_trio_token(), trio.Event()
        try:
            async with cluster(**options) as self.cluster:
                self.known.set()
                await self._over.wait()
        finally:
            self.known.set()

    def stop(self) -> None:
        """Have the block end."""
        assert self._token is not None
        assert self._over is not None
        self._token.run_sync_soon(self._over.set)
