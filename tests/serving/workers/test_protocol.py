"""A supervisor and a worker of two releases: which may work together, and what is said where they may not."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from tests.serving.workers.setup import SETUP
from trio_mcp.cluster.store.port import Operation
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.workers import messages, moves, worker
from trio_mcp.serving.workers.channel import receive_now, send_now
from trio_mcp.serving.workers.messages import PROTOCOL, Failed, FromSupervisor, FromWorker, understood
from trio_mcp.transports.listener import moving


def _forms(kind: Any, seen: set[Any]) -> Iterator[str]:
    """The type, and all that its fields are made of, as text."""
    if kind in seen:
        return
    seen.add(kind)
    if isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind)):
        for name, of in sorted(get_type_hints(kind).items()):
            yield f"{kind.__name__}.{name}: {of}"
            yield from _forms(of, seen)
    for part in get_args(kind):
        yield from _forms(part, seen)


def test_whoever_changes_what_is_said_raises_the_number_of_the_protocol() -> None:
    """When this fails: raise `PROTOCOL`, unless no release has had the number yet, and write the new digest here."""
    seen: set[Any] = set()
    forms = [form for kind in (FromSupervisor, FromWorker, Operation, moving.Moved) for form in _forms(kind, seen)]
    told = "\n".join([*forms, repr(moves._YES + moves._NO)])
    assert (PROTOCOL, hashlib.sha256(told.encode()).hexdigest()[:16]) == (1, "1d7da4b71cdea9e9")


def test_a_supervisor_of_the_same_protocol_is_understood() -> None:
    assert understood(msgspec.msgpack.encode(SETUP)) == SETUP


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (msgspec.msgpack.encode(msgspec.structs.replace(SETUP, protocol=PROTOCOL + 1)), "its supervisor trio-mcp 9.9"),
        (msgspec.msgpack.encode({"type": "Setup", "protocol": PROTOCOL + 1, "more": [1]}), "of an earlier release"),
        (msgspec.msgpack.encode({"type": "Setup", "target": "server", "name": "n"}), "of an earlier release"),
        (msgspec.msgpack.encode({"type": "Setup", "protocol": PROTOCOL}), "cannot be read"),
        (b"\xc1", "cannot be read"),
    ],
    ids=["another", "another form", "before there was a number", "a field is missing", "no message"],
)
def test_a_supervisor_of_another_is_not_and_the_error_says_what_to_do(first: bytes, text: str) -> None:
    with pytest.raises(McpError, match=text) as refused:
        understood(first)
    assert "cannot be read" in text or "restart the node" in str(refused.value)


def test_a_worker_that_is_not_understood_tells_its_supervisor_and_ends() -> None:
    ours, its = socket.socketpair()
    with ours:
        send_now(ours, msgspec.structs.replace(SETUP, protocol=PROTOCOL + 1))
        assert worker.main(its.detach()) == 1
        failed = msgspec.msgpack.decode(receive_now(ours), type=messages.FromWorker)
    assert isinstance(failed, Failed)
    assert "restart the node" in failed.text


def test_a_worker_that_cannot_write_to_its_folder_tells_its_supervisor_and_ends() -> None:
    ours, its = socket.socketpair()
    with ours:
        send_now(ours, msgspec.structs.replace(SETUP, folder="/no/such"))
        assert worker.main(its.detach()) == 1
        failed = msgspec.msgpack.decode(receive_now(ours), type=messages.FromWorker)
    assert isinstance(failed, Failed)
    assert "/no/such/n.stack" in failed.text
    assert "restart the node" in failed.text


def test_a_worker_that_can_start_no_thread_tells_its_supervisor_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(worker, "write_stack_when_asked", lambda path: None)
    ours, its = socket.socketpair()
    with ours:
        send_now(ours, SETUP)
        assert worker.main(its.detach()) == 1
        failed = msgspec.msgpack.decode(receive_now(ours), type=messages.FromWorker)
    assert isinstance(failed, Failed)
    assert "can't start new thread: see ulimit -u" in failed.text


def test_a_worker_whose_supervisor_has_gone_before_it_reads_ends_without_a_word(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ours, its = socket.socketpair()
    # What the other end has not read makes the end a reset.
    its.send(b"x")
    ours.close()
    assert worker.main(its.detach()) == 1
    assert capfd.readouterr().err == ""
