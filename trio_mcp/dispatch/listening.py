"""`subscriptions/listen`: a modern request that stays open and sends what changes (2026-07-28 basic/patterns/subscriptions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import trio

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.extension_port import Listening, Send
from trio_mcp.features.registry import ListKind
from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY
from trio_mcp.protocol.errors import INTERNAL_ERROR, InvalidParams, ProtocolError
from trio_mcp.protocol.jsonrpc import encode_notification, object_param, optional_param
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import Change, ListChanged, Missed, ResourceUpdated, subscribed

__all__ = ["MAX_KEPT_URI", "MAX_SUBSCRIPTIONS", "change_message", "listen"]

MAX_KEPT_URI = 8 * 1024
"""Characters of a URI that is kept longer than its request, as in a subscription."""

MAX_SUBSCRIPTIONS = 1_000
"""Resources that one client may subscribe to: every update is compared with all of them."""

_FLAGS: dict[str, ListKind] = {
    "toolsListChanged": "tools",
    "promptsListChanged": "prompts",
    "resourcesListChanged": "resources",
}


@dataclass(frozen=True, slots=True)
class _Filter:
    """What one subscription asked for and the server offers."""

    lists: dict[str, ListKind]
    uris: list[str]

    def relevant(self, change: Change) -> Iterable[ListChanged | ResourceUpdated]:
        """What of a change is sent to this subscription; after `Missed`, everything it covers may have changed."""
        match change:
            case ListChanged(kind):
                return [change] if kind in self.lists.values() else []
            case ResourceUpdated(uri):
                # "The uri may be a sub-resource of the one that was subscribed to."
                wanted = any(uri == known or uri.startswith(known.rstrip("/") + "/") for known in self.uris)
                return [change] if wanted else []
            case Missed():
                return [*map(ListChanged, self.lists.values()), *map(ResourceUpdated, self.uris)]

    def acknowledged(self) -> dict[str, Any]:
        honoured: dict[str, Any] = dict.fromkeys(self.lists, True)
        if self.uris:
            honoured["resourceSubscriptions"] = self.uris
        return honoured


async def listen(call: Call) -> dict[str, Any]:
    """Acknowledge the subscription, then send changes until the client leaves.

    The server ends it with its result when it stops, and some time after the token of the request has expired. Raises InvalidParams, and
    ProtocolError when as many streams are open as may be.
    """
    asked = _asked(call)
    wanted = _read_filter(call, asked)
    extensions = [call.service.extensions[name] for name in call.service.declared_extensions(call.version)]
    added = [it for each in extensions if (it := await each.listen(call, asked)) is not None]
    slots = call.service.listen_calls
    if len(slots) >= call.service.options.max_listen_streams:
        raise ProtocolError(INTERNAL_ERROR, "Too many listen streams are open on this server; try again later")
    ended = slots[call] = trio.Event()
    try:
        honoured = [wanted.acknowledged(), *(each.acknowledged for each in added)]
        _send(
            call,
            "notifications/subscriptions/acknowledged",
            {"notifications": dict(chain.from_iterable(each.items() for each in honoured))},
        )
        with subscribed(call.service.bus, lambda change: _send_change(call, wanted, change)):
            with trio.move_on_at(call.service.standing_until(call.token)):
                await _until(ended, added, partial(_send_for_extension, call))
    finally:
        del slots[call]
    return {"_meta": {SUBSCRIPTION_ID_KEY: call.request_id}}


async def _until(ended: trio.Event, added: Sequence[Listening], send: Send) -> None:
    """Run what extensions add to the stream until it ends."""
    if not added:
        return await ended.wait()
    async with trio.open_nursery() as nursery:
        for each in added:
            nursery.start_soon(each.run, send)
        await ended.wait()
        nursery.cancel_scope.cancel("the stream ends")


def _asked(call: Call) -> dict[str, Any]:
    if call.params.get("notifications") is None:
        raise InvalidParams("params.notifications must be an object")
    return object_param(call.params, "notifications")


def _read_filter(call: Call, asked: dict[str, Any]) -> _Filter:
    uris = optional_param(asked, "resourceSubscriptions", [])
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise InvalidParams("params.notifications.resourceSubscriptions must be a list of strings")
    if any(len(uri) > MAX_KEPT_URI for uri in uris):
        raise InvalidParams(f"A URI to listen to has at most {MAX_KEPT_URI} characters")
    if len(uris) > MAX_SUBSCRIPTIONS:
        raise InvalidParams(f"A client may subscribe to {MAX_SUBSCRIPTIONS} resources")
    for flag in _FLAGS:
        if not isinstance(optional_param(asked, flag, False), bool):
            raise InvalidParams(f"params.notifications.{flag} must be a boolean")
    offers = call.service.offers
    lists = {flag: kind for flag, kind in _FLAGS.items() if asked.get(flag) and offers(kind)}
    return _Filter(lists, uris if offers("resources") else [])


def _send_change(call: Call, wanted: _Filter, change: Change) -> None:
    for relevant in wanted.relevant(change):
        method, params = change_message(relevant)
        _send(call, method, params, key=relevant)


def _send(call: Call, method: str, params: dict[str, Any], key: Change | None = None) -> None:
    stamped = {**params, "_meta": {SUBSCRIPTION_ID_KEY: call.request_id}}
    call.emit(encode_notification(method, stamped), Kind.VITAL if key is None else Kind.LATEST, key)


def _send_for_extension(call: Call, method: str, params: Mapping[str, Any], key: Any = None) -> None:
    # Never vital: one that sends without end must not fill memory for a client that reads nothing.
    call.emit(
        encode_notification(method, {**params, "_meta": {SUBSCRIPTION_ID_KEY: call.request_id}}), Kind.LATEST, key
    )


def change_message(change: ListChanged | ResourceUpdated) -> tuple[str, dict[str, Any]]:
    """The method and params of the notification of a change."""
    match change:
        case ListChanged(kind):
            return f"notifications/{kind}/list_changed", {}
        case ResourceUpdated(uri):
            return "notifications/resources/updated", {"uri": uri}
