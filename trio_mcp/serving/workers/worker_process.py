"""One worker process as its supervisor has it: started by exec, told and asked over a channel, given the store, ended."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import trio

from trio_mcp.cluster.membership import CARD_SECONDS
from trio_mcp.cluster.record import NodeCard
from trio_mcp.cluster.store.encoding import decode_operations, encode_results
from trio_mcp.cluster.store.memory import SharedMemory
from trio_mcp.observability.logs import event
from trio_mcp.serving.workers.channel import Channel, ChannelBroken
from trio_mcp.serving.workers.deaf import NO_THREADS, STACK_SECONDS, STOP_CLOCK, WRITE_STACK, read_stack
from trio_mcp.serving.workers.messages import (
    LAST_PAGE,
    Alive,
    AllIdle,
    Ask,
    Done,
    Failed,
    FromSupervisor,
    FromWorker,
    Heard,
    Held,
    Here,
    Hold,
    Idle,
    LetGo,
    Ready,
    Retire,
    Run,
    Setup,
    Stop,
    Subscribe,
    Team,
    Told,
    Topic,
)
from trio_mcp.sessions.shares import SessionCounts

__all__ = ["WorkerProcess", "how_it_ended"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

LAST_WORDS_SECONDS = 1.0
"""For what a process sent before it ended to be read."""
KILLED_SECONDS = 5.0
"""For the kernel to end a process that was killed."""
SENSELESS = (msgspec.MsgspecError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
"""What is raised for operations that cannot be decoded, or have values that make no sense: the worker is broken, or of another release."""


class WorkerProcess:
    """One worker, as the supervisor has it; `run` starts and owns the process. All workers share the store `memory`, and `counts`.

    `changed` is called whenever one of these changes: `here`, `said`, `retired`, `idle`.
    """

    def __init__(
        self,
        setup: Setup,
        memory: SharedMemory,
        counts: SessionCounts,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.setup: Setup = setup
        self._changed = changed
        self.here: Here | None = None
        """Where it listens for the other workers; None before it has said so, and without Redis (see `Here`)."""
        self.retired: bool = False
        """Another has taken its place, or takes it now."""
        self.name: str = setup.name
        self.ready: trio.Event = trio.Event()
        """Set when it serves, or has ended."""
        self.ended: trio.Event = trio.Event()
        self.said: Ready | None = None
        """What it said when it was ready; None before."""
        self.began: float = trio.current_time()
        """When it was made. Trio's clock, as the next two."""
        self.ready_since: float | None = None
        self.heard: float | None = None
        """When its event loop gave its last sign of life; None before the first, and once the loop has ended."""
        self.idle: bool = False
        """It has nothing left to drain."""
        self.waits_for: list[str] = []
        """What it lacks before it is ready, where its lifespan runs already: keys that verify tokens."""
        self.failure: str | None = None
        """Why it ended, where it could say so."""
        self.failure_is_logged: bool = False
        """By the worker."""
        self.why_killed: str | None = None
        self.stack: str | None = None
        """Where it stood when its event loop did not run, if it could write that."""
        self.last_page: bytes | None = None
        """Its metrics as they were when it ended, if it could say."""
        self.code: int | None = None
        """The exit code, negative for a signal; None while it runs."""
        self._memory = memory
        self._counts = counts
        self._process: trio.Process | None = None
        self._channel: Channel[FromWorker, FromSupervisor] | None = None
        self._subscribed = False
        self._given_up = trio.Event()
        self._unwanted = False
        """It was told to end before its process existed."""
        self._numbers = count()
        self._asked: dict[int, trio.MemorySendChannel[bytes]] = {}

    @property
    def pid(self) -> int | None:
        """None before the process exists."""
        return None if self._process is None else self._process.pid

    @property
    def was_given_up(self) -> bool:
        """Whether `give_up` was called."""
        return self._given_up.is_set()

    @property
    def end_fields(self) -> dict[str, Any]:
        """Who ended, how and why, for the log."""
        why = self.failure or self.why_killed
        return {"worker": self.name, "pid": self.pid, "how": how_it_ended(self.code), "why": why, "stack": self.stack}

    async def run(self) -> None:
        """Start the process, and serve it until it has ended. It is killed when this is cancelled.

        Where no process can be started, `failure` says why.
        """
        try:
            ours, its = socket.socketpair()
            with closing(Channel[FromWorker, FromSupervisor](ours, FromWorker)) as self._channel:
                with its:
                    process = await _execute(self.setup, its.fileno())
                await self._serve(process, self._channel)
        except OSError as error:
            # Too many processes or open files, or no memory.
            self.failure = str(error)
        finally:
            self._counts.process_ended(self.name)
            self._bury()
            self.ended.set()
            self.ready.set()

    async def _serve(self, process: trio.Process, channel: Channel[FromWorker, FromSupervisor]) -> None:
        self._process = process
        channel.send(self.setup)
        event(logger, logging.INFO, "worker started", worker=self.name, pid=process.pid)
        if self._unwanted:
            process.terminate()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.write)
                nursery.start_soon(self._converse, channel, nursery)
                nursery.start_soon(self._kill_when_broken, channel)
                nursery.start_soon(self._kill_when_given_up, process)
                self.code = await process.wait()
                with trio.move_on_after(LAST_WORDS_SECONDS):
                    await channel.broken.wait()
                nursery.cancel_scope.cancel("the worker has ended")
        finally:
            if process.returncode is None:
                process.kill()
                with trio.move_on_after(KILLED_SECONDS, shield=True):
                    self.code = await process.wait()

    def stop(self, number: int) -> None:
        """The node stops. A process that does not serve yet is ended at once."""
        self._tell(Stop(number))

    def retire(self) -> None:
        """Have it drain, for another has taken its place."""
        self.retired = True
        self._changed()
        self._tell(Retire())

    def let_end(self) -> None:
        """The node stops, and no worker has anything left to drain."""
        if self._channel is not None:
            self._channel.send(AllIdle())

    def introduce(self, team: Team) -> None:
        """Tell it of the other workers, once it has said where it is."""
        if self.here is not None and self._channel is not None:
            self._channel.send(team)

    def _tell(self, message: Stop | Retire) -> None:
        if self.said is not None and self._channel is not None:
            self._channel.send(message)
            if STOP_CLOCK is not None:
                self.pass_on(STOP_CLOCK)
        elif self._process is None:
            self._unwanted = True
        elif self._process.returncode is None:
            self._process.terminate()

    def pass_on(self, number: int) -> None:
        """Send the signal to the process, once it serves: before that it would end it."""
        if self.said is not None and self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def kill(self, why: str) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            self.why_killed = self.why_killed or why
            self._process.kill()

    def give_up(self, why: str) -> None:
        """End the process, whose event loop does not run. Before that it has STACK_SECONDS to write where it stands."""
        if not self._given_up.is_set():
            self.why_killed = self.why_killed or why
            self._given_up.set()

    async def ask(self, topic: Topic, seconds: float) -> bytes | None:
        """Its answer; None when none comes within `seconds`, or the process ends."""
        if self._channel is None or self.said is None or self._channel.broken.is_set():
            return None
        number = next(self._numbers)
        put, answer = trio.open_memory_channel[bytes](1)
        self._asked[number] = put
        self._channel.send(Ask(number, topic))
        try:
            with trio.move_on_after(seconds), answer:
                return await answer.receive()
        except trio.EndOfChannel:
            return None
        finally:
            self._asked.pop(number, None)
        return None

    async def _converse(self, channel: Channel[FromWorker, FromSupervisor], nursery: trio.Nursery) -> None:
        try:
            while True:
                self._take(await channel.receive(), channel, nursery)
        except ChannelBroken:
            for put in self._asked.values():
                put.close()

    def _take(self, message: FromWorker, channel: Channel[FromWorker, FromSupervisor], nursery: trio.Nursery) -> None:
        match message:
            case Run(number, operations):
                if not channel.send(Done(number, self._results(operations, channel))):
                    # The worker has no use for results that it cannot read, and says so itself.
                    channel.send(Done(number, b""))
            case Subscribe():
                if not self._subscribed:
                    self._subscribed = True
                    nursery.start_soon(self._publish_to, channel)
            case Hold(None, session_id, shares):
                self._counts.note(session_id, shares, self.name)
            case Hold(int(number), session_id, shares):
                channel.send(Held(number, self._counts.take(session_id, shares, self.name)))
            case LetGo(session_id):
                self._counts.give_back(session_id, self.name)
            case Alive(waits_for):
                self.heard, self.waits_for = trio.current_time(), waits_for
            case Idle(idle):
                self.idle = idle
                self._changed()
            case Told(number, body):
                if number == LAST_PAGE:
                    # Its event loop ends now, and the process when its threads have ended: that is no hanging.
                    self.last_page, self.heard = body, None
                put = self._asked.pop(number, None)
                if put is not None:
                    put.send_nowait(body)
            case Failed(text, logged):
                self.failure, self.failure_is_logged = text, logged
            case Ready():
                self.said, self.ready_since = message, trio.current_time()
                event(logger, logging.INFO, "worker ready", worker=self.name, pid=self.pid)
                self.ready.set()
                self._changed()
            case Here():
                self.here = message
                self._changed()

    def _results(self, operations: bytes, channel: Channel[FromWorker, FromSupervisor]) -> bytes:
        """Of the operations, encoded. Raises ChannelBroken for those that make no sense: they are this worker's fault alone."""
        try:
            return encode_results([self._memory.do(operation) for operation in decode_operations(operations)])
        except SENSELESS as error:
            raise channel.fail(f"operations that make no sense: {type(error).__name__}: {error}") from error

    async def _publish_to(self, channel: Channel[FromWorker, FromSupervisor]) -> None:
        while True:
            subscription, messages = self._memory.subscribe()
            try:
                async for message in messages:
                    channel.send(Heard(message))
                # It ended, for too much was published at once: the worker sees from the numbers that it has missed something.
            finally:
                self._memory.unsubscribe(subscription)
                messages.close()

    async def _kill_when_broken(self, channel: Channel[FromWorker, FromSupervisor]) -> None:
        """Kill a process that has closed its channel, or takes nothing from it: nobody could tell it to stop.

        One that has sent its last page of metrics ends by itself. That may take as long as its threads run.
        """
        await channel.broken.wait()
        await trio.sleep(LAST_WORDS_SECONDS)
        if self.last_page is None:
            self.kill(f"its channel to the supervisor has broken: {channel.why_broken}")

    async def _kill_when_given_up(self, process: trio.Process) -> None:
        await self._given_up.wait()
        if WRITE_STACK is not None and process.returncode is None:
            process.send_signal(WRITE_STACK)
            await trio.sleep(STACK_SECONDS)
            self.stack = read_stack(Path(self.setup.stack_file))
        self.kill("")

    def _bury(self) -> None:
        """Remove the file for its stack, and put the card of no process in the place of its card.

        So the other workers know at once that it is gone, and need not wait for evidence. Sessions that died with it are on record as ended.
        """
        # OSError: the disk has become read-only. The supervisor removes the whole folder at its end.
        with suppress(OSError):
            os.unlink(self.setup.stack_file)
        card = NodeCard("ended", "", "stopped", 0, 0)
        self._memory.cards.put(self.name, msgspec.json.encode(card), CARD_SECONDS)
        self._memory.nodes.pop(self.name.encode(), None)
        self._memory.bury(self.name)


async def _execute(setup: Setup, channel: int) -> trio.Process:
    """A new interpreter with the flags of this one. It is no member of our process group: Ctrl+C is for the supervisor alone.

    Raises OSError where none can be started.
    """
    command = [
        sys.executable,
        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
        "-m",
        "trio_mcp.serving.workers.worker",
        str(channel),
        setup.name,
        setup.target,
    ]
    try:
        return await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, pass_fds=[channel, *setup.listeners], process_group=0
        )
    except RuntimeError as error:
        # Trio starts it in a thread, and where there are as many processes as there may be, there is no thread either.
        raise OSError(errno.EAGAIN, f"{error}: {NO_THREADS}") from error


def how_it_ended(code: int | None) -> str:
    """The exit code in words: `exit code 1`, `SIGKILL`; None is of a process that could not be started."""
    if code is None:
        return "it could not be started"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
