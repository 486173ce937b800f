"""What may be registered: a function, and never what only looks like one; and hooks, which are given one thing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from trio_mcp.features.callables import describe, is_async

__all__ = ["function_of", "shown", "takes_one"]

Function = Callable[..., Any]


def function_of(given: Any, write: str) -> Function:
    """The function that was given to a decorator or call.

    `write` is the line to write instead, with `FN` for a function's name. Raises TypeError for what is no function, and for
    what a class body holds before the class exists.
    """
    match given:
        case staticmethod():
            # It is called as the function it holds, and looks async only there.
            return given.__func__
        case classmethod():
            raise TypeError(_in_class(given.__func__, "is a class method", write))
        case property() | functools.cached_property():
            getter = given.fget if isinstance(given, property) else given.func
            raise TypeError(_in_class(getter, "is a property", write))
    if not callable(given):
        raise TypeError(f"{shown(given)} is no function. Write {write.replace('FN', 'fn')}")
    function: Function = given
    return function


def takes_one(fn: Function, what: str) -> None:
    """Raise TypeError unless `fn` can be called with one positional argument and nothing else, ValueError for a generator."""
    is_async(fn)
    try:
        inspect.signature(fn).bind(object())
    except TypeError as error:
        raise TypeError(f"{describe(fn)} is called with {what} alone: {error}") from None
    except ValueError:
        # A builtin that does not tell its parameters.
        return


def _in_class(fn: Any, kind: str, write: str) -> str:
    names = getattr(fn, "__qualname__", "fn").split(".")
    line = write.replace("FN", ".".join(names[-2:]))
    return f"{names[-1]} {kind}, and here its class does not exist yet. Below the class, write {line} with the bound method"


def shown(given: Any) -> str:
    """What was given in place of a function, in words; a coroutine is closed."""
    if inspect.iscoroutine(given):
        given.close()
        return f"{given.__name__}() is the coroutine of a call"
    return f"{given!r:.80}"
