"""A tool that goes through checks, says which are done, and ends with what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import trio

from trio_mcp.observability.logs import leaves

__all__ = ["Wrong", "done", "exit_code", "expect"]


class Wrong(AssertionError):
    """Something else than it should be; the text says what."""


def expect(what: str, found: object, expected: object) -> None:
    """Check that `what` was found to be as expected; raises Wrong."""
    if found != expected:
        raise Wrong(f"{what}: {found!r}, not {expected!r}")


def done(check: Callable[..., object]) -> None:
    """Say that a check is over, by its name."""
    print(f"{check.__name__.replace('_', ' ')}: ok", flush=True)


def exit_code(run: Callable[[], Awaitable[None]], *failures: type[Exception]) -> int:
    """Run the checks: 0, or 1 when one raises Wrong or one of `failures`, which are said in a line each. Others are raised."""
    said: tuple[type[Exception], ...] = (Wrong, *failures)
    told: list[str] = []
    try:
        trio.run(run)
    except* said as errors:
        told = [str(leaf) for leaf in leaves(errors)]
    print(*told, sep="\n", end="\n" if told else "", file=sys.stderr)
    return 1 if told else 0
