"""Flags that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from trio_mcp.cli.arguments import UsageError

__all__ = ["Extra", "Insecure", "Json", "parse_headers"]

Json: TypeAlias = Annotated[
    bool, Parameter("--json", negative=(), show_default=False, help="One JSON document on stdout.")
]
Extra: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter("--header", alias="-H", negative=(), show_default=False, help="`Name: value` sent with each request."),
]
Insecure: TypeAlias = Annotated[
    bool, Parameter("--insecure", negative=(), show_default=False, help="Take any TLS certificate.")
]


def parse_headers(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Of `Name: value`; raises UsageError."""
    return [_parse(text) for text in texts]


def _parse(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError(f"expected a header such as 'Authorization: Bearer …', got {text!r}")
    return name.strip(), value.strip()
