"""The official clients take the results of every type and the schemas of every kind, over real connections."""

import sys
from collections.abc import Iterator

import pytest

from tests.clients.promises import CASES
from tools.clients import SCRIPTS, ClientUnderTest, verdicts
from tools.served import Served, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

STEPS = ("connect", "list", *(name for name, _, _ in CASES))
CLIENTS = (
    ClientUnderTest("TypeScript sdk 1.32", "results_typescript_1_32.mjs", "legacy", STEPS),
    ClientUnderTest("TypeScript client 2.4", "results_typescript_2_4.mjs", "legacy", STEPS),
    ClientUnderTest("TypeScript client 2.4", "results_typescript_2_4.mjs", "auto", STEPS),
    ClientUnderTest("Python mcp 2.3", "results_python_2_3.py", "legacy", STEPS),
    ClientUnderTest("Python mcp 2.3", "results_python_2_3.py", "auto", STEPS),
)
SERVER = (sys.executable, "-m", "trio_mcp", "serve", str(SCRIPTS / "promises.py"), "--port", "{port}")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(SERVER) as server:
        yield server


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_every_result_and_every_schema_is_taken(server: Served, client: ClientUnderTest) -> None:
    found = verdicts(client, server.url)
    assert {step: verdict for step, verdict in found.items() if verdict != "ok"} == {}
