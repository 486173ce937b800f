"""The port behind which all ways to verify a token stand, and the base of our own verifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import trio

from trio_mcp.auth.key_refresh import KeyStatistics
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.resource import audience_key
from trio_mcp.auth.tokens import AccessToken

__all__ = ["SENDER", "ForeignAccessToken", "TokenVerifier", "Verdict", "Verifier", "judge_token", "sent_by"]

Verdict: TypeAlias = AccessToken | TokenRefused
"""What a verifier of ours says of a token."""


SENDER: ContextVar[str] = ContextVar("sender", default="")
"""The address of who sent the request whose token is judged; empty where that is not known."""


@contextmanager
def sent_by(address: str | None) -> Iterator[None]:
    """Within the block, tokens are judged that were sent by that address."""
    before = SENDER.set(address or "")
    try:
        yield
    finally:
        SENDER.reset(before)


class ForeignAccessToken(Protocol):
    """Any object with the fields of `AccessToken`, such as the one of the official Python SDK.

    Of `resource`, `subject` and `claims`, those that an older release lacks count as None. A subject that is None is taken from
    the claim `sub`. A token that has neither that claim nor the attribute `subject` is refused: it does not say whose it is.
    """

    @property
    def client_id(self) -> str:
        """The OAuth client."""

    @property
    def scopes(self) -> Sequence[str]:
        """The granted scopes."""

    @property
    def expires_at(self) -> int | None:
        """Unix time in seconds."""


class TokenVerifier(Protocol):
    """The port: verifies a bearer token. Verifiers written for the official Python SDK fit."""

    async def verify_token(self, token: str) -> ForeignAccessToken | None:
        """What the token says, or None when it is not good, which becomes a 401 that makes clients drop it.

        Raise `CannotTell` when that cannot be known now, for example because the authorization server does not answer:
        the request gets a 503 and the client keeps its token.
        """


class Verifier(ABC):
    """A verifier of ours: it says why it refuses, and may have a task that keeps its keys fresh."""

    issuers: tuple[str, ...] = ()
    """The authorization servers whose tokens it verifies, as far as it knows them."""

    signed_only = False
    """Whether it verifies signed tokens of its issuers and nothing else."""

    def __init_subclass__(cls, **options: Any) -> None:
        """A class that judges by more than its base has the shortcuts of that only where it says so: they would not ask it.

        Raises TypeError for one that overrides `verify_token` alone, which nobody asks of a Verifier.
        """
        super().__init_subclass__(**options)
        own = cls.__dict__
        if "verify_token" in own and "judge" not in own:
            raise TypeError(f"{cls.__name__} overrides verify_token, which is not asked of a Verifier: override judge")
        if "judge" in own and "judge_now" not in own:
            cls.judge_now = Verifier.judge_now  # type: ignore[method-assign]
        if ("judge" in own or "judge_now" in own) and "standing" not in own:
            cls.standing = Verifier.standing  # type: ignore[method-assign]

    @abstractmethod
    async def judge(self, token: str) -> Verdict:
        """The token, or why it is refused. Raises CannotTell when that cannot be known now."""

    def judge_now(self, token: str) -> Verdict | None:
        """As `judge` where that needs no waiting, which spares most requests a deadline; None where it may. Raises CannotTell."""
        return None

    def standing(self, token: str) -> Callable[[], bool] | None:
        """A function that says whether a token, which was accepted just now, still is: as `judge_now` would, but without reading the token.

        It may say False where `judge_now` would not, and raise CannotTell. None where only `judge_now` or `judge` can tell.
        """
        return None

    async def verify_token(self, token: str) -> AccessToken | None:
        """What `judge` says of the token, or None for every refusal: the port of the official Python SDK."""
        verdict = await self.judge(token)
        return verdict if isinstance(verdict, AccessToken) else None

    def bind(self, resource: str) -> None:  # noqa: B027  most verifiers have nothing to do here
        """Take `resource` as the audience, where none was given; called before the first token."""

    @property
    def ready(self) -> bool:
        """Whether tokens can be judged: False until the keys were fetched for the first time."""
        return True

    async def wait_ready(self) -> None:
        """Wait until `ready`; `run` must be running."""
        await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep fresh what the verifier needs; `started` after the first attempt, whether it worked or not.

        Raises AuthConfigurationError when the authorization server contradicts the configuration.
        """
        task_status.started()

    @property
    def issuer_document(self) -> bytes | None:
        """The metadata document of the authorization server, where it was fetched."""
        return None

    def statistics(self) -> Mapping[str, KeyStatistics]:
        """How old the keys are and how often they were fetched, by issuer; for metrics."""
        return {}


async def judge_token(verifier: TokenVerifier | Verifier, token: str, resource: str | None = None) -> Verdict:
    """What `verifier` says of `token`. Raises CannotTell, and whatever a verifier of the user raises.

    A token of the user's verifier that names a resource is refused unless that is `resource`, where one is given. Our own
    verifiers compared the audience, with settings of their own, and say in the token which of those it was.
    """
    if isinstance(verifier, Verifier):
        return await verifier.judge(token)
    found = await verifier.verify_token(token)
    if found is None:
        return TokenRefused(Refusal.NOT_ACCEPTED)
    ours = _ours(found, token)
    if isinstance(ours, TokenRefused) or resource is None or ours.resource is None:
        return ours
    return ours if audience_key(ours.resource) == audience_key(resource) else TokenRefused(Refusal.AUDIENCE)


def _ours(found: ForeignAccessToken, token: str) -> Verdict:
    claims = getattr(found, "claims", None)
    subject = getattr(found, "subject", None)
    if subject is None:
        subject = _claimed_subject(claims)
        if subject is None and not hasattr(found, "subject"):
            # It may stand for a user whom it does not name: all users of the client would be one principal.
            return TokenRefused(Refusal.IDENTITY)
    if isinstance(found, AccessToken):
        named = found if subject == found.subject else replace(found, subject=subject)
        return named if named.token else named.with_token(token)
    resource = getattr(found, "resource", None)
    return AccessToken(found.client_id, found.scopes, token, found.expires_at, resource, subject, claims)


def _claimed_subject(claims: object) -> str | None:
    """The claim `sub`, for tokens of releases of the SDK before `subject`, and verifiers that leave it unset."""
    subject = claims.get("sub") if isinstance(claims, Mapping) else None
    return subject if isinstance(subject, str) and subject else None
