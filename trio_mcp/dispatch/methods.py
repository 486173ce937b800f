"""Which function answers which method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from msgspec import Raw

from trio_mcp.dispatch import completing, conversing, discovery, listening, lists, prompting, reading, tools
from trio_mcp.dispatch.call import Call

__all__ = ["HANDLERS", "Handler"]

Handler: TypeAlias = Callable[[Call], Awaitable[dict[str, Any] | Raw]]

HANDLERS: dict[str, Handler] = {
    "initialize": conversing.initialize_again,
    "ping": conversing.ping,
    "logging/setLevel": conversing.set_level,
    "resources/subscribe": conversing.subscribe,
    "resources/unsubscribe": conversing.unsubscribe,
    "tools/list": lists.list_tools,
    "tools/call": tools.call_tool,
    "resources/list": lists.list_resources,
    "resources/templates/list": lists.list_templates,
    "resources/read": reading.read_resource,
    "prompts/list": lists.list_prompts,
    "prompts/get": prompting.get_prompt,
    "completion/complete": completing.complete,
    "server/discover": discovery.discover,
    "subscriptions/listen": listening.listen,
}
