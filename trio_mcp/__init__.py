"""MCP servers on Trio: one nursery per session.

Names are imported when they are first used: `trio-mcp version` needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_mcp import types as types
    from trio_mcp.auth.principal import ANONYMOUS as ANONYMOUS
    from trio_mcp.auth.principal import CannotTell as CannotTell
    from trio_mcp.auth.principal import Principal as Principal
    from trio_mcp.dispatch.context import Context as Context
    from trio_mcp.dispatch.elicitation import Elicited as Elicited
    from trio_mcp.dispatch.extension import Extension as Extension
    from trio_mcp.dispatch.options import Options as Options
    from trio_mcp.dispatch.session import Session as Session
    from trio_mcp.features.path_values import UncheckedPath as UncheckedPath
    from trio_mcp.features.task_options import Task as Task
    from trio_mcp.protocol.errors import ClientCallError as ClientCallError
    from trio_mcp.protocol.errors import ClientRefused as ClientRefused
    from trio_mcp.protocol.errors import ClientTimeout as ClientTimeout
    from trio_mcp.protocol.errors import McpError as McpError
    from trio_mcp.protocol.errors import MissingClientCapability as MissingClientCapability
    from trio_mcp.protocol.errors import NoBackChannel as NoBackChannel
    from trio_mcp.protocol.errors import PromptError as PromptError
    from trio_mcp.protocol.errors import ProtocolError as ProtocolError
    from trio_mcp.protocol.errors import ResourceError as ResourceError
    from trio_mcp.protocol.errors import ResourceNotFoundError as ResourceNotFoundError
    from trio_mcp.protocol.errors import SessionClosed as SessionClosed
    from trio_mcp.protocol.errors import SlowReader as SlowReader
    from trio_mcp.protocol.errors import ToolError as ToolError
    from trio_mcp.protocol.media import Audio as Audio
    from trio_mcp.protocol.media import File as File
    from trio_mcp.protocol.media import Image as Image
    from trio_mcp.protocol.types import AssistantMessage as AssistantMessage
    from trio_mcp.protocol.types import UserMessage as UserMessage
    from trio_mcp.server import MCPServer as MCPServer
    from trio_mcp.transports.http.route_request import RouteRequest as RouteRequest

_HOMES = {
    "trio_mcp.auth.principal": ("ANONYMOUS", "CannotTell", "Principal"),
    "trio_mcp.dispatch.context": ("Context",),
    "trio_mcp.dispatch.elicitation": ("Elicited",),
    "trio_mcp.dispatch.extension": ("Extension",),
    "trio_mcp.dispatch.options": ("Options",),
    "trio_mcp.dispatch.session": ("Session",),
    "trio_mcp.features.path_values": ("UncheckedPath",),
    "trio_mcp.features.task_options": ("Task",),
    "trio_mcp.protocol.errors": (
        "ClientCallError",
        "ClientRefused",
        "ClientTimeout",
        "McpError",
        "MissingClientCapability",
        "NoBackChannel",
        "PromptError",
        "ProtocolError",
        "ResourceError",
        "ResourceNotFoundError",
        "SessionClosed",
        "SlowReader",
        "ToolError",
    ),
    "trio_mcp.protocol.media": ("Audio", "File", "Image"),
    "trio_mcp.protocol.types": ("AssistantMessage", "UserMessage"),
    "trio_mcp.server": ("MCPServer",),
    "trio_mcp.transports.http.route_request": ("RouteRequest",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ANONYMOUS",
    "AssistantMessage",
    "Audio",
    "CannotTell",
    "ClientCallError",
    "ClientRefused",
    "ClientTimeout",
    "Context",
    "Elicited",
    "Extension",
    "File",
    "Image",
    "MCPServer",
    "McpError",
    "MissingClientCapability",
    "NoBackChannel",
    "Options",
    "Principal",
    "PromptError",
    "ProtocolError",
    "ResourceError",
    "ResourceNotFoundError",
    "RouteRequest",
    "Session",
    "SessionClosed",
    "SlowReader",
    "Task",
    "ToolError",
    "UncheckedPath",
    "UserMessage",
    "types",
]


def __getattr__(name: str) -> Any:
    if name == "types":
        return import_module("trio_mcp.types")
    if name not in _HOME:
        raise AttributeError(f"module 'trio_mcp' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
