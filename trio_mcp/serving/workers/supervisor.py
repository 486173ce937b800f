"""The supervisor of a node with several workers: owns what listens, keeps each place filled, rolls, stops.

 supervisor ─┬─ listening sockets, for its whole life
             ├─ the store that the workers share
             ├─ place 0 ── worker process, and its successor while it is rolled
             ├─ place 1 ── …
             └─ signals   TERM INT QUIT: the node drains, a second one ends it · HUP: rolled · others: passed on

It imports none of the user's code, so that nothing there can block or end it, and new workers run new code.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

import msgspec
import trio

from trio_mcp.cluster.siblings import Ended, Sibling
from trio_mcp.cluster.store.memory import SharedMemory
from trio_mcp.observability.logs import event, toggle_debug
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving import systemd
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.workers.messages import Ready, Setup, Team
from trio_mcp.serving.workers.node_admin import WorkersView, serve_admin
from trio_mcp.serving.workers.restarts import ALIVE_SECONDS, Place, hangs
from trio_mcp.serving.workers.worker_process import WorkerProcess, how_it_ended
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.sessions.shares import SessionCounts
from trio_mcp.sessions.stop_times import StopTimes

__all__ = ["Supervisor", "WorkerFailed"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
EXPIRE_SECONDS = 60.0
"""Between two removals of what has expired in the store."""
START_SECONDS = 600.0
"""A worker that does not serve by then hangs in an import or in its lifespan: it is killed. Some servers load large models. One that
waits for an authorization server is not killed, unless it is to replace another."""
MOST_ENDED = 64
"""Workers that have ended which the others are told of. Nobody has to wait for evidence that one of them is gone."""
EXTRA_SECONDS = 3.0
"""A worker that has not ended so long after the time for its stop is killed."""


_NOT_READY = f"it was not ready {START_SECONDS:g} s after its start"


class WorkerFailed(McpError):
    """The first worker could not start; the text is its own."""


class _Slot:
    """A place for one worker."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.place = Place()
        self.worker: WorkerProcess | None = None
        """The process that has the place now, also when it has ended."""
        self.rolling: trio.Event | None = None
        """Set when a successor serves, or does not start; None while none is being started."""


