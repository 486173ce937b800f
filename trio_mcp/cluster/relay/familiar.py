"""Responses that come in one piece, with a head like one that h11 has read before.

h11 takes thirty microseconds for a response, a third of what relaying costs. But the heads our listener writes end in date
and length, and mostly differ in these alone. What stands before them is a form: h11 reads the first response of each form,
the rest is read by comparing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from trio_mcp.cluster.relay.answer import AnswerHead
from trio_mcp.cluster.relay.forwarding import Fields

__all__ = ["FamiliarHeads", "WholeAnswer"]

MOST_FORMS = 256
"""A server has a handful; a form that carries a session's id, say, never comes again."""
FORM_BYTES = 1024
_HEAD_END = re.compile(rb"\r\ndate: ([A-Za-z0-9:, ]{29})\r\ncontent-length: ([0-9]{1,6})\r\n\r\n")
_FRAMING = re.compile(rb"\r\n(?:connection|transfer-encoding|content-length|date|trio-mcp-[^:]*):", re.IGNORECASE)
_NO_BODY = (204, 304)
"""Whatever length they tell."""


class WholeAnswer(NamedTuple):
    """A complete response that leaves its connection usable."""

    status: int
    fields: Fields
    """As they go to the client."""
    body: bytes


class FamiliarHeads:
    """The forms seen so far."""

    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: dict[bytes, tuple[int, Fields]] = {}

    def read(self, data: bytes) -> WholeAnswer | None:
        """The response, if `data` is one of a known form: that, and not a byte more or less."""
        end = _HEAD_END.search(data, 0, FORM_BYTES)
        form = None if end is None else self._forms.get(data[: end.start()])
        if end is None or form is None:
            return None
        date, length = end.groups()
        body = data[end.end() :]
        if len(body) != int(length):
            return None
        status, fields = form
        return WholeAnswer(status, [*fields, (b"date", date), (b"content-length", length)], body)

    def learn(self, data: bytes, head: AnswerHead) -> None:
        """`data` was a whole response that left its connection usable; h11 has read its head as `head`."""
        end = _HEAD_END.search(data, 0, FORM_BYTES)
        if end is None or len(data) - end.end() != int(end[2]) or head.status in _NO_BODY:
            return
        form = data[: end.start()]
        # A second date or length, what else changes how long a body is, and what peers tell each other, is for h11 to read each time.
        if _FRAMING.search(form):
            return
        if len(self._forms) >= MOST_FORMS:
            self._forms.clear()
        self._forms[form] = (head.status, [each for each in head.fields if each[0] not in (b"date", b"content-length")])
