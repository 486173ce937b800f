"""What a user's function says about itself: name, documentation, parameters, return type, whether it is async."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, get_type_hints

from trio_mcp.features.typed_dicts import modernized

__all__ = ["Unresolved", "describe", "documentation", "is_async", "own_name", "parameters", "return_annotation"]

Function = Callable[..., Any]


class Unresolved:
    """An annotation that names something its module does not have at run time."""

    def __init__(self, text: Any, error: Exception) -> None:
        self.text = text if isinstance(text, str) else repr(text)
        self.error = error


def is_async(fn: Function) -> bool:
    """Whether calling it gives a coroutine; raises ValueError for generators, which are neither."""
    call = _called(fn)
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise ValueError(f"{describe(fn)} is a generator; let it return a list")
    return inspect.iscoroutinefunction(call)


def describe(fn: Function) -> str:
    """The function as an error message names it."""
    fn = _unbound(fn)
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def own_name(fn: Function) -> str:
    """The name it was defined with; a callable object has its class's."""
    fn = _unbound(fn)
    return getattr(fn, "__name__", None) or type(fn).__name__


def documentation(fn: Function) -> str | None:
    """Its docstring without the indentation, or None; a callable object may have it on `__call__` or on its class."""
    fn = _unbound(fn)
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return inspect.getdoc(fn) or None
    call = type(fn).__call__
    # Only what is written there: getdoc would hand down the docstring of `object`'s own methods.
    return inspect.cleandoc(getattr(call, "__doc__", None) or type(fn).__doc__ or "") or None


def parameters(fn: Function) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Each parameter a caller may give and its annotation, strings resolved or `Unresolved`.

    What a partial has bound is not the caller's to give: it may be a secret.
    """
    bound = _bound_by_partial(fn)
    for parameter in _signature(fn).parameters.values():
        if parameter.name not in bound:
            yield parameter, _resolve(fn, parameter.annotation)


def return_annotation(fn: Function) -> Any:
    """The return type, `inspect.Signature.empty` without one, `Unresolved` where it cannot be evaluated."""
    return _resolve(fn, _signature(fn).return_annotation)


def _signature(fn: Function) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        raise ValueError(f"{describe(fn)} does not tell its parameters") from None


def _unbound(fn: Function) -> Function:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _called(fn: Function) -> Function:
    """The function whose code runs first."""
    fn = _unbound(fn)
    return fn if inspect.isroutine(fn) or inspect.isclass(fn) else type(fn).__call__


def _bound_by_partial(fn: Function) -> set[str]:
    return set(fn.keywords) if isinstance(fn, functools.partial) else set()


def _resolve(fn: Function, annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return modernized(get_type_hints(holder, _globals(fn), include_extras=True)["it"])
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        return Unresolved(annotation, error)


def _globals(fn: Function) -> dict[str, Any]:
    call = inspect.unwrap(_called(fn))
    module = sys.modules.get(getattr(call, "__module__", None) or "")
    return getattr(call, "__globals__", None) or vars(module or SimpleNamespace())
