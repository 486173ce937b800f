"""The table of requirements and the tests agree, both ways."""

from __future__ import annotations

import pytest

from tests.requirements import _ROWS, REQUIREMENTS, marked_tests

MARKED = marked_tests()


@pytest.mark.parametrize("id", REQUIREMENTS)
def test_every_requirement_has_a_test(id: str) -> None:
    assert MARKED.get(id), f"{id} ({REQUIREMENTS[id].text}) is shown by no test"


def test_every_mark_names_a_requirement() -> None:
    unknown = {row: tests for row, tests in MARKED.items() if row not in REQUIREMENTS}
    assert not unknown


def test_no_id_is_given_twice() -> None:
    ids = [line.split()[0] for line in _ROWS.splitlines() if line]
    assert len(set(ids)) == len(ids)


def test_every_requirement_says_where_and_what() -> None:
    for row in REQUIREMENTS.values():
        assert row.text, row
        assert row.section, row


def test_marks_are_written_where_the_sources_can_be_read_for_them(request: pytest.FixtureRequest) -> None:
    """A mark on a module or class, or made by a function, would be missed: what pytest collected must be found too."""
    collected = {
        (name, item.nodeid.partition("[")[0])
        for item in request.session.items
        for mark in item.iter_markers("requirement")
        for name in mark.args
    }
    read = {(row, test) for row, tests in MARKED.items() for test in tests}
    assert collected <= read
