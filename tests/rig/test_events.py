"""The rig reads event streams as clients do, however their bytes come."""

import pytest

from tests.rig.events import Event, Events

STREAM = b': hello\n\nid: 0.1.1\ndata: {"id": 1}\n\nid: 0.1.2\r\nretry: 250\r\ndata:\r\n\r\ndata: [1,\ndata: 2]\n\n'
READ = [Event(), Event('{"id": 1}', "0.1.1"), Event("", "0.1.2", 0.25), Event("[1,\n2]")]


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
def test_events_are_the_same_in_chunks_of_any_size(size: int) -> None:
    events = Events()
    assert [event for at in range(0, len(STREAM), size) for event in events.feed(STREAM[at : at + size])] == READ
    assert (events.last_id, events.retry, events.comments) == ("0.1.2", 0.25, 1)


def test_an_event_without_data_is_no_message() -> None:
    assert [event.message for event in READ[:3]] == [None, {"id": 1}, None]
