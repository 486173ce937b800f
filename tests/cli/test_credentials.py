"""What a command shows a server: from the command line, the environment, or a login."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.credentials import Credentials, StoredLogin, credentials_for, read_secret
from trio_mcp.cli.login import flow
from trio_mcp.cli.login.discovery import LoginError
from trio_mcp.cli.login.requests import Tokens
from trio_mcp.cli.login.token_store import Grant, TokenStore
from trio_mcp.http_client import Exchange, Head, Headers

URL = "https://mcp.example.com/mcp"
GRANT = Grant(URL, "https://a", "https://a/token", "c", "none", "old", refresh_token="r", scopes=("a",))
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("headers", "bearer", "variable", "sent"),
    [
        ([], None, "", []),
        ([("A", "b")], None, "", [("A", "b")]),
        ([("A", "b")], "flag", "", [("A", "b"), ("Authorization", "Bearer flag")]),
        ([], "flag", "variable", [("Authorization", "Bearer flag")]),
        ([], None, "variable", [("Authorization", "Bearer variable")]),
        ([("authorization", "Basic x")], None, "variable", [("authorization", "Basic x")]),
    ],
)
def test_the_nearest_counts(
    environ: dict[str, str], headers: list[tuple[str, str]], bearer: str | None, variable: str, sent: Headers
) -> None:
    TokenStore.of(environ).save(GRANT)
    found = credentials_for(
        URL, headers, bearer, {**environ, "TRIO_MCP_BEARER": variable, "TRIO_MCP_BEARER_URL": "https://mcp.example.com"}
    )
    assert found.headers == sent
    explicit = any(name.lower() == "authorization" for name, _ in sent)
    assert (found.login is None) is explicit


def test_both_a_header_and_a_token_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="leave one out"):
        credentials_for(URL, [("Authorization", "Basic x")], "t", environ)


HERE = ("http://127.0.0.1:8000/mcp", "http://localhost:8000/mcp", "http://[::1]:8000/mcp")
THERE = ("http://mcp.example.com/mcp", "http://127.0.0.1.example.com/mcp", "http://10.0.0.1/mcp")


@pytest.mark.parametrize("url", [*HERE, *THERE, URL])
def test_a_token_goes_over_tls_or_to_loopback(environ: dict[str, str], url: str) -> None:
    sent = [("Authorization", "Bearer t")]
    variables = {"TRIO_MCP_BEARER": "t", "TRIO_MCP_BEARER_URL": url}
    for headers, bearer, more in (([], "t", {}), ([], None, variables), (sent, None, {})):
        if url in THERE:
            with pytest.raises(UsageError, match=f"^{re.escape(url)} has no TLS: .* --insecure"):
                credentials_for(url, headers, bearer, {**environ, **more})
        else:
            assert credentials_for(url, headers, bearer, {**environ, **more}).headers == sent
        assert credentials_for(url, headers, bearer, {**environ, **more}, insecure=True).headers == sent


@pytest.mark.parametrize(
    ("own", "url", "sent"),
    [
        ("https://mcp.example.com", URL, True),
        (URL, URL + "/a", True),
        (URL, "https://mcp.example.com/other", False),
        (URL, "https://evil.example.com/mcp", False),
        (URL, "http://127.0.0.1:8000/mcp", False),
        ("", "http://127.0.0.1:8000/mcp", True),
        ("", "server.py", True),
        (URL, "server.py", True),
    ],
)
def test_the_token_of_the_environment_goes_to_its_own_server(
    environ: dict[str, str], own: str, url: str, sent: bool, capsys: Printed
) -> None:
    found = credentials_for(url, [], None, {**environ, "TRIO_MCP_BEARER": "s3cret", "TRIO_MCP_BEARER_URL": own})
    assert found.headers == ([("Authorization", "Bearer s3cret")] if sent else [])
    said = capsys.readouterr().err
    assert (f"TRIO_MCP_BEARER is for {own}, and is not sent to {url}" in said) is not sent
    assert "s3cret" not in said


def test_a_token_of_the_environment_for_no_named_server_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="set TRIO_MCP_BEARER_URL"):
        credentials_for(URL, [], None, {**environ, "TRIO_MCP_BEARER": "t"})


@pytest.mark.parametrize(
    ("asked", "insecure", "unchecked"),
    [
        ("https://mcp.example.com:8443/token", True, True),
        ("https://localhost:9000/token", True, True),
        ("https://login.example.com/token", True, False),
        ("https://mcp.example.com/token", False, False),
    ],
)
async def test_insecure_holds_for_the_server_and_for_loopback(
    monkeypatch: pytest.MonkeyPatch, asked: str, insecure: bool, unchecked: bool
) -> None:
    seen: list[bool] = []

    class Client:
        def __init__(self, url: str, *, insecure: bool, proxy: object) -> None:
            seen.append(insecure)
            raise OSError(url)

    monkeypatch.setattr(flow, "HttpClient", Client)
    with pytest.raises(OSError, match=asked):
        await flow.fetch_with(URL, insecure=insecure)("GET", asked, [], b"")
    assert seen == [unchecked]


@pytest.mark.parametrize("url", ["https://other.example.com/mcp", "server.py", "http://mcp.example.com/mcp"])
def test_a_login_is_for_its_own_server(environ: dict[str, str], url: str) -> None:
    TokenStore.of(environ).save(GRANT)
    assert credentials_for(url, [], None, environ).login is None


def test_a_secret_from_a_file_from_stdin_and_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    file = tmp_path / "token"
    file.write_text("abc\n")
    assert read_secret(f"@{file}", "--bearer") == "abc"
    monkeypatch.setattr("sys.stdin", io.StringIO("def\n"))
    assert read_secret("-", "--bearer") == "def"
    assert capsys.readouterr().err == ""
    assert read_secret("ghi", "--bearer") == "ghi"
    assert "--bearer shows in the list of processes" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", " ", "a\nb", "é", "@/no/such/file"])
def test_what_is_no_secret(text: str, capsys: Printed) -> None:
    with pytest.raises(UsageError, match="--bearer"):
        read_secret(text, "--bearer")
    assert text.strip() == "" or text not in capsys.readouterr().err


def test_a_file_and_stdin_without_a_secret_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(UsageError, match=r"^TOKEN is empty: nothing came on stdin$"):
        read_secret("-", "TOKEN")
    with pytest.raises(UsageError, match=f"^--bearer: there is no file {tmp_path}/token$"):
        read_secret(f"@{tmp_path}/token", "--bearer")
    with pytest.raises(UsageError, match=f"^--bearer: {tmp_path} cannot be read: Is a directory$"):
        read_secret(f"@{tmp_path}", "--bearer")


class Server:
    """Answers by the token of the request."""

    def __init__(self, statuses: Mapping[str, int]) -> None:
        self.statuses = statuses
        self.asked: list[str] = []
        self.open = 0

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        token = dict(headers)["Authorization"].removeprefix("Bearer ")
        self.asked.append(f"{method} {token}")
        self.open += 1
        yield Answer(self.statuses[token])
        self.open -= 1


class Answer:
    def __init__(self, status: int) -> None:
        self.status = status

    async def head(self) -> Head:
        return Head(self.status, {})

    async def receive(self) -> bytes:
        return str(self.status).encode()


async def ask(server: Server, credentials: Credentials) -> bytes:
    async with credentials.over(server).exchange("POST", [], b"{}") as exchange:
        await exchange.head()
        assert server.open == 1
        return await exchange.receive()


def renewing(monkeypatch: pytest.MonkeyPatch, *tokens: str | Exception) -> list[str]:
    """What is renewed, of a login whose next tokens are these."""
    left, asked = list(tokens), list[str]()

    async def renew(fetch: object, grant: Grant) -> Grant:
        asked.append(grant.access_token)
        token = left.pop(0)
        if isinstance(token, Exception):
            raise token
        return GRANT.renewed(Tokens(token), 0.0)

    monkeypatch.setattr(flow, "renew", renew)
    return asked


def login(environ: dict[str, str], **changes: Any) -> tuple[TokenStore, Credentials]:
    store = TokenStore.of(environ)
    store.save(GRANT)
    return store, credentials_for(URL, [], None, environ)


@pytest.mark.requirement("auth-79")
async def test_a_refused_token_is_renewed_once_and_the_request_sent_again(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, credentials = login(environ)
    server, renewed = Server({"old": 401, "new": 200}), renewing(monkeypatch, "new")
    assert await ask(server, credentials) == b"200"
    assert await ask(server, credentials) == b"200"
    assert server.asked == ["POST old", "POST new", "POST new"]
    assert (renewed, server.open) == (["old"], 0)
    stored = store.find(URL)
    assert stored is not None
    assert stored.access_token == "new"


async def test_a_token_that_is_refused_again_is_not_renewed_again(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, renewed = Server({"old": 401, "new": 401}), renewing(monkeypatch, "new")
    assert await ask(server, login(environ)[1]) == b"401"
    assert renewed == ["old"]


@pytest.mark.parametrize("status", [200, 403, 404, 503])
async def test_only_a_401_means_that_the_token_has_ended(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    server, renewed = Server({"old": status}), renewing(monkeypatch)
    assert await ask(server, login(environ)[1]) == str(status).encode()
    assert renewed == []


async def test_another_process_may_have_renewed_it(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    store, credentials = login(environ)
    store.save(GRANT.renewed(Tokens("new"), 0.0))
    server, renewed = Server({"old": 401, "new": 200}), renewing(monkeypatch)
    assert await ask(server, credentials) == b"200"
    assert renewed == []


async def test_a_login_that_has_ended_is_noted(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    server = Server({"old": 401})
    renewing(monkeypatch, LoginError("invalid_grant"))
    assert await ask(server, login(environ)[1]) == b"401"
    assert capsys.readouterr().err == "trio-mcp: the login at https://a has ended: invalid_grant\n"


async def test_one_without_refresh_token_stays_refused(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, credentials = login(environ)
    assert isinstance(credentials.login, StoredLogin)
    store = TokenStore.of(environ)
    grant = Grant(URL, "https://a", "https://a/token", "c", "none", "old")
    store.save(grant)
    credentials.login.grant = grant
    renewed = renewing(monkeypatch)
    assert await ask(Server({"old": 401}), credentials) == b"401"
    assert renewed == []
