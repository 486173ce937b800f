"""What runs while a server is served, over every transport: the user's lifespan, the bus, the memory relief, the sessions."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from trio_mcp.dispatch.call import Service
from trio_mcp.dispatch.notices import Notices
from trio_mcp.dispatch.user_code import user_context
from trio_mcp.observability.logs import event
from trio_mcp.sessions.hub import Hub

__all__ = ["running"]

logger: logging.Logger = logging.getLogger("trio_mcp")


@asynccontextmanager
async def running(
    lifespan: Callable[[], AbstractAsyncContextManager[Any]], service: Service, hub: Hub
) -> AsyncIterator[None]:
    """Run the user's lifespan, extensions, the bus, the relief of memory and the hub for the length of the block.

    `lifespan` is entered first and left last. Context variables that it sets are seen by sessions. What the body of the block raises
    arrives in an exception group.
    """
    async with user_context(lifespan()) as service.lifespan_context, trio.open_nursery() as nursery:
        service.loop.adopt()
        service.variables = contextvars.copy_context()
        for ref, argument, why in service.registry.lost_completions():
            # A warning only: the prompt or resource may be registered while the server runs.
            event(logger, logging.WARNING, "completion of nothing", target=ref, argument=argument, reason=why)
        for tool, uri in service.registry.lost_apps():
            event(logger, logging.WARNING, "app of a tool is not registered", tool=tool, target=uri)
        for tool, identifier, why in service.registry.lost_extensions(service.extensions):
            event(logger, logging.WARNING, "extension of a tool is not there", tool=tool, target=identifier, reason=why)
        nursery.start_soon(service.bus.pump)
        nursery.start_soon(service.account.relieve)
        if service.extensions:
            nursery.start_soon(Notices(service).run)
        async with _extensions(service), hub.running():
            yield
        nursery.cancel_scope.cancel("the server stops")


@asynccontextmanager
async def _extensions(service: Service) -> AsyncIterator[None]:
    """What extensions run around all requests; they may be user code."""
    async with AsyncExitStack() as stack:
        for extension in service.extensions.values():
            manager = extension.running(service)
            if manager is not None:
                state = await stack.enter_async_context(user_context(manager))
                service.extension_state[extension.identifier] = state
        yield
