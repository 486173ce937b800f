"""What holds for every test."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import hypothesis
import pytest

from tests.sharing import compile_share

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

UNMEASURED = (
    "tests/cli/test_check.py",
    "tests/cli/test_login.py",
    "tests/clients/",
    "tests/cluster/e2e/",
    "tests/conformance/",
    "tests/deploy/",
    "tests/serving/test_contained.py",
    "tests/serving/test_raised.py",
    "tests/serving/test_readers.py",
    "tests/serving/test_standard_streams.py",
    "tests/serving/test_stop_matrix.py",
    "tests/tools/",
)
"""Tests that start many processes, or keep them busy. Coverage makes these a third slower, and other tests run the same lines."""


@pytest.fixture(scope="session", autouse=True)
def nothing_ends_the_test_run() -> Iterator[None]:
    """A server that leaves by `os._exit(0)` must not take pytest with it: that would look like success."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", _refusal("`os._exit` was called in the process of the tests"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_signal_is_ignored() -> None:
    """Under `nohup`, or in the background, the processes of the tests would ignore signals that they are sent."""
    for number, usual in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def only_marked_tests_touch_the_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-fast` promises no sockets and no processes: a test that needs them says so by a mark."""
    if request.node.get_closest_marker("sockets") is None:
        for method in ("bind", "connect"):
            monkeypatch.setattr(socket.socket, method, _refusal("mark this test with `pytest.mark.sockets`"))
    if request.node.get_closest_marker("processes") is None:
        monkeypatch.setattr(subprocess.Popen, "__init__", _refusal("mark this test with `pytest.mark.processes`"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left with it when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Workers collect at the same time: they share the compiling, and one alone measures what imports run.

    In a fresh clone there is much to compile, and coverage makes a collection twice as dear.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return (yield)
    number = int(worker["workerid"].removeprefix("gw"))
    gc.disable()
    with _no_coverage() if number else nullcontext():
        compile_share(number, int(worker["workercount"]))
        collected = yield
    gc.freeze()  # ten thousand tests, none of which is garbage before the end
    gc.enable()
    return collected


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """`UNMEASURED` tests run without coverage, and so do their processes and the fixtures they are the first to ask for."""
    with _no_coverage() if item.nodeid.startswith(UNMEASURED) else nullcontext():
        return (yield)


@contextmanager
def _no_coverage() -> Iterator[None]:
    """Neither in this thread, nor in threads and processes that are started meanwhile."""
    kept = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("COVERAGE_")}
    traced, threads_traced = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        threading.settrace(threads_traced)
        sys.settrace(traced)
        os.environ.update(kept)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Several workers of pytest-xdist share the tests as `tests.workers` says."""
    from tests.workers import Scheduling  # here, for pytest may run without the plugin

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A lone surrogate in what a test logged cannot be sent by a worker of pytest-xdist: it is written as an escape."""
    report = yield
    return _sendable(report)


def _sendable(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {key: _sendable(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(_sendable, value))
        case _:
            return value


def _refusal(text: str) -> object:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError(text)

    return refuse
