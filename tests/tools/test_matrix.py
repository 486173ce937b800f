"""A client that crashes must not pass for one whose connections all worked, and the page must say what failed."""

from dataclasses import replace
from subprocess import CompletedProcess

from tests.rig.traefik import Routed
from tools.matrix import Cell, ClientUnderTest, Matrix, Relays, document, read

CLIENT = ClientUnderTest("a client", "a.py", "legacy")


WHOLE = Cell(CLIENT, "shipped", 30, 30, [], notification="ok", elicitation="-")


def test_a_client_that_crashes_reached_nothing() -> None:
    cell = read(CLIENT, "shipped", 30, CompletedProcess([], 1, stdout=b"hello\n", stderr=b"crashed\n"))
    why = "not reached (exit 1) crashed"
    assert cell == replace(WHOLE, good=0, faults=[why], notification=why, elicitation=why)
    assert not cell.complete


def test_the_last_line_is_what_a_client_says() -> None:
    said = b'noise\n{"connections": {"good": 29, "of": 30, "faults": ["late"]}, "notification": "ok", "elicitation": "-"}\n'
    cell = read(CLIENT, "shipped", 30, CompletedProcess([], 0, stdout=said, stderr=b""))
    assert cell == replace(WHOLE, good=29, faults=["late"])
    assert not cell.complete


def test_only_what_wholly_worked_is_complete() -> None:
    assert WHOLE.complete
    assert replace(WHOLE, elicitation="ok").complete
    assert not replace(WHOLE, elicitation="TimeoutError").complete
    assert not replace(WHOLE, notification="TimeoutError").complete


def test_the_page_shows_what_failed() -> None:
    request = Routed({})
    page = document(
        Matrix(
            [replace(WHOLE, good=29, notification="late")], [Relays("shipped", 12, [request, request], [request])], 1
        )
    )
    assert "| a client | legacy | shipped | 29/30 | **no**       | -           |" in page
    assert "| shipped | 12                   | 2               | 1       |" in page
