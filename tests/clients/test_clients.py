"""The clients people use can do with our server all they can do."""

from collections.abc import Iterator

import pytest

from tools.clients import CLIENTS, OVER_WEBSOCKET_TOO, ClientUnderTest, verdicts
from tools.served import EVERYTHING, Served, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    counted = tmp_path_factory.mktemp("everything") / "cancelled"
    counted.touch()
    with served(EVERYTHING, {**OVER_WEBSOCKET_TOO, "EVERYTHING_CANCELLED": str(counted)}) as server:
        yield server


@pytest.mark.requirement("ws-1")
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_every_step_of_every_client_works(server: Served, client: ClientUnderTest) -> None:
    assert verdicts(client, server.url) == dict.fromkeys(client.steps, "ok")
