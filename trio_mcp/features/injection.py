"""Parameters that clients do not fill and do not see: the context of the call, its access token, values from that token."""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from trio_mcp.features.functions import Unresolved

__all__ = ["FromToken", "HandlerContext", "HandlerToken", "from_token", "is_context"]


class HandlerContext:
    """Base of `Context`: a parameter annotated with it gets the context and is not in the schema."""


class HandlerToken:
    """Base of `AccessToken`: a parameter annotated with it gets the token of the request and is not in the schema."""

    __slots__ = ()


class FromToken:
    """Base of marks such as `Claim`: a parameter `Annotated[TYPE, mark]` gets a value from the token and is not in the schema."""

    def value(self, token: Any) -> Any:
        """The value in the token, which is None where the request had none; raises ClaimMissing where there is no value."""
        raise NotImplementedError


_CONTEXT_NAME = re.compile(r"(?:\w+\.)*(?:Optional\[)?(?:\w+\.)*Context(?:\[.*\])?\]?(?:\s*\|\s*None)?")
"""Recognizes `Context` by name where it is imported for type checkers only, as linters ask for."""

_TOKEN_NAME = re.compile(r"(?:\w+\.)*(Optional\[)?(?:\w+\.)*AccessToken\]?(\s*\|\s*None)?")
"""The same for `AccessToken`; a group is there where it may be None."""


def is_context(hint: Any) -> bool:
    """Whether a parameter with this annotation gets the context."""
    if isinstance(hint, Unresolved):
        return _CONTEXT_NAME.fullmatch(hint.text) is not None
    return _names(hint, HandlerContext)


def from_token(given: Iterable[tuple[Parameter, Any]]) -> dict[str, tuple[FromToken | None, Any]]:
    """The parameters that the token fills: each with its mark, None for the token itself, and the type it must have."""
    found: dict[str, tuple[FromToken | None, Any]] = {}
    for parameter, hint in given:
        hint, mark = _by_name(hint), _mark(hint)
        if mark is not None or _names(hint, HandlerToken):
            found[parameter.name] = mark, hint
    return found


def _by_name(hint: Any) -> Any:
    """The annotation; one that names `AccessToken` and cannot be evaluated as its base."""
    named = _TOKEN_NAME.fullmatch(hint.text) if isinstance(hint, Unresolved) else None
    if named is None:
        return hint
    return HandlerToken | None if any(named.groups()) else HandlerToken


def _mark(hint: Any) -> FromToken | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((it for it in hint.__metadata__ if isinstance(it, FromToken)), None)


def _names(hint: Any, base: type) -> bool:
    """Whether the annotation is the class or one of its subclasses, alone or in a union, with or without brackets."""
    if isinstance(hint, type):
        return issubclass(hint, base)
    origin = get_origin(hint)
    if origin in (Union, UnionType, Annotated):
        return any(_names(part, base) for part in get_args(hint))
    return isinstance(origin, type) and issubclass(origin, base)
