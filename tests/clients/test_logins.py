"""The clients people use log in at a real authorization server, and come back with new tokens."""

import pytest

from tools.clients import ClientUnderTest
from tools.logins import LOGIN_CLIENTS, against_new_servers

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]


@pytest.mark.requirement("auth-78")
@pytest.mark.parametrize("client", LOGIN_CLIENTS, ids=lambda client: client.id)
async def test_every_client_logs_in_and_gets_new_tokens(client: ClientUnderTest) -> None:
    expected = dict.fromkeys(client.steps, "ok")
    assert await against_new_servers(client) == expected
