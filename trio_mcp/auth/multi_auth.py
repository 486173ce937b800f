"""Several ways to verify a token at once: which of them is asked for which token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.jws import claimed_issuer, looks_like_jws
from trio_mcp.auth.key_refresh import KeyStatistics
from trio_mcp.auth.principal import CannotTell
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.static_tokens import StaticTokenVerifier
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.auth.verifier import TokenVerifier, Verdict, Verifier, judge_token
from trio_mcp.observability.logs import leaves

__all__ = ["MultiAuth"]


class MultiAuth(Verifier):
    """Accepts what one of its verifiers accepts.

    A signed token goes to the verifiers of signed tokens for the issuer that it names, and to no other where there is one.
    The name is not verified at that point: it chooses who verifies it, and nothing else. All other tokens go to the static
    ones first, then to the rest in their order.

    Where nobody accepts a token and one verifier could not tell, the answer is CannotTell. Raises ValueError without a verifier.
    """

    def __init__(self, *verifiers: TokenVerifier | Verifier) -> None:
        if not verifiers:
            raise ValueError("MultiAuth needs a verifier")
        # Static tokens first: asking them costs nothing, and never fails.
        self._verifiers = sorted(verifiers, key=lambda each: not isinstance(each, StaticTokenVerifier))
        self._own = [each for each in self._verifiers if isinstance(each, Verifier)]
        self._resource: str | None = None
        self.issuers: tuple[str, ...] = tuple(dict.fromkeys(issuer for each in self._own for issuer in each.issuers))

    def bind(self, resource: str) -> None:
        """Take `resource` as the audience in each that has none, and for tokens that users' verifiers describe."""
        self._resource = self._resource or resource
        for each in self._own:
            each.bind(resource)

    @property
    def ready(self) -> bool:
        """Whether all can judge tokens."""
        return all(each.ready for each in self._own)

    async def wait_ready(self) -> None:
        """Wait until all can judge tokens."""
        for each in self._own:
            await each.wait_ready()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all; `started` when all have made their first attempt. Raises the first AuthConfigurationError by itself."""
        try:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as starting:
                    for each in self._own:
                        starting.start_soon(nursery.start, each.run)
                task_status.started()
        except BaseExceptionGroup as group:
            for leaf in leaves(group):
                if isinstance(leaf, AuthConfigurationError):
                    raise leaf from None
            raise

    async def judge(self, token: str) -> Verdict:
        """The first token that a verifier accepts, else the last refusal. Raises CannotTell where one could not tell."""
        refusal = TokenRefused(Refusal.NOT_ACCEPTED)
        unknown: CannotTell | None = None
        for verifier in self._chosen(token):
            try:
                verdict = await judge_token(verifier, token, self._resource)
            except CannotTell as error:
                unknown = error
                continue
            if isinstance(verdict, AccessToken):
                return verdict
            refusal = verdict
        if unknown is not None:
            raise CannotTell(*unknown.args) from unknown
        return refusal

    def judge_now(self, token: str) -> Verdict | None:
        """Where the first verifier that does not refuse the token needs no waiting."""
        try:
            for verifier in self._chosen(token):
                verdict = verifier.judge_now(token) if isinstance(verifier, Verifier) else None
                if not isinstance(verdict, TokenRefused):
                    return verdict
        except CannotTell:
            return None  # Another one may accept it: `judge` asks them all.
        return None

    def statistics(self) -> Mapping[str, KeyStatistics]:
        """Those of all."""
        return {issuer: numbers for each in self._own for issuer, numbers in each.statistics().items()}

    @property
    def issuer_document(self) -> bytes | None:
        """The metadata document of the first issuer that has one."""
        return next((each.issuer_document for each in self._own if each.issuer_document is not None), None)

    def _chosen(self, token: str) -> Sequence[TokenVerifier | Verifier]:
        others = [each for each in self._verifiers if not _verifies_signed(each)]
        if not looks_like_jws(token):
            return others
        issuer = claimed_issuer(token)
        named = [each for each in self._own if each.signed_only and issuer in each.issuers]
        # Static tokens may have two dots as well.
        static = [each for each in others if isinstance(each, StaticTokenVerifier)]
        return [*static, *named] if named else others


def _verifies_signed(verifier: TokenVerifier | Verifier) -> bool:
    return isinstance(verifier, Verifier) and verifier.signed_only
