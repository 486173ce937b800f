"""A user's function: whether it may be registered, and what it says of itself (name, docstring, parameters, return type)."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin, get_type_hints

__all__ = [
    "Unresolved",
    "describe",
    "documentation",
    "function_of",
    "is_async",
    "modernized",
    "own_name",
    "parameters",
    "return_annotation",
    "shown",
    "takes_one",
]

Function = Callable[..., Any]


def function_of(given: Any, write: str) -> Function:
    """The function that was given to a decorator or to an `add_` method.

    `write` is the line that an error suggests, with `FN` for the function's name. Raises TypeError for anything but a
    function, and for class methods and properties, which cannot be called before their class exists.
    """
    match given:
        case staticmethod():
            # `inspect` says only of the function inside whether it is async.
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
    """Raise TypeError unless `fn` can be called with one positional argument, ValueError for a generator; `what` names the argument."""
    is_async(fn)
    try:
        inspect.signature(fn).bind(object())
    except TypeError as error:
        raise TypeError(f"{describe(fn)} is called with {what} alone: {error}") from None
    except ValueError:
        # A builtin without a signature.
        return


def _in_class(fn: Any, kind: str, write: str) -> str:
    names = getattr(fn, "__qualname__", "fn").split(".")
    line = write.replace("FN", ".".join(names[-2:]))
    return f"{names[-1]} {kind}, and here its class does not exist yet. Below the class, write {line} with the bound method"


def shown(given: Any) -> str:
    """In an error message: what was given in place of a function. A coroutine is closed, or Python would warn of it."""
    if inspect.iscoroutine(given):
        given.close()
        return f"{given.__name__}() is the coroutine of a call"
    return f"{given!r:.80}"


class Unresolved:
    """An annotation that cannot be evaluated: it names something its module does not have at run time."""

    def __init__(self, text: Any, error: Exception) -> None:
        self.text: str = text if isinstance(text, str) else repr(text)
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
    """Its docstring without indentation, or None; a callable object may have it on `__call__` or on its class."""
    fn = _unbound(fn)
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return inspect.getdoc(fn) or None
    call = type(fn).__call__
    # Not getdoc: it would inherit the docstring of `object.__call__`.
    return inspect.cleandoc(getattr(call, "__doc__", None) or type(fn).__doc__ or "") or None


def parameters(fn: Function) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Each parameter a caller may give and its annotation, strings resolved or `Unresolved`.

    Arguments that a partial has bound are left out: a caller must not replace them, and they may be secrets.
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
        raise ValueError(f"{describe(fn)} has no signature: register a function that calls it") from None


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


def modernized(hint: Any, seen: dict[Any, Any] | None = None) -> Any:
    """The annotation with every `typing.TypedDict` in it replaced by a `typing_extensions` one; itself from Python 3.12 on.

    On Python 3.11 pydantic accepts only the latter, which know what it needs. Classes that refer to themselves, and those in
    fields of models and dataclasses, stay as they are.
    """
    if sys.version_info >= (3, 12):
        return hint
    seen = {} if seen is None else seen
    if _is_old(hint):
        if hint not in seen:
            seen[hint] = hint
            seen[hint] = _twin(hint, seen)
        return seen[hint]
    parts = get_args(hint)
    new = tuple(modernized(part, seen) for part in parts)
    if new == parts:
        return hint
    if get_origin(hint) is Annotated:
        return Annotated[(new[0], *hint.__metadata__)]
    if hasattr(hint, "copy_with"):
        return hint.copy_with(new)
    origin = get_origin(hint)
    return typing.Union[new] if origin is typing.Union or isinstance(hint, _UnionType) else origin[new]  # noqa: UP007


_UnionType = type(int | str)


def _is_old(hint: Any) -> bool:
    return typing.is_typeddict(hint) and type(hint).__module__ == "typing"


def _twin(old: Any, seen: dict[Any, Any]) -> Any:
    from typing_extensions import TypedDict

    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(old, include_extras=True).items():
        wrapper = get_origin(hint)
        bare = get_args(hint)[0] if wrapper in (Required, NotRequired) else hint
        required = wrapper is Required or (wrapper is not NotRequired and name in old.__required_keys__)
        bare = modernized(bare, seen)
        fields[name] = Required[bare] if required else NotRequired[bare]
    make: Any = TypedDict
    twin = make(old.__name__, fields)
    twin.__doc__, twin.__module__ = old.__doc__, old.__module__
    return twin
