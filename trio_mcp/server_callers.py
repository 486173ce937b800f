"""From the `auth=` of a server to what its app needs to know who sends a request, and what is refused without it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from trio_mcp.auth.principal import Authenticate
from trio_mcp.dispatch.call import Service
from trio_mcp.features.registry import Registry
from trio_mcp.transports.http.callers import Identify, by_function

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.auth.checks import Requirements
    from trio_mcp.transports.http.allowed import Proxies
    from trio_mcp.transports.http.authorization import Authorization

__all__ = ["callers_of", "refuse_guarded"]


def callers_of(
    judge: BearerAuth | Authenticate | None, service: Service, resource: str | None, proxies: Proxies
) -> tuple[Authorization | None, Identify | None]:
    """What authorization by tokens needs in the app, and what the gate calls to know who sends a request."""
    if judge is None:
        return None, None
    if inspect.isroutine(judge):
        return None, by_function(judge, service.options.worker_threads)
    from trio_mcp.transports.http.authorization import authorization_of

    authorization = authorization_of(judge, service.metrics, resource, proxies)
    if authorization is None:
        return None, by_function(cast("Authenticate", judge), service.options.worker_threads)
    return authorization, authorization.identify


def refuse_guarded(registry: Registry) -> None:
    """Over a network, a component that asks something of tokens needs somebody who verifies them: now, and when one is added later."""

    def check(guarded: Mapping[str, Requirements]) -> None:
        if guarded:
            from trio_mcp.auth.checks import check_guarded

            check_guarded(guarded, verified=False)

    check(registry.requirements())
    registry.check_requirements = check
