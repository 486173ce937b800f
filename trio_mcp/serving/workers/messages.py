"""What the supervisor of a node and its workers say to each other.

supervisor ──Setup──▶ worker ──Ready──▶ supervisor
           ◀─Run, Subscribe── … ──Done, Heard─▶      the store that all workers share
           ◀─Hold, LetGo── … ──Held─▶                how many sessions one caller has in the node
           ◀─Alive── each second, from the event loop
           ──Ask─▶ … ◀─Told──                        metrics, sessions
           ──Stop, Retire─▶                          the node stops; this worker is replaced
           ◀─Idle── … ──AllIdle─▶                    the node stops, and nothing is left on this worker; on any
           ◀─Here── … ──Team─▶                       where each worker is; with Redis, where it is a node of its own

After an upgrade SIGHUP starts workers of another release than their supervisor's. Setup begins with the number of the protocol: a worker
that speaks another says so (`Failed`), and ends.
"""

from __future__ import annotations

import os
from typing import Any, Literal, TypeAlias

import msgspec

from trio_mcp.cluster.siblings import Ended, Sibling
from trio_mcp.observability.build import version
from trio_mcp.protocol.errors import McpError
from trio_mcp.sessions.shares import Share

__all__ = [
    "LAST_PAGE",
    "PROTOCOL",
    "Alive",
    "AllIdle",
    "Ask",
    "Done",
    "Failed",
    "FromSupervisor",
    "FromWorker",
    "Heard",
    "Held",
    "Here",
    "Hold",
    "Idle",
    "LetGo",
    "Ready",
    "Retire",
    "Run",
    "Setup",
    "Stop",
    "Subscribe",
    "Team",
    "Told",
    "Topic",
    "understood",
]

PROTOCOL = 1
"""Of all that the two say to each other, and of what workers send each other. To be raised by a release that changes any of it."""

Topic: TypeAlias = Literal["metrics", "sessions"]


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


# To a worker.


class Setup(_Message, frozen=True):
    """The first message: what to serve, and as which worker."""

    protocol: int
    """The supervisor's `PROTOCOL`."""
    release: str
    """The version of trio-mcp that the supervisor runs."""
    target: str
    flags: dict[str, Any]
    """The settings that were given on the command line; the worker reads the others by itself."""
    path: list[str]
    """`sys.path` of the supervisor."""
    name: str
    """The worker's node id: another for each process."""
    index: int
    """Its place among the workers, from 0."""
    folder: str
    """Where the sockets are by which workers reach each other."""
    secret: str
    """Keys for a node that has none set; otherwise empty."""
    listeners: list[int]
    """Descriptors of the listening sockets, inherited."""
    leads: bool = True
    """No other worker serves yet. This one accepts connections at once, and answers that the node is not ready; others accept when they are
    ready."""

    @property
    def stack_file(self) -> str:
        """Where the worker writes its stack when it is asked: see `deaf`."""
        return os.path.join(self.folder, f"{self.name}.stack")


class Done(_Message, frozen=True):
    """The results of a `Run`."""

    number: int
    results: bytes


class Heard(_Message, frozen=True):
    """A message that was published."""

    message: bytes


class Held(_Message, frozen=True):
    """The answer to a `Hold`."""

    number: int
    full: str
    """The kind of the share that is full, and then nothing was counted; else empty."""


class Ask(_Message, frozen=True):
    """Asks for this worker's metrics or sessions; answered by a `Told` with the same number."""

    number: int
    topic: Topic


class Stop(_Message, frozen=True):
    """The whole node stops: drain as a node without peers."""

    signal: int


class AllIdle(_Message, frozen=True):
    """The node stops, and no worker has anything left to drain: this one may end."""


class Retire(_Message, frozen=True):
    """This worker is replaced: drain as one of several nodes."""


class Team(_Message, frozen=True):
    """The workers of the node, the one that is told among them, and those that have ended lately."""

    workers: list[Sibling]
    ended: list[Ended]


# From a worker.


class Here(_Message, frozen=True):
    """Where this worker listens for the others. Sent with Redis only: without it, the others find that in the supervisor's store."""

    boot: str
    url: str
    """`unix:/folder/boot.http`."""


class Run(_Message, frozen=True):
    """Do these operations of the store."""

    number: int
    operations: bytes


class Subscribe(_Message, frozen=True):
    """From now on, send what is published."""


class Hold(_Message, frozen=True):
    """Count a session of this worker for these callers: see `SessionCounts`."""

    number: int | None
    """Of the `Held` that is wanted; None for a session that goes on, within the bounds or not."""
    session_id: str
    shares: list[Share]


class LetGo(_Message, frozen=True):
    """Count the session no more, if this worker has it."""

    session_id: str


class Ready(_Message, frozen=True):
    """The worker serves."""

    banner: str
    """What a person is shown."""
    fields: dict[str, str]
    """What a log is told: see `launch.ready_fields`."""


class Alive(_Message, frozen=True):
    """The event loop runs."""

    waits_for: list[str] = []
    """What a worker that serves already still lacks before it is ready: see `LifeCycle.missing`."""


class Idle(_Message, frozen=True):
    """Whether this worker has nothing left to drain. Sent while the node stops, and when a worker that is replaced has drained.

    It may become False again: while the node stops, each worker serves what comes until all may end (`AllIdle`).
    """

    idle: bool


LAST_PAGE = -1
"""The number of a `Told` that nobody asked for: the metrics of a worker that ends."""


class Told(_Message, frozen=True):
    """The answer to an `Ask`."""

    number: int
    body: bytes


class Failed(_Message, frozen=True):
    """Why the worker ends: the text says what to do about it, too, unless it is an exception of the user's code."""

    text: str
    logged: bool = False
    """The worker has logged it."""


FromSupervisor: TypeAlias = Setup | Done | Heard | Held | Ask | Stop | AllIdle | Retire | Team
FromWorker: TypeAlias = Run | Subscribe | Hold | LetGo | Here | Ready | Alive | Idle | Told | Failed


class _Hello(msgspec.Struct, frozen=True, tag="Setup"):
    """What can be read of the `Setup` of any release."""

    protocol: int = 0
    release: str = "of an earlier release"


def understood(first: bytes) -> Setup:
    """The first message, as a worker gets it. Raises McpError for that of a supervisor which speaks another protocol."""
    try:
        hello = msgspec.msgpack.decode(first, type=_Hello)
        if hello.protocol == PROTOCOL:
            return msgspec.msgpack.decode(first, type=Setup)
    except msgspec.MsgspecError as error:
        raise McpError(f"the first message of the supervisor cannot be read: {error}") from error
    raise McpError(
        f"this worker runs trio-mcp {version()}, its supervisor trio-mcp {hello.release}, and they speak different protocols: "
        "restart the node, for SIGHUP replaces the workers alone"
    )
