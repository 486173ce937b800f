"""URI templates: which values a URI was expanded from (RFC 6570 levels 1 to 3, without `;` and `&`).

    {x}  {x,y}  {.x}  {/x}     one path segment or a part of one: never "/", "?" or "#"
    {+x}  {#x}  {x*}  {/x*}    anything but an empty string; at most one of them in a template
    {?a,b}                     query parameters, in any order, each optional; only at the end

URIs come from clients, so matching takes time linear in their length: nothing here backtracks. `path_values` decides which
values are refused though they match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

__all__ = ["UriTemplate", "is_template"]

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\*?)")
_SEPARATORS = {"": ("", ","), "+": ("", ","), "#": ("#", ","), ".": (".", "."), "/": ("/", "/")}
"""Operator → the text before the first variable, and that between variables."""


def is_template(uri: str) -> bool:
    """Whether it has variables."""
    return "{" in uri


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    greedy: bool


class UriTemplate:
    """A compiled template; raises ValueError for one that is malformed or could be read in more than one way."""

    __slots__ = ("_literals", "_path", "_pivot", "_query", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        # Literals and variables alternate: literals[0] variables[0] literals[1] … literals[-1]
        self._literals, self._path, self._query = _parse(text)
        _refuse_ambiguous(text, self._literals, self._path, self.variables)
        greedy = [number for number, variable in enumerate(self._path) if variable.greedy]
        self._pivot = greedy[0] if greedy else len(self._path) - 1

    @property
    def variables(self) -> tuple[str, ...]:
        """Their names, in order."""
        return (*(variable.name for variable in self._path), *self._query)

    @property
    def optional(self) -> frozenset[str]:
        """The variables of the query, which a URI may leave out."""
        return frozenset(self._query)

    @property
    def segments(self) -> frozenset[str]:
        """The variables that are one path segment or a part of one."""
        return frozenset(variable.name for variable in self._path if not variable.greedy)

    def expanded(self, values: Mapping[str, str]) -> str:
        """The URI up to its query with `values` in it, not encoded."""
        parts = [
            text for it, text in zip(self._path, self._literals[1:], strict=True) for text in (values[it.name], text)
        ]
        return "".join([self._literals[0], *parts])

    def match(self, uri: str) -> dict[str, str] | None:
        """The values of the variables in a URI, decoded once; None if it does not match.

        No value has a NUL. A decoded value may have any other character: "%2F" becomes "/".
        """
        query = ""
        if self._query:
            uri, _, query = uri.partition("?")
        raw = self._split(uri)
        values = None if raw is None else _decoded_path(self._path, raw)
        parameters = _decoded_query(query, self._query)
        return None if values is None or parameters is None else values | parameters

    def _split(self, uri: str) -> list[str] | None:
        """Match up to the pivot from the left, and behind it from the right; the pivot variable takes the rest."""
        if not self._path:
            return [] if uri == self._literals[0] else None
        left = _scan(self._literals[: self._pivot + 1], uri)
        if left is None:
            return None
        rest = uri[left[1] :]
        right = _scan([literal[::-1] for literal in reversed(self._literals[self._pivot + 1 :])], rest[::-1])
        if right is None:
            return None
        middle = rest[: len(rest) - right[1]]
        if not middle or not (self._path[self._pivot].greedy or _is_plain(middle)):
            return None
        return [*left[0], middle, *(value[::-1] for value in reversed(right[0]))]


def _parse(text: str) -> tuple[list[str], list[_Variable], tuple[str, ...]]:
    literals, end = [""], 0
    path: list[_Variable] = []
    query: tuple[str, ...] = ()
    for expression in _EXPRESSION.finditer(text):
        literals[-1] += text[end : expression.start()]
        end, body = expression.end(), expression[1]
        if body.startswith("?") and end == len(text):
            query = tuple(_variable(text, name).name for name in body[1:].split(","))
            break
        operator = body[:1] if body[:1] in _SEPARATORS else ""
        separator, between = _SEPARATORS[operator]
        for name in body[len(operator) :].split(","):
            literals[-1] += separator
            path.append(_variable(text, name, greedy=operator in {"+", "#"}))
            literals.append("")
            separator = between
    literals[-1] += text[end:]
    return literals, path, query


def _variable(text: str, name: str, *, greedy: bool = False) -> _Variable:
    match = _VARIABLE.fullmatch(name)
    if not match:
        raise ValueError(f"URI template {text!r}: {{{name}}} is not supported: write {{x}}, {{+x}}, {{x*}} or {{?x}}")
    return _Variable(match[1], greedy or match[2] == "*")


def _refuse_ambiguous(text: str, literals: list[str], path: list[_Variable], names: Sequence[str]) -> None:
    if any("{" in literal or "}" in literal for literal in literals):
        raise ValueError(f"URI template {text!r}: a brace is not closed, or not opened")
    if not all(literals[1:-1]):
        raise ValueError(f"URI template {text!r}: two variables need text between them")
    if sum(variable.greedy for variable in path) > 1:
        raise ValueError(f"URI template {text!r}: only one variable may take more than a segment")
    if len(set(names)) < len(names):
        raise ValueError(f"URI template {text!r}: a variable is named twice")


def _scan(literals: list[str], text: str) -> tuple[list[str], int] | None:
    """The values between `literals`, and how much of `text` they took; each value is as short as possible.

    Shortest is enough: a longer one would only leave less for the values behind it.
    """
    if not text.startswith(literals[0]):
        return None
    values, position = [], len(literals[0])
    for literal in literals[1:]:
        end = text.find(literal, position + 1)
        if end < 0 or not _is_plain(text[position:end]):
            return None
        values.append(text[position:end])
        position = end + len(literal)
    return values, position


def _is_plain(value: str) -> bool:
    return not any(character in value for character in "/?#")


def _decoded_path(path: list[_Variable], raw: list[str]) -> dict[str, str] | None:
    values = {}
    for variable, encoded in zip(path, raw, strict=True):
        value = _decoded(encoded)
        if value is None:
            return None
        values[variable.name] = value
    return values


def _decoded_query(query: str, names: Sequence[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, encoded = pair.partition("=")
        if name not in names:
            continue
        value = _decoded(encoded)
        if value is None or name in values:
            return None
        values[name] = value
    return values


_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _decoded(encoded: str) -> str | None:
    """The decoded text; None for a malformed escape, for bytes that are not UTF-8, and for a NUL."""
    if _BAD_ESCAPE.search(encoded):
        return None
    try:
        value = unquote_to_bytes(encoded).decode()
    except UnicodeError:
        return None
    return None if "\0" in value else value
