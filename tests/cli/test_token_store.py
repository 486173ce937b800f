"""Stored logins: where they are, who can read them, which one is for a URL."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from trio_mcp.cli.login.discovery import LoginError
from trio_mcp.cli.login.requests import Tokens
from trio_mcp.cli.login.token_store import Grant, TokenStore

URL = "https://mcp.example.com/mcp"


def grant(resource: str = URL, issuer: str = "https://a", **changes: object) -> Grant:
    given = Grant(resource, issuer, f"{issuer}/token", "c", "none", "the token", refresh_token="the refresh token")
    return replace(given, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore.of({"XDG_STATE_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/a"}, "/state/trio-mcp/tokens"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/a"}, "/home/a/.local/state/trio-mcp/tokens"),
        ({"XDG_STATE_HOME": "here", "HOME": "/home/a"}, "/home/a/.local/state/trio-mcp/tokens"),
        ({"HOME": "/home/a"}, "/home/a/.local/state/trio-mcp/tokens"),
    ],
)
def test_the_folder(environ: dict[str, str], folder: str) -> None:
    assert TokenStore.of(environ).folder == Path(folder)


@pytest.mark.requirement("auth-79")
def test_only_the_owner_can_read_a_login(store: TokenStore) -> None:
    path = store.save(grant())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert [each.name for each in store.folder.iterdir()] == [path.name]
    assert store.find(URL) == grant()
    path.chmod(0o640)
    with pytest.raises(LoginError, match="chmod 600"):
        store.find(URL)


@pytest.mark.parametrize("mode", [0o710, 0o750, 0o701, 0o777])
def test_a_folder_that_others_may_look_into_is_refused(store: TokenStore, mode: int) -> None:
    store.save(grant())
    store.folder.chmod(mode)
    for use in (lambda: store.find(URL), lambda: store.save(grant())):
        with pytest.raises(LoginError, match=f"^others may look into {store.folder}: .* chmod 700$"):
            use()
    store.folder.chmod(0o700)
    assert store.find(URL) == grant()


def test_one_file_for_each_resource_and_issuer(store: TokenStore) -> None:
    store.save(grant(saved_at=1))
    store.save(grant(issuer="https://b", saved_at=2))
    store.save(grant(saved_at=3, access_token="a later one"))
    assert len([*store.folder.iterdir()]) == 2
    assert store.find(URL) == grant(saved_at=3, access_token="a later one")


def test_a_token_goes_to_its_own_resource_only(store: TokenStore) -> None:
    store.save(grant("https://mcp.example.com", saved_at=2))
    store.save(grant(saved_at=1))
    found = store.find(URL)
    assert found is not None
    assert found.resource == URL
    assert store.find("https://mcp.example.com/other") == grant("https://mcp.example.com", saved_at=2)
    assert store.find("https://other.example.com/mcp") is None
    assert store.find("http://mcp.example.com/mcp") is None


def test_a_forgotten_login_is_gone(store: TokenStore) -> None:
    store.save(grant())
    store.forget(grant())
    store.forget(grant())
    assert store.find(URL) is None
    assert store.read(grant()) is None


def test_a_file_that_is_no_login_is_named(store: TokenStore) -> None:
    path = store.save(grant())
    path.write_text("{}")
    with pytest.raises(LoginError, match=f"{path.name} cannot be read as a login"):
        store.find(URL)


def test_a_renewed_login_keeps_the_refresh_token_that_was_not_replaced() -> None:
    tokens = Tokens("t", expires_in=4.0, scopes=("a",))
    renewed = grant().renewed(tokens, 100.0)
    assert (renewed.access_token, renewed.refresh_token, renewed.expires_at) == ("t", "the refresh token", 104.0)
    assert grant().renewed(replace(tokens, refresh_token="r"), 100.0).refresh_token == "r"


def test_tokens_do_not_show_in_texts() -> None:
    assert "hunter" not in repr(grant(access_token="hunter", client_secret="hunter", refresh_token="hunter"))