class Supervisor:
    """Keeps the workers of one node. `template` is the setup of each worker, but for its own name and place."""

    def __init__(self, template: Setup, settings: Settings, announce: Callable[[Ready], None]) -> None:
        self.memory: SharedMemory = SharedMemory()
        self._counts = SessionCounts()
        self._metrics = Metrics()
        self._view = WorkersView(self._metrics, lambda: self.serving)
        self._template = template
        self._settings = settings
        self._announce = announce
        self._slots = [_Slot(index) for index in range(settings.workers)]
        self._all: set[WorkerProcess] = set()
        """Every process that has not ended."""
        self._ended: deque[Ended] = deque(maxlen=MOST_ENDED)
        self._numbers = count(1)
        self._manager = systemd.Notifier.taken_from()
        self._stop_asked = trio.Event()
        self._stopping: signal.Signals | None = None
        self._signalled = False
        """A stop signal has come: the next one ends the node at once. A drain that the admin asked for is no signal."""
        self._roll_asked = trio.Event()
        self._failure: str | None = None
        self._code = 0

    async def run(self) -> int:
        """Until a stop signal, or `stop`; the exit code. Raises WorkerFailed when the first worker does not start."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals)
            nursery.start_soon(self._watch)
            nursery.start_soon(self._expire)
            nursery.start_soon(self._manager.keep_alive)
            nursery.start_soon(self._kill_late)
            await nursery.start(serve_admin, self._view, partial(self.stop, signal.SIGTERM), self._settings)
            # A nursery of its own for the processes: those that are replaced outlive the task that started them.
            async with trio.open_nursery() as self._processes:
                if await self._fill_places():
                    # A roll that was asked for before: the first worker alone finds out whether the server can start.
                    nursery.start_soon(self._roll_when_asked)
            nursery.cancel_scope.cancel("all workers have ended")
        if self._failure is not None:
            raise WorkerFailed(self._failure)
        return self._code

    @property
    def serving(self) -> list[WorkerProcess]:
        """The workers that are ready."""
        return [worker for worker in self._all if worker.said is not None]

    def stop(self, number: signal.Signals) -> None:
        """Drain the node, as that signal asks for, unless it drains already."""
        if self._stopping is not None:
            return
        self._stopping = number
        self._manager.tell(systemd.stopping)
        if self._view.life.is_running:
            self._view.life.enter(NodeState.DRAINING)
        event(logger, logging.INFO, "node stops", signal=number.name, workers=len(self._all))
        for worker in self._all:
            worker.stop(number)
        self._stop_asked.set()

    def roll(self) -> None:
        """Replace all workers, one after the other."""
        self._roll_asked.set()

    # Places.

    async def _fill_places(self) -> bool:
        """Start the first worker, then the others: a server that cannot start says so once. False when it cannot, or the node stops."""
        (first, *others) = self._slots
        if self._stop_asked.is_set():
            return False
        worker = self._start(first)
        await worker.ready.wait()
        if worker.said is None:
            await worker.ended.wait()
            if self._stopping is None:
                self._failure = None if worker.failure_is_logged else worker.failure
                if worker.failure is None:
                    # Killed, perhaps for want of memory: it could not say so itself.
                    event(logger, logging.ERROR, "worker died", **worker.end_fields)
                self._code = max(worker.code or 0, 0) or 1
            return False
        if self._stop_asked.is_set():
            # Nobody would tell workers that start now.
            return False
        self._give_place(first, worker)
        for slot in others:
            self._give_place(slot, self._start(slot))
        self._view.life.waits_for.clear()
        self._view.life.start()
        self._view.look()
        self._announce(worker.said)
        self._manager.tell(systemd.ready)
        return True

    def _give_place(self, slot: _Slot, worker: WorkerProcess) -> None:
        slot.worker = worker
        self._processes.start_soon(self._keep, slot, worker)

    async def _keep(self, slot: _Slot, worker: WorkerProcess) -> None:
        """Start another once that worker has ended, unless a roll has given its place away, or the node stops."""
        await worker.ended.wait()
        await self._rolled(slot)
        if slot.worker is not worker or self._stopping is not None:
            return
        with trio.move_on_after(self._after_death(slot, worker)):
            await self._stop_asked.wait()
        # A roll may have begun, or filled the place, during the pause.
        await self._rolled(slot)
        if slot.worker is worker and self._stopping is None:
            self._give_place(slot, self._start(slot))

    @staticmethod
    async def _rolled(slot: _Slot) -> None:
        while slot.rolling is not None:
            await slot.rolling.wait()

    def _after_death(self, slot: _Slot, worker: WorkerProcess) -> float:
        """Say that a worker has died; the seconds until the next is started in its place."""
        self._metrics.worker_died()
        wait = slot.place.died(None if worker.ready_since is None else trio.current_time() - worker.ready_since)
        event(logger, logging.ERROR, "worker died", **worker.end_fields, again_in=wait)
        return wait

    def _start(self, slot: _Slot) -> WorkerProcess:
        """A new worker for that place; its process exists a moment later."""
        name, leads = f"{self._template.name}-w{next(self._numbers)}", not self.serving
        setup = msgspec.structs.replace(self._template, name=name, index=slot.index, leads=leads)
        worker = WorkerProcess(setup, self.memory, self._counts, self._heed_change)
        self._all.add(worker)
        self._processes.start_soon(self._own, worker)
        return worker

    def _heed_change(self) -> None:
        """Tell all workers where the others are, and which have ended; and when none has anything left to drain, that they may end."""
        team = team_of(self._all, self._ended)
        may_end = self._stopping is not None and all(worker.idle for worker in self._all)
        for worker in self._all:
            worker.introduce(team)
            if may_end:
                worker.let_end()
        self._view.look()

    async def _own(self, worker: WorkerProcess) -> None:
        try:
            await worker.run()
        finally:
            self._all.discard(worker)
            if worker.here is not None:
                self._ended.append(Ended(worker.name, worker.here.boot))
            self._heed_change()
            self._view.note_end(worker)
            if worker.was_given_up and (worker.retired or self._stopping is not None):
                event(logger, logging.ERROR, "worker killed", **worker.end_fields)
            if self._stopping is not None and worker.code and worker.said is not None:
                # A worker that a signal has ended, which is negative, was cut short.
                self._code = self._code or max(worker.code, 1)

    # Rolling.

    async def _roll_when_asked(self) -> None:
        await self._roll_asked.wait()
        while self._stopping is None:
            self._roll_asked = trio.Event()
            event(logger, logging.INFO, "rolling", workers=len(self._slots))
            self._manager.tell(systemd.reloading())
            if await self._roll_all():
                event(logger, logging.INFO, "rolled")
            if self._stopping is None:
                self._manager.tell(systemd.ready)
            await self._roll_asked.wait()

    async def _roll_all(self) -> bool:
        """False when it was given up: a new worker did not start or died soon, or the node stops."""
        for slot in self._slots:
            if not await self._replace(slot) or self._stopping is not None:
                return False
        return True

    async def _replace(self, slot: _Slot) -> bool:
        """Start a successor, and have the old worker drain once that serves. A successor that dies meanwhile is started again at once."""
        old = slot.worker
        slot.rolling = trio.Event()
        try:
            new = await self._successor(slot)
        finally:
            slot.rolling.set()
            slot.rolling = None
        if new is None:
            return False
        if old is not None and self._stopping is None:
            old.retire()
            with trio.move_on_after(self._stop_times.whole + EXTRA_SECONDS):
                await old.ended.wait()
            old.give_up("it did not end in time after it was replaced")
        if new.ended.is_set() and slot.place.pause:
            # After one that had served for long there is no pause: it died of something else than new code.
            self._say_given_up(new, self._slots[slot.index + 1 :], "it died while the old one drained: ")
            return False
        return True

    async def _successor(self, slot: _Slot) -> WorkerProcess | None:
        """A new worker that serves, and has the place; None when it did not start."""
        new = self._start(slot)
        with trio.move_on_after(START_SECONDS):
            await new.ready.wait()
        if not new.ready.is_set():
            # Also where it waits for keys: the old workers have some.
            new.give_up(" and ".join([_NOT_READY, *(f"waits for {what}" for what in new.waits_for)]))
            await new.ready.wait()
        if new.said is None:
            await new.ended.wait()
            self._say_given_up(new, self._slots[slot.index :])
            return None
        # The old code may have kept dying; the new one has not yet.
        slot.place = Place()
        self._give_place(slot, new)
        return new

    def _say_given_up(self, new: WorkerProcess, not_rolled: Iterable[_Slot], when: str = "") -> None:
        """Unless it was the stop of the node that ended the new worker."""
        if self._stopping is None:
            why = new.failure or new.why_killed or how_it_ended(new.code)
            kept = ", ".join(slot.worker.name for slot in not_rolled if slot.worker in self.serving)
            event(
                logger,
                logging.ERROR,
                "roll given up",
                worker=new.name,
                why=when + why,
                stack=new.stack,
                kept=kept or None,
            )

    # Stopping, and what runs all the time.

    @property
    def _stop_times(self) -> StopTimes:
        settings = self._settings
        delay, window, cleanup = settings.drain_delay_seconds, settings.drain_timeout, settings.cleanup_timeout
        return StopTimes(delay, window, cleanup, settings.task_drain_seconds)

    async def _kill_late(self) -> None:
        """Once the node stops: end what has not ended in its time. Each worker ends by itself before that, if its interpreter runs at all."""
        await self._stop_asked.wait()
        await trio.sleep(self._stop_times.whole + EXTRA_SECONDS)
        for worker in self._all:
            self._code = 1
            worker.give_up("it did not end in time")

    async def _watch(self) -> None:
        """Kill workers that do not start or whose event loop does not run any more; another is started in their place."""
        looked = trio.current_time()
        while True:
            await trio.sleep(ALIVE_SECONDS)
            now = trio.current_time()
            for worker in self._all:
                if worker.heard is not None and hangs(
                    now, worker.heard, looked=looked, patience=self._settings.worker_timeout
                ):
                    worker.give_up(f"its event loop did not run for {self._settings.worker_timeout:g} s")
                if worker.said is None and not worker.waits_for and now - worker.began >= START_SECONDS:
                    worker.give_up(_NOT_READY)
            self._tell_what_is_missing()
            looked = now

    def _tell_what_is_missing(self) -> None:
        """Where the first worker serves and is not ready, for it has no keys yet: the start does not wait for an authorization server."""
        life, missing = self._view.life, {what for worker in self._all for what in worker.waits_for}
        if life.state is NodeState.STARTING:
            if missing and not life.waits_for:
                self._manager.tell(systemd.ready)
            life.waits_for = missing

    async def _expire(self) -> None:
        """Remove from the store what has expired, for nobody may ask for it again."""
        while True:
            await trio.sleep(EXPIRE_SECONDS)
            self.memory.forget_expired()

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        # Those that are ignored from the start stay so: nohup.
        numbers = [each for each in (*STOPS, signal.SIGHUP, *PASSED_ON) if signal.getsignal(each) is not signal.SIG_IGN]
        with trio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                self._heed(signal.Signals(number))

    def _heed(self, number: signal.Signals) -> None:
        if number in STOPS and self._signalled:
            self._code = 128 + number
            for worker in self._all:
                worker.kill("the node was told twice to stop")
        elif number in STOPS:
            self._signalled = True
            self.stop(number)
        elif number is signal.SIGHUP:
            self.roll()
        else:
            if number is signal.SIGUSR1:
                toggle_debug()
            for worker in self.serving:
                worker.pass_on(number)


def team_of(workers: Iterable[WorkerProcess], ended: Iterable[Ended]) -> Team:
    """What each worker is told of the others."""
    there = [
        Sibling(worker.name, worker.here.boot, worker.here.url, worker.said is not None and not worker.retired)
        for worker in workers
        if worker.here is not None
    ]
    return Team(there, list(ended))
