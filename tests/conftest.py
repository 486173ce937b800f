"""What holds for every test."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NoReturn

import hypothesis
import pytest

from tests.rig.forked import Forking
from tests.sharing import compile_share

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

UNMEASURED = (
    # The server is another process.
    "tests/cli/test_check.py",
    "tests/cli/test_login.py",
    "tests/cli/test_processes.py",
    "tests/clients/",
    "tests/cluster/e2e/",
    "tests/conformance/",
    "tests/deploy/",
    "tests/serving/test_contained.py",
    "tests/serving/test_new_user.py",
    "tests/serving/test_raised.py",
    "tests/serving/test_readers.py",
    "tests/serving/test_shutdown.py",
    "tests/serving/test_standard_streams.py",
    "tests/serving/test_stdio_process.py",
    "tests/serving/test_stop_matrix.py",
    "tests/serving/test_systemd.py",
    "tests/serving/test_websockets.py",
    "tests/serving/workers/test_node_with_workers.py",
    "tests/tools/",
    # The same lines thousands of times: much data, many rounds, or each case of a table in one more way.
    "tests/auth/test_fuzz.py",
    "tests/cluster/tasks/test_nodes.py::test_a_rolling_restart_loses_only_what_may_not_run_twice",
    "tests/serving/workers/test_moves.py::test_ten_thousand_moved_connections_leave_nothing_behind",
    "tests/test_crash_matrix.py",
    "tests/test_readme.py",
    "tests/test_requirements.py",
    "tests/transports/http/test_standing_streams.py::test_streams_that_expire_together_do_not_end_together",
    "tests/transports/listener/test_corpus.py::test_byte_by_byte",
    "tests/transports/listener/test_corpus.py::test_with_another_request_behind",
    "tests/transports/listener/test_robustness.py",
    "tests/transports/listener/test_websocket_fuzz.py",
    "tests/transports/test_long_lines.py::test_what_is_nested_deeply_has_no_id",
    "tests/transports/test_stdio.py::test_a_line_that_is_too_long_gets_an_error_however_it_arrives",
    "tests/transports/test_stdio_pressure.py::test_requests_beyond_those_that_run_wait",
    "tests/transports/test_stdio_pressure.py::test_two_answers_of_ten_megabytes_arrive",
    "tests/transports/test_stdio_pressure.py::test_what_is_answered_at_once_waits_too",
    "tests/transports/websocket/test_ends.py::test_a_client_that_goes_on_sending_and_never_reads_is_cut",
)
"""Tests without coverage, with which each takes twice as long: what they run is run by others too, or elsewhere."""

MEASURED_PROCESSES = (
    "tests/cli/test_processes.py",
    "tests/serving/test_new_user.py",
    "tests/serving/test_stdio_process.py",
    "tests/serving/workers/test_node_with_workers.py::test_every_session_is_found",
)
"""Tests whose processes are measured too: those that run lines which no test runs in its own process."""


@pytest.fixture(scope="session", autouse=True)
def nothing_ends_the_test_run() -> Iterator[None]:
    """A server that leaves by `os._exit(0)` must not take pytest with it: that would look like success."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", _refusal("`os._exit` was called in the process of the tests"))
        yield


@pytest.fixture(scope="session", autouse=True)
def programs_are_forked() -> Iterator[None]:
    """`python -m trio_mcp`, and scripts of the official client, are forked from a process that has imported what they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Forking)
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
    with _traced_by(None, None) if number else nullcontext():
        compile_share(number, int(worker["workercount"]))
        collected = yield
    gc.freeze()  # ten thousand tests, none of which is garbage before the end
    gc.enable()
    return collected


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Coverage measures tests and fixtures, but not what pytest does between them; and not `UNMEASURED` tests, nor most processes.

    Nor does it measure made-up input, which takes thousands of rounds through lines that other tests run once.
    """
    made_up = item.get_closest_marker("hypothesis") is not None
    measured = not (made_up or item.nodeid.startswith(UNMEASURED))
    with ExitStack() as stack:
        if not item.nodeid.startswith(MEASURED_PROCESSES):
            stack.enter_context(_processes_unmeasured())
        item.config.stash[TRACING] = _tracing() if measured else (None, None)
        stack.enter_context(_traced_by(None, None))
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """The test itself, and its fixtures that are async."""
    with _traced_by(*pyfuncitem.config.stash[TRACING]):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """A fixture of a wider scope is measured as the test is that is the first to ask for it."""
    with _traced_by(*request.config.stash[TRACING]):
        return (yield)


TRACING = pytest.StashKey[tuple[Any, Any]]()
"""Coverage's trace functions, where the test that runs is measured."""


def _tracing() -> tuple[Any, Any]:
    return sys.gettrace(), threading.gettrace()


@contextmanager
def _traced_by(this_thread: Any, new_threads: Any) -> Iterator[None]:
    before = _tracing()
    sys.settrace(this_thread)
    threading.settrace(new_threads)
    try:
        yield
    finally:
        threading.settrace(before[1])
        sys.settrace(before[0])


@contextmanager
def _processes_unmeasured() -> Iterator[None]:
    """No coverage in processes that are started meanwhile."""
    kept = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("COVERAGE_")}
    try:
        yield
    finally:
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
