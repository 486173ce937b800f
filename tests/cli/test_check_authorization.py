"""What `trio-mcp check` finds out about logging in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from trio_mcp.auth.fetching import Response
from trio_mcp.cli.check.authorization import authorization_findings, survey_authorization
from trio_mcp.cli.check.findings import Finding, Level

URL = "https://mcp.example.com/mcp"
ISSUER = "https://login.example.com"
ROOT = "https://mcp.example.com/.well-known/oauth-protected-resource"
ISSUER_DOCUMENT = f"{ISSUER}/.well-known/oauth-authorization-server"
CORS = {"access-control-allow-origin": "*"}


class World:
    """The answers by URL; of several for one URL each is given in turn."""

    def __init__(self) -> None:
        resource = {"resource": URL, "authorization_servers": [ISSUER]}
        self.challenge = f'Bearer scope="a", resource_metadata="{ROOT}/mcp"'
        self.status = 401
        self.issuer: dict[str, Any] = {
            "issuer": ISSUER,
            "token_endpoint": f"{ISSUER}/token",
            "registration_endpoint": f"{ISSUER}/register",
            "code_challenge_methods_supported": ["S256"],
        }
        document = Response(200, json.dumps(resource).encode(), CORS)
        self.answers: dict[str, list[Response]] = {f"{ROOT}/mcp": [document], ROOT: [document]}
        self.asked: list[str] = []

    def resource(self, **changes: Any) -> None:
        """Change the document at both places."""
        for answers in self.answers.values():
            document = {**json.loads(answers[0].body), **changes}
            answers[0] = Response(200, json.dumps(document).encode(), CORS)

    async def fetch(self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
        """The port `Fetch`."""
        self.asked.append(url)
        if url == URL:
            return Response(self.status, b"", {"www-authenticate": self.challenge} if self.challenge else {})
        if url == ISSUER_DOCUMENT:
            return Response(200, json.dumps(self.issuer).encode())
        answers = self.answers.get(url, [Response(404)])
        return answers[self.asked.count(url) % len(answers)]


async def found(world: World) -> list[Finding]:
    return authorization_findings(await survey_authorization(world.fetch, URL, 3))


async def changes(world: World) -> list[Finding]:
    return [finding for finding in await found(world) if finding.level is Level.CHANGE]


async def test_all_is_well() -> None:
    world = World()
    assert {finding.level for finding in await found(world)} == {Level.OK}
    assert world.asked.count(f"{ROOT}/mcp") == world.asked.count(ROOT) == 3


@pytest.mark.parametrize("status", [200, 400, 404, 503])
async def test_an_open_server_is_asked_nothing_more(status: int) -> None:
    world = World()
    world.status = status
    (finding,) = await found(world)
    assert (finding.level, world.asked) == (Level.OK, [URL])


@pytest.mark.parametrize(
    ("challenge", "told"),
    [
        ("", "no Bearer challenge"),
        ("Basic realm=x", "no Bearer challenge"),
        ("Bearer", "names no metadata"),
        (f'Bearer resource_metadata="{ROOT}/other"', f"names {ROOT}/other, and not {ROOT}/mcp"),
        (
            'Bearer resource_metadata="http://node1:8000/.well-known/oauth-protected-resource/mcp"',
            "names http://node1:8000",
        ),
    ],
)
async def test_a_challenge_that_leads_nowhere(challenge: str, told: str) -> None:
    world = World()
    world.challenge = challenge
    (finding,) = await changes(world)
    assert told in finding.text
    assert finding.step


async def test_fixed_tokens_offer_no_login_and_nothing_must_change() -> None:
    world = World()
    world.challenge = "Bearer"
    world.answers = {}
    (finding,) = await found(world)
    assert finding.level is Level.NOTE
    assert "no login is offered" in finding.text


async def test_metadata_that_the_challenge_names_and_nobody_has_must_change() -> None:
    world = World()
    world.answers = {}
    assert await changes(world)


async def test_a_balancer_that_sends_some_of_it_elsewhere() -> None:
    world = World()
    good = world.answers[ROOT][0]
    world.answers[ROOT] = [good, Response(404), good]
    (finding,) = await changes(world)
    assert f"1 of 3 requests for {ROOT} failed: 404" in finding.text


async def test_nodes_with_other_settings() -> None:
    world = World()
    good = world.answers[ROOT][0]
    world.answers[ROOT] = [good, Response(200, good.body + b" ", CORS)]
    (finding,) = await changes(world)
    assert "nodes differ" in finding.text


async def test_a_proxy_that_takes_cors_off() -> None:
    world = World()
    world.answers[ROOT] = [Response(200, world.answers[ROOT][0].body)]
    (finding,) = await changes(world)
    assert "Access-Control-Allow-Origin" in finding.text


@pytest.mark.parametrize(
    ("resource", "told"),
    [
        ("https://node1:8000/mcp", "the metadata is that of 'https://node1:8000/mcp'"),
        ("https://mcp.example.com/mcp/", "compare byte for byte"),
        ("https://mcp.example.com", "compare byte for byte"),
    ],
)
async def test_a_resource_that_is_not_the_url(resource: str, told: str) -> None:
    world = World()
    world.resource(resource=resource)
    (finding,) = await changes(world)
    assert told in finding.text
    assert URL in finding.step


@pytest.mark.parametrize(
    ("document", "level", "told"),
    [
        ({"issuer": ISSUER + "/"}, Level.CHANGE, "they must be equal"),
        ({"code_challenge_methods_supported": ["plain"]}, Level.CHANGE, "PKCE"),
        ({"code_challenge_methods_supported": None}, Level.CHANGE, "PKCE"),
        ({"registration_endpoint": ""}, Level.NOTE, "registered by hand"),
    ],
)
async def test_an_authorization_server_that_clients_cannot_use(document: Any, level: Level, told: str) -> None:
    world = World()
    world.issuer |= document
    (finding,) = [finding for finding in await found(world) if finding.level is not Level.OK]
    assert (finding.level, told in finding.text) == (level, True)


async def test_an_authorization_server_without_metadata() -> None:
    world = World()
    world.resource(authorization_servers=["https://other.example.com"])
    (finding,) = await changes(world)
    assert "404 for https://other.example.com/.well-known/oauth-authorization-server" in finding.text
