"""How the event loop and the worker threads are doing, for the metrics page."""

from __future__ import annotations

import trio

from trio_mcp.dispatch.service import Service

__all__ = ["watch_vitals"]

BEAT_SECONDS = 1.0


async def watch_vitals(service: Service) -> None:
    """Until cancelled: the loop's lag is how late a task runs that was due."""
    threads = service.threads
    service.metrics.count_threads_with(lambda: threads.borrowed_tokens)
    while True:
        due = trio.current_time() + BEAT_SECONDS
        await trio.sleep_until(due)
        service.metrics.set_loop_lag(trio.current_time() - due)
