"""A server process for the tests that need one."""

import sys

import pytest

from tools.served import ServerFailed, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}")


def test_the_server_answers_within_the_block_and_is_gone_after_it() -> None:
    with served(SERVER) as server:
        assert server.process.poll() is None
        assert server.url == f"http://127.0.0.1:{server.port}/mcp"
    assert server.process.poll() is not None


def test_a_server_that_ends_is_an_error_with_its_last_words() -> None:
    with pytest.raises(ServerFailed, match="no such module"):
        with served((sys.executable, "-c", "raise SystemExit('no such module')")):
            pass
