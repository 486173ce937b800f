"""Waiting for what another process does: asked again and again, for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

__all__ = ["PATIENCE", "until"]

PATIENCE = 120.0
"""A bound against hanging, and nothing else: on a machine that does ten other things at once all takes ten times as long."""

T = TypeVar("T")


async def until(asked: Callable[[], Awaitable[T]], what: str, *, patience: float = PATIENCE, pause: float = 0.05) -> T:
    """The first truthy answer; raises AssertionError, with `what` should have come and the last answer, when none comes."""
    deadline = trio.current_time() + patience
    while not (answer := await asked()):
        if trio.current_time() > deadline:
            raise AssertionError(f"not within {patience:g} s: {what}; the last answer was {answer!r}")
        await trio.sleep(pause)
    return answer
