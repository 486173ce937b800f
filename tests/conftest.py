"""What holds for every test."""

import os
import socket
import subprocess
from collections.abc import Iterator
from typing import NoReturn

import pytest


@pytest.fixture(scope="session", autouse=True)
def nothing_ends_the_test_run() -> Iterator[None]:
    """A server that leaves by `os._exit(0)` must not take pytest with it: that would look like success."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", _refusal("`os._exit` was called in the process of the tests"))
        yield


@pytest.fixture(autouse=True)
def only_marked_tests_touch_the_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-fast` promises no sockets and no processes: a test that needs them says so by a mark."""
    if request.node.get_closest_marker("sockets") is None:
        for method in ("bind", "connect"):
            monkeypatch.setattr(socket.socket, method, _refusal("mark this test with `pytest.mark.sockets`"))
    if request.node.get_closest_marker("processes") is None:
        monkeypatch.setattr(subprocess.Popen, "__init__", _refusal("mark this test with `pytest.mark.processes`"))


def _refusal(text: str) -> object:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError(text)

    return refuse
