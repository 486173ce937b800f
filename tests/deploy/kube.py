"""As much of a Kubernetes API server as Traefik asks of one: lists, watches, and somebody who applies objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import trio

from trio_mcp.transports.listener import Receive, Scope, Send

__all__ = ["KubeApi", "Object", "endpoint_slice"]

Object: TypeAlias = dict[str, Any]

_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)",
)
_KINDS = {
    "Service": "services",
    "Secret": "secrets",
    "Node": "nodes",
    "ConfigMap": "configmaps",
    "EndpointSlice": "endpointslices",
    "Ingress": "ingresses",
    "IngressClass": "ingressclasses",
    "IngressRoute": "ingressroutes",
    "IngressRouteTCP": "ingressroutetcps",
    "IngressRouteUDP": "ingressrouteudps",
    "Middleware": "middlewares",
    "MiddlewareTCP": "middlewaretcps",
    "ServersTransport": "serverstransports",
    "ServersTransportTCP": "serverstransporttcps",
    "TLSOption": "tlsoptions",
    "TLSStore": "tlsstores",
    "TraefikService": "traefikservices",
}
"""What Traefik watches, with the plural that stands in the path; objects of any other kind it never hears of."""

_CHANGES = 1000
"""More than a test applies: a watcher that falls so far behind is broken."""


@dataclass(eq=False, slots=True)
class _Watch:
    """Somebody who waits for changes of one kind, in one namespace or in all."""

    kind: str
    namespace: str | None
    changes: trio.MemorySendChannel[tuple[str, Object]]

    def concerns(self, found: Object) -> bool:
        return found["kind"] == self.kind and self.namespace in (None, found["metadata"].get("namespace"))


@dataclass(slots=True)
class KubeApi:
    """An ASGI app. Objects are as in a manifest; `apply` is heard by whoever watches."""

    _objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    _watches: set[_Watch] = field(default_factory=set)
    _version: int = 1

    def apply(self, objects: Iterable[Object]) -> None:
        """Add or replace; kinds that Traefik does not watch are left out."""
        for given in objects:
            if given["kind"] in _KINDS:
                self._apply(deepcopy(given))

    def _apply(self, found: Object) -> None:
        metadata = found["metadata"]
        key = (found["kind"], metadata.get("namespace", ""), metadata["name"])
        change = "MODIFIED" if key in self._objects else "ADDED"
        self._version += 1
        metadata |= {"resourceVersion": str(self._version), "uid": "-".join(key)}
        self._objects[key] = found
        for watch in self._watches:
            if watch.concerns(found):
                watch.changes.send_nowait((change, found))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET is all there is."""
        asked = _PATH.fullmatch(scope["path"])
        kind = next((kind for kind, plural in _KINDS.items() if asked and plural == asked["plural"]), None)
        if asked is None or kind is None:
            return await _answer(send, *_other(scope["path"]))
        query = parse_qs(scope["query_string"].decode())
        if query.get("watch", [""])[0] in ("1", "true"):
            initial = query.get("sendInitialEvents") == ["true"]
            return await self._watch(send, kind, asked["namespace"], initial=initial)
        return await _answer(send, 200, self._list(kind, asked["namespace"], asked["group"] or "v1"))

    def _list(self, kind: str, namespace: str | None, version: str) -> Object:
        return {
            "kind": f"{kind}List",
            "apiVersion": version,
            "metadata": {"resourceVersion": str(self._version)},
            "items": list(self._found(kind, namespace)),
        }

    def _found(self, kind: str, namespace: str | None) -> Iterator[Object]:
        for key, found in self._objects.items():
            if key[0] == kind and namespace in (None, key[1]):
                yield found

    async def _watch(self, send: Send, kind: str, namespace: str | None, *, initial: bool) -> None:
        """Changes as they come, one JSON document each; never ends by itself."""
        send_change, changes = trio.open_memory_channel[tuple[str, Object]](_CHANGES)
        watch = _Watch(kind, namespace, send_change)
        existing = [("ADDED", found) for found in self._found(kind, namespace)] if initial else []
        self._watches.add(watch)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _JSON})
            for change in [*existing, *([("BOOKMARK", self._bookmark(kind))] if initial else [])]:
                await send(_event(*change))
            async for change in changes:
                await send(_event(*change))
        finally:
            self._watches.discard(watch)

    def _bookmark(self, kind: str) -> Object:
        """`That was all there is`, for a client that asked for the existing objects first."""
        annotations = {"k8s.io/initial-events-end": "true"}
        return {
            "kind": kind,
            "apiVersion": next((found["apiVersion"] for found in self._found(kind, None)), "v1"),
            "metadata": {"resourceVersion": str(self._version), "annotations": annotations},
        }


_JSON = [(b"content-type", b"application/json")]


def _event(change: str, found: Object) -> dict[str, Any]:
    line = json.dumps({"type": change, "object": found}).encode() + b"\n"
    return {"type": "http.response.body", "body": line, "more_body": True}


def _other(path: str) -> tuple[int, Object]:
    if path == "/version":
        return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
    return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


async def _answer(send: Send, status: int, content: Object) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _JSON})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def endpoint_slice(service: str, port: int, pods: Mapping[str, Mapping[str, bool]]) -> Object:
    """What the control plane writes for a Service: each pod's address, and whether it is serving and terminating.

    `ready` is what it always is: serving, and not terminating.
    """
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-1",
            "namespace": "mcp",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {**state, "ready": state["serving"] and not state["terminating"]}}
            for address, state in pods.items()
        ],
    }
