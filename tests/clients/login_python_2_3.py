"""The official Python client logs in: `login_python_2_3.py URL legacy|auto`; BROWSER_SCRIPT is the browser."""

import os
import subprocess
import sys
from functools import partial
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from renewal import seconds_left
from steps import Steps, text_of

REDIRECT = "http://127.0.0.1:3030/callback"


class Kept(TokenStorage):
    """Tokens in memory."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Person:
    """Logs in where the client sends them."""

    logins = 0
    answer: dict[str, list[str]]

    async def redirect(self, url: str) -> None:
        self.logins += 1
        browser = [sys.executable, os.environ["BROWSER_SCRIPT"], url, REDIRECT]
        done = await anyio.to_thread.run_sync(
            partial(subprocess.run, browser, capture_output=True, text=True, check=True)
        )
        self.answer = parse_qs(urlsplit(done.stdout.strip()).query)

    async def callback(self) -> AuthorizationCodeResult:
        one = {name: values[0] for name, values in self.answer.items()}
        return AuthorizationCodeResult(code=one["code"], state=one.get("state"), iss=one.get("iss"))


async def main(url: str, mode: str) -> None:
    steps, person = Steps(), Person()
    metadata = OAuthClientMetadata(client_name="python", redirect_uris=[REDIRECT])  # type: ignore[list-item]
    auth = OAuthClientProvider(
        url, metadata, Kept(), redirect_handler=person.redirect, callback_handler=person.callback
    )
    async with steps.conversation():
        async with httpx2.AsyncClient(auth=auth, timeout=30) as http:
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                await use(client, steps, person)
    if "connect" in steps.verdicts:
        steps.verdicts["login"] = steps.verdicts.pop("connect")
    steps.print()


async def use(client: Client, steps: Steps, person: Person) -> None:
    async with steps.step("connect"):
        assert person.logins == 1, person.logins
    async with steps.step("list"):
        assert "add" in [tool.name for tool in (await client.list_tools()).tools]
    async with steps.step("call"):
        assert text_of((await client.call_tool("add", {"a": 1, "b": 2})).content) == "3"
    async with steps.step("refresh"):
        first = await expires(client)
        if left := seconds_left(first):
            await anyio.sleep(left)
            assert await expires(client) > first
        assert person.logins == 1, "it logged in anew"
    async with steps.step("step-up"):
        assert text_of((await client.call_tool("write", {"text": "a"})).content) == "wrote a"
        assert person.logins == 2, person.logins


async def expires(client: Client) -> int:
    return int(text_of((await client.call_tool("expires", {})).content))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], backend="trio")
