"""Every client people use works behind every way of routing, over connections that nothing holds together."""

from functools import partial

import pytest
import trio

from tests.rig.routing import VARIANTS
from tools.matrix import CLIENTS, Cell, ClientUnderTest, Matrix, Relays, measure

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]


CONNECTIONS = 15
"""Of each client; `make matrix` has twice as many."""


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return trio.run(partial(measure, connections=CONNECTIONS))


def _cell(matrix: Matrix, client: ClientUnderTest, routing: str) -> Cell:
    return next(cell for cell in matrix.cells if (cell.client, cell.routing) == (client, routing))


def _relays(matrix: Matrix, routing: str) -> Relays:
    return next(relays for relays in matrix.relays if relays.routing == routing)


@pytest.mark.parametrize("routing", VARIANTS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_all_calls_of_all_connections_are_answered(matrix: Matrix, client: ClientUnderTest, routing: str) -> None:
    cell = _cell(matrix, client, routing)
    assert (cell.good, cell.faults) == (CONNECTIONS, [])


@pytest.mark.parametrize("routing", VARIANTS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_a_stream_hears_what_is_raised_on_every_node(matrix: Matrix, client: ClientUnderTest, routing: str) -> None:
    assert _cell(matrix, client, routing).notification == "ok"


@pytest.mark.parametrize("routing", VARIANTS)
@pytest.mark.parametrize(
    "client", [client for client in CLIENTS if client.mode == "auto"], ids=lambda client: client.id
)
def test_a_question_of_one_node_is_answered_on_another(matrix: Matrix, client: ClientUnderTest, routing: str) -> None:
    assert _cell(matrix, client, routing).elicitation == "ok"


@pytest.mark.parametrize("routing", VARIANTS)
def test_what_the_access_log_says_must_be_relayed_is_relayed_and_nothing_else(matrix: Matrix, routing: str) -> None:
    relays = _relays(matrix, routing)
    assert relays.requests > 0
    assert [request.line for request in relays.done] == [request.line for request in relays.due]


def test_the_nodes_count_their_relays_right(matrix: Matrix) -> None:
    assert matrix.counted == sum(len(relays.done) for relays in matrix.relays)


def test_without_cookie_two_of_three_requests_need_a_relay_and_with_header_routes_none(matrix: Matrix) -> None:
    plain = _relays(matrix, "plain round robin")
    assert len(plain.due) == pytest.approx(plain.requests * 2 / 3, rel=0.1)
    assert not _relays(matrix, "header routes").due
