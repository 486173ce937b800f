"""Completions: suggestions for the arguments of prompts and resource templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trio_mcp.features.functions import describe
from trio_mcp.features.signature import Signature
from trio_mcp.features.validation_text import clean
from trio_mcp.protocol.errors import InvalidArguments, InvalidParams
from trio_mcp.protocol.wire import to_wire, wire_name

__all__ = ["Completer", "Completions", "target", "values"]

_MOST = 100
"""Values in one result (server/utilities/completion, every version)."""

_REF_KEYS = {"ref/prompt": "name", "ref/resource": "uri"}


@dataclass(frozen=True, slots=True)
class Completer:
    """A function that suggests values. It takes what was typed and, if it has that parameter, `arguments`: those already known."""

    signature: Signature
    parameter: str

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> Completer:
        """Raises ValueError unless `fn` takes the typed text and nothing else but `arguments` and a context."""
        signature = Signature(fn)
        parameters = [name for name in signature.names if name != "arguments"]
        if not parameters or signature.required - {parameters[0], "arguments"}:
            raise ValueError(f"{describe(fn)} completes an argument: it takes (value), or (value, arguments)")
        return cls(signature, parameters[0])

    def bind(self, typed: str, arguments: dict[str, str] | None = None) -> dict[str, Any]:
        """Keyword arguments for the function, without its context; raises InvalidParams."""
        given: dict[str, Any] = {self.parameter: typed}
        if "arguments" in self.signature.names:
            given["arguments"] = arguments or {}
        try:
            return self.signature.bind(given)
        except InvalidArguments as error:
            raise InvalidParams(str(error)) from None


class Completions:
    """The completers, by prompt name or URI template and argument."""

    def __init__(self) -> None:
        self._completers: dict[tuple[str, str], Completer] = {}

    def __bool__(self) -> bool:
        return bool(self._completers)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Prompt name or URI template and argument of each."""
        return iter(list(self._completers))

    def add(self, target: str, argument: str, fn: Callable[..., Any]) -> Completer:
        """Let `fn` complete `argument` of a prompt or URI template; raises ValueError if another function does."""
        key = target, argument
        if key in self._completers:
            raise ValueError(f"{argument} of {target} has a completion already")
        self._completers[key] = completer = Completer.of(fn)
        return completer

    def find(self, ref: Any, argument: str) -> Completer | None:
        """The completer for the `ref` and argument of a `completion/complete`, None without one; raises InvalidParams for a wrong `ref`."""
        return self._completers.get((target(ref), argument))


def target(ref: Any) -> str:
    """The prompt name or URI template of a `ref`; raises InvalidParams."""
    kind = ref.get("type") if isinstance(ref, dict) else None
    key = _REF_KEYS.get(kind) if isinstance(kind, str) else None
    if key is None or not isinstance(ref.get(key), str):
        raise InvalidParams('ref is {"type": "ref/prompt", "name": …} or {"type": "ref/resource", "uri": …}')
    name: str = ref[key]
    return name


def values(result: Any) -> dict[str, Any]:
    """The CompleteResult of a return value: a Completion, strings, or None for nothing."""
    said = to_wire(result) if wire_name(result) == "Completion" else {"values": result or ()}
    every = [said["values"]] if isinstance(said["values"], str) else list(said["values"])
    # A completion with more values, of unknown number, has no total.
    total = said.get("total", None if said.get("hasMore") else len(every))
    completion: dict[str, Any] = {"values": [clean(str(value)) for value in every[:_MOST]]}
    completion["hasMore"] = said.get("hasMore", False) or len(every) > _MOST or (total or 0) > len(every)
    return {"completion": completion if total is None else {**completion, "total": total}}
