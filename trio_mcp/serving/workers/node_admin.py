"""What operators see of a node with workers: one page of metrics, one list of sessions, one state.

The supervisor answers, and asks the workers. A worker that does not answer in time, or whose answer cannot be read, is left out, but for
the counters of its last page.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics
from trio_mcp.observability.refusals import Refusals
from trio_mcp.serving.admin import AdminApp
from trio_mcp.serving.front import listen
from trio_mcp.serving.process_limits import ADMIN_CONNECTIONS
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.workers.messages import Topic
from trio_mcp.serving.workers.metrics_sum import Page, counters, parsed, summed
from trio_mcp.serving.workers.worker_process import WorkerProcess
from trio_mcp.sessions.node_state import WORKERS, LifeCycle
from trio_mcp.transports.listener import Limits, serve

__all__ = ["WorkersView", "serve_admin"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

PATIENCE_SECONDS = 1.0
"""For a worker to answer; Prometheus waits ten."""

_Told = TypeVar("_Told")


class WorkersView:
    """Implements `NodeView`. `workers` are those that are ready."""

    def __init__(self, metrics: Metrics, workers: Callable[[], list[WorkerProcess]]) -> None:
        self.life: LifeCycle = LifeCycle()
        """The state of the node: STARTING until the first worker serves, JOINING while none does any more."""
        self.boot: str = secrets.token_hex(8)
        self.refusals: Refusals = Refusals(metrics)
        self._metrics = metrics
        self._pages: dict[str, Page] = {}
        """The last page of each worker that has not ended, by name."""
        self._ended: Page = ()
        """Counters of all workers that have ended."""
        self._not_understood: set[str] = set()
        """Names of workers that told what cannot be read."""
        self._workers = workers

    async def metrics(self) -> tuple[bytes, str]:
        """Those of all processes, this one's too, and the content type.

        Of a worker that does not answer in time the counters are those of its last page: Prometheus takes a counter that falls for one
        that began again at zero, and would count all of it a second time.
        """
        self._metrics.set_workers(len(self._workers()))
        own, content_type = self._metrics.render()
        answers = await self._ask("metrics", parsed)
        # What a worker has counted that ended while the others were asked is in `_ended` already.
        there = {worker.name for worker in self._workers()}
        pages = {name: page for name, page in answers.items() if name in there}
        silent = [page for name, page in self._pages.items() if name not in pages]
        self._pages.update(pages)
        return summed([parsed(own), *pages.values(), counters(silent)], self._ended), content_type

    async def sessions(self) -> list[dict[str, Any]]:
        """Those of all workers."""
        return [session for each in (await self._ask("sessions", _sessions)).values() for session in each]

    def look(self) -> None:
        """A worker has come or gone: a node that serves is not ready while none of its workers is."""
        if self._workers():
            self.life.settled(WORKERS)
        else:
            self.life.lost(WORKERS)

    def note_end(self, worker: WorkerProcess) -> None:
        """A worker has ended: what it counted stays, as it said at its end, or else when it was asked last."""
        asked = self._pages.pop(worker.name, ())
        last = None if worker.last_page is None else self._read(worker, "metrics", worker.last_page, parsed)
        self._ended = counters([self._ended, asked if last is None else last])
        self._not_understood.discard(worker.name)

    async def _ask(self, topic: Topic, read: Callable[[bytes], _Told]) -> dict[str, _Told]:
        answers: dict[str, _Told] = {}

        async def ask(worker: WorkerProcess) -> None:
            answer = await worker.ask(topic, PATIENCE_SECONDS)
            told = None if answer is None else self._read(worker, topic, answer, read)
            if told is not None:
                answers[worker.name] = told

        async with trio.open_nursery() as nursery:
            for worker in self._workers():
                nursery.start_soon(ask, worker)
        return answers

    def _read(self, worker: WorkerProcess, topic: Topic, body: bytes, read: Callable[[bytes], _Told]) -> _Told | None:
        """What a worker has told; None for what cannot be read, which is logged once for each worker."""
        try:
            return read(body)
        except ValueError as error:
            if worker.name not in self._not_understood:
                self._not_understood.add(worker.name)
                event(
                    logger,
                    logging.ERROR,
                    "worker not understood",
                    worker=worker.name,
                    topic=topic,
                    why=str(error)[:200],
                )
        return None


def _sessions(body: bytes) -> list[dict[str, Any]]:
    """Raises ValueError for anything else."""
    try:
        return msgspec.json.decode(body, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"no list of sessions: {error}") from error


async def serve_admin(
    view: WorkersView, drain: Callable[[], None], settings: Settings, *, task_status: trio.TaskStatus[object]
) -> None:
    """Serve the admin listener of the node until cancelled, if the settings have one. Raises CannotListen."""
    if settings.admin_bind is None:
        task_status.started()
        return
    token = settings.admin_token
    # No web page can reach a Unix socket, and its clients may send any Host.
    hosts = ("*",) if settings.admin_bind.startswith("unix:") else settings.admin_hosts
    app = AdminApp(view, drain, hosts=hosts, token=None if token is None else token.get_secret_value())
    run = partial(serve, limits=Limits(connections=ADMIN_CONNECTIONS), refused=view.refusals.note)
    await run(app, await listen([settings.admin_bind], admin=True), task_status=task_status)
