"""What the supervisor of a node and its workers say to each other.

supervisor ──Setup──▶ worker ──Ready──▶ supervisor
           ◀─Run, Subscribe── … ──Done, Heard─▶      the store that all workers share
           ◀─Alive── each second, from the event loop
           ──Ask─▶ … ◀─Told──                        metrics, sessions
           ──Stop, Retire─▶                          the node stops; this worker is replaced

Both run the same release, so messages have no versions.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

__all__ = [
    "LAST_PAGE",
    "Alive",
    "Ask",
    "Done",
    "Failed",
    "FromSupervisor",
    "FromWorker",
    "Heard",
    "Ready",
    "Retire",
    "Run",
    "Setup",
    "Stop",
    "Subscribe",
    "Told",
    "Topic",
]

Topic: TypeAlias = Literal["metrics", "sessions"]


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


# To a worker.


class Setup(_Message, frozen=True):
    """The first message: what to serve, and as which worker."""

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


class Done(_Message, frozen=True):
    """The results of a `Run`."""

    number: int
    results: bytes


class Heard(_Message, frozen=True):
    """A message that was published."""

    message: bytes


class Ask(_Message, frozen=True):
    """Wants a `Told` with this number."""

    number: int
    topic: Topic


class Stop(_Message, frozen=True):
    """The whole node stops: drain as a node without peers."""

    signal: int


class Retire(_Message, frozen=True):
    """This worker is replaced: drain as one of several nodes."""


# From a worker.


class Run(_Message, frozen=True):
    """Do these operations of the store."""

    number: int
    operations: bytes


class Subscribe(_Message, frozen=True):
    """From now on, send what is published."""


class Ready(_Message, frozen=True):
    """The worker serves."""

    banner: str
    """What a person is shown."""
    fields: dict[str, str]
    """What a log is told: see `launch.ready_fields`."""


class Alive(_Message, frozen=True):
    """The event loop runs."""

    sessions: int


LAST_PAGE = -1
"""The number of a `Told` that nobody asked for: the metrics of a worker that ends."""


class Told(_Message, frozen=True):
    """What was asked for."""

    number: int
    body: bytes


class Failed(_Message, frozen=True):
    """The start failed, and will fail again: the text says why and what to do."""

    text: str


FromSupervisor: TypeAlias = Setup | Done | Heard | Ask | Stop | Retire
FromWorker: TypeAlias = Run | Subscribe | Ready | Alive | Told | Failed
