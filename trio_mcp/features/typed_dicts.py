"""`typing.TypedDict` on Python 3.11: pydantic asks for that of `typing_extensions`, which tells it what it needs."""

from __future__ import annotations

import sys
import typing
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin, get_type_hints

__all__ = ["modernized"]


def modernized(hint: Any, seen: dict[Any, Any] | None = None) -> Any:
    """The annotation with each such class in it replaced by its `typing_extensions` twin; itself from Python 3.12 on.

    Classes that refer to themselves, and those in fields of models and dataclasses, stay as they are.
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
