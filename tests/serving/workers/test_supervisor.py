"""The places of a supervisor, with workers that are no processes."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.serving.workers.setup import SETUP
from trio_mcp.cluster.store.memory import SharedMemory
from trio_mcp.serving.settings import Settings
from trio_mcp.serving.workers import supervisor as module
from trio_mcp.serving.workers.messages import Ready, Setup, Team
from trio_mcp.serving.workers.restarts import STEADY_SECONDS
from trio_mcp.serving.workers.supervisor import Supervisor
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.sessions.shares import SessionCounts


class Worker:
    """Stands for a `WorkerProcess`: ready at once, and there until it is told to end, or `end` is set."""

    def __init__(self, setup: Setup, memory: SharedMemory, counts: SessionCounts, changed: Callable[[], None]) -> None:
        self.name = setup.name
        self.changed = changed
        self.ready, self.ended, self.end = trio.Event(), trio.Event(), trio.Event()
        self.said: Ready | None = None
        self.ready_since: float | None = None
        self.began = trio.current_time()
        self.here = None
        self.heard = self.pid = self.why_killed = self.last_page = None
        self.code: int | None = None
        self.failure: str | None = None
        self.failure_is_logged = False
        self.stack: str | None = None
        self.waits_for: list[str] = []
        self.idle = self.retired = self.was_given_up = False
        self.told_to_end = 0

    @property
    def end_fields(self) -> dict[str, object]:
        return {"worker": self.name, "stack": self.stack}

    async def run(self) -> None:
        self.said, self.ready_since = Ready("", {}), trio.current_time()
        self.ready.set()
        await self.end.wait()
        self.ended.set()

    def stop(self, number: int) -> None:
        self.end.set()

    def retire(self) -> None:
        self.end.set()

    def kill(self, why: str) -> None:
        self.end.set()

    def give_up(self, why: str) -> None:
        self.kill(why)

    def introduce(self, team: Team) -> None:
        pass

    def let_end(self) -> None:
        self.told_to_end += 1


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[list[int]]:
    """It runs, and is waited for behind the block. Its exit code is in the list then."""
    codes = list[int]()

    async def run() -> None:
        codes.append(await supervisor.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        yield codes


async def test_a_place_that_a_roll_has_filled_during_the_pause_after_a_death_gets_no_second_worker(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(module, "WorkerProcess", Worker)
    supervisor = Supervisor(SETUP, Settings(workers=1), lambda ready: None)

    def there() -> Worker:
        (worker,) = supervisor.serving
        return cast("Worker", worker)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        # The first successor comes at once, the next one after a pause.
        there().end.set()
        await wait_all_tasks_blocked()
        there().end.set()
        await wait_all_tasks_blocked()
        assert supervisor.serving == []
        supervisor.roll()
        await wait_all_tasks_blocked()
        rolled = there()
        await trio.sleep(60)
        assert there() is rolled
        # And the place is kept as before.
        rolled.end.set()
        await trio.sleep(60)
        assert there() is not rolled
        supervisor.stop(signal.SIGTERM)


@pytest.mark.parametrize("waits_for", [[], ["keys"]], ids=["hangs", "waits for keys"])
async def test_a_roll_to_code_that_never_gets_ready_is_given_up(
    waits_for: list[str], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Hanging(Worker):
        async def run(self) -> None:
            self.waits_for = waits_for
            await self.end.wait()
            self.ready.set()
            self.ended.set()

        def kill(self, why: str) -> None:
            super().kill(why)
            self.failure = why

    monkeypatch.setattr(module, "WorkerProcess", Worker)
    supervisor = Supervisor(SETUP, Settings(workers=1), lambda ready: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        (old,) = supervisor.serving
        monkeypatch.setattr(module, "WorkerProcess", Hanging)
        supervisor.roll()
        await trio.sleep(module.START_SECONDS - 5)
        assert "roll given up" not in caplog.messages
        await trio.sleep(10)
        (given_up,) = [record for record in caplog.records if record.getMessage() == "roll given up"]
        assert "not ready 600 s after its start" in str(given_up.__dict__)
        assert ("waits for keys" in str(given_up.__dict__)) is bool(waits_for)
        assert supervisor.serving == [old], "it goes on"
        supervisor.stop(signal.SIGTERM)


class Draining(Worker):
    """One that is replaced has something left to drain until `end` is set."""

    def retire(self) -> None:
        self.retired = True


@pytest.mark.parametrize("soon", [True, False], ids=["soon", "after it had served for long"])
async def test_a_new_worker_that_dies_while_the_old_one_drains_is_started_again_at_once(
    soon: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "WorkerProcess", Draining)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    # The old code kept dying: the pauses after that are not for the new code.
    supervisor._slots[0].place.pause = 20.0

    def there() -> list[str]:
        return sorted(worker.name for worker in supervisor.serving)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        assert there() == ["n-w1", "n-w2"]
        workers = {worker.name: worker for worker in cast("list[Draining]", supervisor.serving)}
        supervisor.roll()
        await wait_all_tasks_blocked()
        assert there() == ["n-w1", "n-w2", "n-w3"]
        assert workers["n-w1"].retired
        await trio.sleep(1 if soon else STEADY_SECONDS)
        (new,) = [worker for worker in cast("list[Draining]", supervisor.serving) if worker.name == "n-w3"]
        new.end.set()
        await wait_all_tasks_blocked()
        assert there() == ["n-w1", "n-w2", "n-w4"], "the old one still drains"
        workers["n-w1"].end.set()
        await wait_all_tasks_blocked()
        # Code that dies soon does not replace what serves.
        assert there() == (["n-w2", "n-w4"] if soon else ["n-w2", "n-w4", "n-w5"])
        assert workers["n-w2"].retired is not soon
        given_up = [record for record in caplog.records if record.getMessage() == "roll given up"]
        assert len(given_up) == soon
        if soon:
            assert "it died while the old one drained" in str(given_up[0].__dict__)
            assert "'kept': 'n-w2'" in str(given_up[0].__dict__)
        workers["n-w2"].end.set()
        supervisor.stop(signal.SIGTERM)


async def test_a_stop_during_a_roll_is_no_error_and_a_node_that_stops_is_not_rolled(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    class Starting(Worker):
        async def run(self) -> None:
            await self.end.wait()
            self.ended.set()
            self.ready.set()

    monkeypatch.setattr(module, "WorkerProcess", Worker)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    async with running(supervisor) as code:
        monkeypatch.setattr(module, "WorkerProcess", Starting)
        supervisor.roll()
        await wait_all_tasks_blocked()
        supervisor.roll()
        supervisor.stop(signal.SIGTERM)
        await wait_all_tasks_blocked()
        supervisor.roll()
    assert code == [0]
    assert caplog.messages.count("rolling") == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_first_worker_that_waits_for_keys_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    keys = trio.Event()

    class Keyless(Worker):
        async def run(self) -> None:
            self.waits_for = ["keys"]
            await keys.wait()
            await super().run()

    monkeypatch.setattr(module, "WorkerProcess", Keyless)
    announced: list[Ready] = []
    supervisor = Supervisor(SETUP, Settings(workers=1), announced.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(10 * module.START_SECONDS)
        assert announced == []
        life = supervisor._view.life
        assert (life.state, life.waits_for) == (NodeState.STARTING, {"keys"})
        keys.set()
        await wait_all_tasks_blocked()
        assert len(announced) == 1
        assert life.state is NodeState.READY
        supervisor.stop(signal.SIGTERM)


async def test_workers_may_end_once_none_has_anything_left_to_drain(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    class Stopping(Worker):
        def stop(self, number: int) -> None:
            pass

        def becomes(self, *, idle: bool) -> None:
            self.idle = idle
            self.changed()

    monkeypatch.setattr(module, "WorkerProcess", Stopping)
    supervisor = Supervisor(SETUP, Settings(workers=3), lambda ready: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        first, second, third = cast("list[Stopping]", supervisor.serving)

        def told() -> list[int]:
            return [each.told_to_end for each in (first, second, third)]

        supervisor.stop(signal.SIGTERM)
        first.becomes(idle=True)
        second.becomes(idle=True)
        assert told() == [0, 0, 0], "the third has something left"
        first.becomes(idle=False)
        # One that has ended has nothing left.
        third.end.set()
        await wait_all_tasks_blocked()
        assert told() == [0, 0, 0], "something came to the first"
        first.becomes(idle=True)
        assert told() == [1, 1, 0]
        first.end.set()
        second.end.set()


async def test_a_worker_that_does_not_end_in_its_time_is_killed_and_the_log_says_where_it_stood(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(Worker):
        def stop(self, number: int) -> None:
            pass

        def give_up(self, why: str) -> None:
            self.was_given_up = True
            self.stack = "in a call"
            super().give_up(why)

    monkeypatch.setattr(module, "WorkerProcess", Stuck)
    settings = Settings(workers=1)
    supervisor = Supervisor(SETUP, settings, lambda ready: None)
    async with running(supervisor) as code:
        supervisor.stop(signal.SIGTERM)
        await trio.sleep(supervisor._stop_times.whole)
        assert "worker killed" not in caplog.messages
    (killed,) = [record for record in caplog.records if record.getMessage() == "worker killed"]
    assert "in a call" in str(killed.__dict__)
    assert code == [1]


@pytest.mark.parametrize(("ended", "code"), [(0, 0), (1, 1), (3, 3), (-signal.SIGKILL, 1)])
async def test_the_exit_code_is_that_of_a_worker_which_does_not_end_well(
    ended: int, code: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    class Ending(Worker):
        def stop(self, number: int) -> None:
            self.code = ended if self.name == "n-w2" else 0
            super().stop(number)

    monkeypatch.setattr(module, "WorkerProcess", Ending)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    async with running(supervisor) as codes:
        supervisor.stop(signal.SIGTERM)
    assert codes == [code]


async def test_a_roll_that_is_asked_for_before_the_node_serves_waits_until_it_does(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    serves, made = trio.Event(), list[str]()

    class Slow(Worker):
        async def run(self) -> None:
            made.append(self.name)
            if len(made) == 1:
                await serves.wait()
            await super().run()

    monkeypatch.setattr(module, "WorkerProcess", Slow)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        supervisor.roll()
        await wait_all_tasks_blocked()
        assert len(made) == 1, "the first worker alone finds out whether the server can start"
        serves.set()
        await trio.sleep(60)
        assert (len(made), len(supervisor.serving)) == (4, 2), "two, and a successor for each"
        supervisor.stop(signal.SIGTERM)


async def test_a_stop_just_when_the_first_worker_serves_starts_no_others(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    made = list[Worker]()

    class Counted(Worker):
        async def run(self) -> None:
            made.append(self)
            if len(made) == 1:
                self.said = Ready("", {})
                self.ready.set()
                # As a signal that is handled in the same turn of the event loop.
                supervisor.stop(signal.SIGTERM)
                self.ended.set()
            else:
                await super().run()

        def stop(self, number: int) -> None:
            pass

    monkeypatch.setattr(module, "WorkerProcess", Counted)
    supervisor = Supervisor(SETUP, Settings(workers=3), lambda ready: None)
    with trio.fail_after(supervisor._stop_times.whole):
        await supervisor.run()
    assert len(made) == 1


async def test_a_stop_before_the_first_worker_exists_starts_none(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(module, "WorkerProcess", Worker)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    supervisor.stop(signal.SIGTERM)
    with trio.fail_after(supervisor._stop_times.whole):
        assert await supervisor.run() == 0


@pytest.mark.parametrize("failure", [None, "there is no file server.py"])
async def test_a_first_worker_that_is_killed_before_it_serves_is_named_in_the_log(
    failure: str | None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Killed(Worker):
        async def run(self) -> None:
            self.failure = failure
            self.ready.set()
            self.ended.set()

    monkeypatch.setattr(module, "WorkerProcess", Killed)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    if failure is None:
        assert await supervisor.run() == 1
    else:
        # It is told once, by who started the node.
        with pytest.raises(module.WorkerFailed, match=failure):
            await supervisor.run()
    assert [each.getMessage() for each in caplog.records].count("worker died") == (failure is None)


async def test_a_node_is_not_ready_while_none_of_its_workers_is(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    class Telling(Worker):
        async def run(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(super().run)
                await self.ready.wait()
                self.changed()

    monkeypatch.setattr(module, "WorkerProcess", Telling)
    supervisor = Supervisor(SETUP, Settings(workers=2), lambda ready: None)
    life = supervisor._view.life

    async def end(*workers: object) -> None:
        for worker in workers:
            cast("Worker", worker).end.set()
        await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        for _ in range(2):
            await end(supervisor.serving[0])
            assert life.state is NodeState.READY
        # The second death within a short time is followed by a pause.
        await end(*supervisor.serving)
        await end(*supervisor.serving)
        assert supervisor.serving == []
        assert (life.state, life.missing) == (NodeState.JOINING, ["workers"])
        await trio.sleep(60)
        assert len(supervisor.serving) == 2
        assert (life.state, life.missing) == (NodeState.READY, [])
        supervisor.stop(signal.SIGTERM)
