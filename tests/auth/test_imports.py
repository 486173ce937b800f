"""What authorization costs a server that has none: nothing is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import trio_mcp.auth


def loaded(code: str) -> str:
    """Which of the libraries that verify signatures are loaded after the code ran."""
    watched = "{'jwt', 'trio_mcp.auth.bearer_auth', 'trio_mcp.auth.signatures', 'cryptography.hazmat.primitives.asymmetric.rsa'}"
    ending = f"; import sys; print(sorted({watched} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import trio_mcp.server, trio_mcp.cli, trio_mcp.transports.http.app", "[]"),
        ("from trio_mcp.auth import AccessToken, Claim, require_roles, require_scopes; require_scopes('a')", "[]"),
        ("from trio_mcp.auth import BearerAuth, MultiAuth, StaticTokenVerifier", "['trio_mcp.auth.bearer_auth']"),
    ],
)
def test_what_verifies_signatures_is_loaded_only_when_it_is_configured(code: str, modules: str) -> None:
    assert loaded(code) == modules


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OAuth'"):
        trio_mcp.auth.OAuth  # noqa: B018


def test_every_name_can_be_had() -> None:
    for name in trio_mcp.auth.__all__:
        assert getattr(trio_mcp.auth, name) is not None
        assert name in dir(trio_mcp.auth)
