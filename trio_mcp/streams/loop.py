"""How other threads call into the event loop: sync handlers, `trio.to_thread`, threads of the user's own."""

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
    """One Trio run. Until `adopt` is called every caller is taken to be in it."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None

    def adopt(self) -> None:
        """This is the run of the task that calls."""
        self._token = trio.lowlevel.current_trio_token()

    @property
    def here(self) -> bool:
        """Whether the caller is in this run, not in another thread."""
        if self._token is None:
            return True
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` in the loop: at once when called in it, otherwise soon; never blocks. `fn` must not raise.

        From other threads, equal calls that wait become one, and calls after the end of the loop are dropped.
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
    """Decorator: an async method raises RuntimeError when it is called in another thread, where its coroutine could not run."""

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

    # From Python 3.12 on `inspect.iscoroutinefunction` can be made true for it.
    mark: Callable[[Any], Any] = getattr(inspect, "markcoroutinefunction", lambda it: it)
    marked: Callable[Concatenate[S, P], Coroutine[Any, Any, R]] = mark(checked)
    return marked
