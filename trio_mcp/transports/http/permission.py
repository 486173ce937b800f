"""Whether the token of a request may use the components that it names: judged before anything runs, with an HTTP 403.

A component is asked about by whoever calls it, reads it, completes its arguments or subscribes to it. What a handler does with
others, such as `ctx.read_resource`, is the server's own work and not asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trio_mcp.dispatch.call import Call, Service
from trio_mcp.features.definition import Definition
from trio_mcp.features.registry import Registry
from trio_mcp.protocol.jsonrpc import Request
from trio_mcp.streams.event_log import EventLog
from trio_mcp.transports.http.exchange import HttpExchange

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = [
    "also_asked",
    "asked_by_subscriptions",
    "components",
    "require_extension_permission",
    "require_permission",
    "require_same_permission",
]


def components(registry: Registry, method: str, params: Mapping[str, Any]) -> Iterator[Definition]:
    """The registered components that a request names; nothing for what does not fit: dispatch says what is wrong with it."""
    match method:
        case "tools/call":
            yield from _found(registry.tools.get(_text(params.get("name"))))
        case "prompts/get":
            yield from _found(registry.prompts.get(_text(params.get("name"))))
        case "resources/read":
            yield from _found(registry.resource_at(_text(params.get("uri"))))
        case "resources/subscribe":
            yield from _subscribed(registry, params.get("uri"))
        case "completion/complete":
            yield from _completed(registry, params.get("ref"))
        case "subscriptions/listen":
            wanted = params.get("notifications")
            uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
            for uri in uris if isinstance(uris, list) else ():
                yield from _subscribed(registry, uri)


def _subscribed(registry: Registry, uri: Any) -> Iterator[Definition]:
    """The resource at `uri`, and what may lie below it: its updates are notified, too."""
    if not isinstance(uri, str):
        return
    yield from _found(registry.resource_at(uri))
    above = uri.rstrip("/") + "/"
    yield from (it for it in registry.resources if it.uri.startswith(above))
    for template in registry.templates:
        start, _, rest = template.uri_template.partition("{")
        # Only a variable such as {+path} or {/path*}, or what follows a variable, has a slash that leads further down.
        if start.startswith(above) or (above.startswith(start) and any(mark in rest for mark in "/+*")):
            yield template


def _completed(registry: Registry, ref: Any) -> Iterator[Definition]:
    match ref:
        case {"type": "ref/prompt", "name": str(name)}:
            yield from _found(registry.prompts.get(name))
        case {"type": "ref/resource", "uri": str(uri)}:
            yield from _found(registry.templates.get(uri) or registry.resources.get(uri))


def _found(component: Definition | None) -> Iterator[Definition]:
    if component is not None:
        yield component


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def require_permission(
    service: Service, exchange: HttpExchange, requests: Sequence[Request]
) -> tuple[Requirements, ...]:
    """Raise HttpRefusal unless the token of the exchange may make all these requests: those of a batch run together or not at all.

    Returns what they ask, for `require_same_permission`. Not to be called without a token, for then nothing is asked.
    """
    registry = service.registry
    if service.auth is None or _calls_free_tool(registry, requests):
        return ()
    asked: list[Requirements] = []
    names: set[str] = set()
    for each in requests:
        for component in components(registry, each.method, each.params or {}):
            if component.requirements is not None:
                asked.append(component.requirements)
                names.add(component.name)
        own = registry.extension_methods.get(each.method)
        if own is not None:
            asked.append(own)
            names.add(each.method)
    if asked:
        _refuse_unless_allowed(service, exchange, asked, names.pop() if len(names) == 1 else "The request")
    return tuple(asked)


def _calls_free_tool(registry: Registry, requests: Sequence[Request]) -> bool:
    """Whether it is one call of a tool that asks nothing of tokens, as most are: then nothing more is looked up."""
    if len(requests) != 1 or requests[0].method != "tools/call":
        return False
    tool = registry.called_tool(requests[0].params)
    return tool is None or tool.requirements is None


def also_asked(log: EventLog, asked: Iterable[Requirements]) -> None:
    """Ask this of all who read `log` from now on. Who reads it now may have a token with less, and has to come again."""
    new = tuple(dict.fromkeys(each for each in asked if each not in log.asked))
    if new:
        log.asked = (*log.asked, *new)
        if log.is_read:
            log.close_reader()


def asked_by_subscriptions(service: Service, uris: Iterable[str]) -> Iterator[Requirements]:
    """What subscribing to these URIs asks: their updates are told to nobody with less."""
    registry = service.registry
    resources = (*registry.resources, *registry.templates)
    if all(each.requirements is None for each in resources):
        return
    for uri in uris:
        found = components(registry, "resources/subscribe", {"uri": uri})
        yield from (each.requirements for each in found if each.requirements is not None)


async def require_extension_permission(exchange: HttpExchange, call: Call) -> None:
    """Raise HttpRefusal unless the token may make a call of an extension's method, which may have to look at what the call names."""
    method = call.definition
    if method is not None and method.extension is not None:
        asked = await call.service.extensions[method.extension].requirements(call)
        _refuse_unless_allowed(call.service, exchange, asked, "The request")
        call.permitted = True


def require_same_permission(service: Service, exchange: HttpExchange, asked: Iterable[Requirements]) -> None:
    """Raise HttpRefusal unless the token of the exchange may read what was answered to requests that asked for `asked`.

    A token with fewer scopes must not read results that one with more has asked for.
    """
    _refuse_unless_allowed(service, exchange, asked, "The stream")


def _refuse_unless_allowed(service: Service, exchange: HttpExchange, asked: Iterable[Requirements], what: str) -> None:
    refused = None if service.auth is None else service.auth.refusal_for(asked, exchange.token, what)
    if refused is not None:
        # Loaded already, with whatever made `service.auth`; servers without one never load it.
        from trio_mcp.transports.http.authorization import refusal_of

        raise refusal_of(refused)
