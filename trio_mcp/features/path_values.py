"""Values from URIs that handlers join to a folder: which could lead out of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from trio_mcp.features.uri_template import UriTemplate

__all__ = ["PathGuard", "UncheckedPath", "leaves_folder"]


class UncheckedPath:
    """Marks a parameter whose value may be any text, also absolute paths and "..": `path: Annotated[str, UncheckedPath]`.

    The handler itself has to check what it opens.
    """


_SEPARATOR = re.compile(r"[/\\]")
_ROOTED = re.compile(r"^[/\\]|(?:^|[/\\])[A-Za-z]:")
"""The root of a drive or a share, or a drive (`C:x` leaves the folder as `C:/x` does), on any system."""


def leaves_folder(value: str) -> bool:
    """Whether a path could lead out of the folder it is joined to, on POSIX or Windows; symbolic links are not looked at."""
    return "\0" in value or _ROOTED.search(value) is not None or ".." in _SEPARATOR.split(value)


@dataclass(frozen=True, slots=True)
class PathGuard:
    """Which variables of a template are checked.

    Those in front of the query unless marked, and those of the query whose annotation has a path type.
    """

    template: UriTemplate
    segments: frozenset[str]
    """Each one path segment, or a part of one."""
    paths: frozenset[str]
    """Each a relative path."""

    @classmethod
    def of(cls, template: UriTemplate, hints: Mapping[str, Any]) -> PathGuard:
        """From the annotations of the parameters, by the variable's name."""
        parts = {name: list(_parts(hints.get(name))) for name in template.variables}
        marked = {name for name, its in parts.items() if any(map(_is_mark, its))}
        queried = {name for name in template.optional if any(map(_is_path, parts[name]))}
        return cls(
            template=template,
            segments=template.segments - marked,
            paths=frozenset((set(template.variables) - template.optional - template.segments | queried) - marked),
        )

    def lets(self, values: Mapping[str, str]) -> bool:
        """Whether none of the decoded `values` could leave a folder."""
        for name, value in values.items():
            if name in self.segments and (_SEPARATOR.search(value) or leaves_folder(value)):
                return False
            if name in self.paths and leaves_folder(value):
                return False
        return self._joins(values)

    def _joins(self, values: Mapping[str, str]) -> bool:
        """Whether the template with the values in it has no ".." either: "." behind a "." of the template is one."""
        checked = {name: value if name in self.segments | self.paths else "_" for name, value in values.items()}
        return ".." not in _SEPARATOR.split(self.template.expanded(checked).partition(":")[2])


def _parts(hint: Any) -> Iterator[Any]:
    """An annotation and all its parts; aliases and new types count as the types they name."""
    seen: list[Any] = []
    waiting = [hint]
    while waiting:
        part = waiting.pop()
        if any(part is it for it in seen):
            continue
        seen.append(part)
        yield part
        waiting += [get_origin(part), *get_args(part)]
        waiting += [getattr(part, name, None) for name in ("__value__", "__supertype__", "__bound__")]


def _is_mark(part: Any) -> bool:
    return part is UncheckedPath or isinstance(part, UncheckedPath)


def _is_path(part: Any) -> bool:
    """Whether it is one of pathlib's types, or another that `open` takes."""
    return isinstance(part, type) and issubclass(part, os.PathLike)
