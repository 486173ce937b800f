"""The event loop a node runs in, as other threads reach it: sync handlers, `trio.to_thread`, threads of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import trio

__all__ = ["Loop", "in_loop"]

P = ParamSpec("P")
R = TypeVar("R")


class Loop:
    """One Trio run. Until `adopt` was called there is no other thread to speak of: whoever calls is in it."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None

    def adopt(self) -> None:
        """From now on it is the run that calls this."""
        self._token = trio.lowlevel.current_trio_token()

    @property
    def here(self) -> bool:
        """Whether the caller runs in it."""
        if self._token is None:
            return True
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` in the loop: now when called in it, else soon; never blocks. `fn` must not raise.

        From other threads equal calls that wait are one, and what comes after the loop has ended is dropped.
        """
        if self._token is None or self.here:
            fn(*args)
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(fn, *args, idempotent=True)


class _InLoop(Protocol):
    @property
    def _loop(self) -> Loop: ...

    @property
    def _spoken_name(self) -> str: ...


S = TypeVar("S", bound=_InLoop)


def in_loop(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make an async method raise RuntimeError when it is called in another thread, where its coroutine could not run."""

    @wraps(method)
    def checked(self: S, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        if not self._loop.here:
            name = f"{self._spoken_name}.{method.__name__.lstrip('_')}"
            raise RuntimeError(
                f"{name}() is async and this thread is not the event loop's. In a sync handler, or what trio.to_thread runs, "
                f"write trio.from_thread.run({name}, …); in a thread of your own add trio_token=token, where token is "
                "trio.lowlevel.current_trio_token() of the event loop"
            )
        return method(self, *args, **kwargs)

    # Python 3.12 lets it say that it is a coroutine function still.
    mark: Callable[[Any], Any] = getattr(inspect, "markcoroutinefunction", lambda it: it)
    marked: Callable[Concatenate[S, P], Coroutine[Any, Any, R]] = mark(checked)
    return marked
