"""Whether clients can find out where to log in, through the balancer: what is asked, and what the answers mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trio_mcp.auth.challenge_reader import BearerChallenge, read_challenge
from trio_mcp.auth.discovery import metadata_urls
from trio_mcp.auth.errors import FetchError
from trio_mcp.auth.fetching import Fetch, Response, fetch_within
from trio_mcp.auth.resource import WELL_KNOWN, metadata_url
from trio_mcp.cli.check.findings import Finding, Level, ordered
from trio_mcp.cli.login.discovery import (
    AuthorizationServer,
    LoginError,
    ProtectedResource,
    read_authorization_server,
    read_protected_resource,
)

__all__ = ["AuthorizationEvidence", "IssuerFound", "authorization_findings", "survey_authorization"]

_PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
_POST = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
_FROM_BROWSER = [("Accept", "application/json"), ("Origin", "https://browser.example.com")]


@dataclass(frozen=True, slots=True)
class IssuerFound:
    """An authorization server as the metadata names it, and what it says of itself; `fault` where that cannot be used."""

    issuer: str
    server: AuthorizationServer | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class AuthorizationEvidence:
    """The answers to a client without a token."""

    url: str
    status: int
    challenge: BearerChallenge | None = None
    documents: tuple[tuple[str, Response], ...] = ()
    """The URLs of the metadata and their answers, each asked for several times over fresh connections."""
    issuers: tuple[IssuerFound, ...] = ()

    @property
    def places(self) -> list[str]:
        """The URLs of the metadata."""
        return list(dict.fromkeys(place for place, _ in self.documents))

    @property
    def offers_no_login(self) -> bool:
        """Whether neither the challenge nor the well-known URLs have any metadata, as with fixed tokens."""
        nameless = self.challenge is not None and not self.challenge.resource_metadata
        return nameless and all(answer.status == 404 for _, answer in self.documents)

    def resource(self) -> ProtectedResource | None:
        """What the first document says that can be read."""
        return next((found for _, answer in self.documents if (found := _read(answer, self.url))), None)


async def survey_authorization(fetch: Fetch, url: str, connections: int) -> AuthorizationEvidence:
    """Ask without a token, and where that is refused for the metadata, `connections` times, and for the authorization servers.

    Raises FetchError when the server cannot be reached.
    """
    first = await fetch_within(fetch, "POST", url, _POST, _PING)
    if first.status != 401:
        return AuthorizationEvidence(url, first.status)
    origin = metadata_url(url).partition(WELL_KNOWN)[0]
    places = list(dict.fromkeys([metadata_url(url), f"{origin}{WELL_KNOWN}"]))
    documents = [(place, await _asked(fetch, place)) for place in places for _ in range(connections)]
    evidence = AuthorizationEvidence(
        url, 401, read_challenge([first.headers.get("www-authenticate", "")]), tuple(documents)
    )
    resource = evidence.resource()
    issuers = [await _issuer(fetch, issuer) for issuer in (() if resource is None else resource.issuers)]
    return AuthorizationEvidence(url, 401, evidence.challenge, evidence.documents, tuple(issuers))


async def _asked(fetch: Fetch, place: str) -> Response:
    try:
        return await fetch_within(fetch, "GET", place, _FROM_BROWSER)
    except FetchError:
        return Response(0)


async def _issuer(fetch: Fetch, issuer: str) -> IssuerFound:
    answers = []
    for place in metadata_urls(issuer):
        answer = await _asked(fetch, place)
        if answer.status == 200:
            try:
                return IssuerFound(issuer, read_authorization_server(answer.body, issuer))
            except LoginError as error:
                return IssuerFound(issuer, fault=str(error))
        answers.append(f"{answer.status or 'no answer'} for {place}")
    return IssuerFound(issuer, fault=f"it has no metadata: {', '.join(answers)}")


def authorization_findings(evidence: AuthorizationEvidence) -> list[Finding]:
    """What the answers show, what must change first."""
    if evidence.status != 401:
        return [Finding(Level.OK, "no token is asked for: whoever reaches the server may use it")]
    if evidence.offers_no_login:
        return [
            Finding(
                Level.NOTE,
                "tokens are asked for, and no login is offered (fixed tokens, or a gateway): "
                "clients need a token given by hand",
            )
        ]
    found = [
        *_challenge(evidence),
        *(finding for place in evidence.places for finding in _place(evidence, place)),
        *_resource(evidence),
        *(finding for issuer in evidence.issuers for finding in _server(issuer)),
    ]
    return ordered(found)


def _challenge(evidence: AuthorizationEvidence) -> Iterator[Finding]:
    wanted = metadata_url(evidence.url)
    if evidence.challenge is None:
        yield Finding(
            Level.CHANGE,
            "the 401 has no Bearer challenge: clients do not know that a token would help",
            "Does a proxy drop WWW-Authenticate, or answer in place of the nodes?",
        )
    elif evidence.challenge.resource_metadata not in evidence.places:
        yield Finding(
            Level.CHANGE,
            f"the challenge names {evidence.challenge.resource_metadata or 'no metadata'}, and not {wanted}",
            f"Set TRIO_MCP_AUTH_RESOURCE to {evidence.url}, the URL that clients use",
        )
    else:
        yield Finding(Level.OK, f"the 401 names the metadata: {evidence.challenge.resource_metadata}")


def _place(evidence: AuthorizationEvidence, place: str) -> Iterator[Finding]:
    answers = [answer for each, answer in evidence.documents if each == place]
    missed = [answer for answer in answers if answer.status != 200]
    closed = [answer for answer in answers if answer.headers.get("access-control-allow-origin") != "*"]
    if missed:
        statuses = ", ".join(sorted({str(answer.status or "no answer") for answer in missed}))
        yield Finding(
            Level.CHANGE,
            f"{len(missed)} of {len(answers)} requests for {place} failed: {statuses}",
            f"Route {WELL_KNOWN} and what is below it to any node, without asking for a token",
        )
    elif len({answer.body for answer in answers}) > 1:
        yield Finding(
            Level.CHANGE,
            f"nodes differ in what they answer at {place}",
            "Give all nodes the same TRIO_MCP_AUTH_* settings",
        )
    elif closed:
        yield Finding(
            Level.CHANGE,
            f"pages in browsers cannot read {place}: there is no Access-Control-Allow-Origin: *",
            "Does a proxy drop or replace the header?",
        )
    else:
        yield Finding(Level.OK, f"{place} is the same in {len(answers)} answers")


def _resource(evidence: AuthorizationEvidence) -> Iterator[Finding]:
    faults = list(_faults(evidence))
    for fault in dict.fromkeys(faults):
        yield Finding(Level.CHANGE, fault, f"Set TRIO_MCP_AUTH_RESOURCE to {evidence.url}, the URL that clients use")
    resource = evidence.resource()
    if not faults and resource is not None and resource.resource != evidence.url:
        yield Finding(
            Level.CHANGE,
            f"the metadata names {resource.resource}, and clients are given {evidence.url}: some compare byte for byte",
            f"Set TRIO_MCP_AUTH_RESOURCE to {evidence.url}, or give clients the other URL",
        )


def _faults(evidence: AuthorizationEvidence) -> Iterator[str]:
    for _, answer in evidence.documents:
        if answer.status == 200:
            try:
                read_protected_resource(answer.body, evidence.url)
            except LoginError as error:
                yield str(error)


def _server(found: IssuerFound) -> Iterator[Finding]:
    if found.server is None:
        yield Finding(
            Level.CHANGE,
            f"clients cannot log in at {found.issuer}: {found.fault}",
            "TRIO_MCP_AUTH_ISSUER must be what the authorization server calls itself, and clients must reach it",
        )
        return
    if "S256" not in found.server.challenge_methods:
        yield Finding(
            Level.CHANGE,
            f"{found.issuer} does not say that it offers PKCE with S256: MCP clients must refuse it",
            "Turn it on there (code_challenge_methods_supported)",
        )
    if not found.server.registration_endpoint and not found.server.takes_metadata_urls:
        yield Finding(
            Level.NOTE,
            f"{found.issuer} registers no clients by itself: each has to be registered by hand",
            "Many MCP clients need dynamic client registration, or client metadata documents",
        )
    yield Finding(Level.OK, f"{found.issuer} is reachable, and its issuer is equal")


def _read(answer: Response, url: str) -> ProtectedResource | None:
    try:
        return read_protected_resource(answer.body, url) if answer.status == 200 else None
    except LoginError:
        return None
