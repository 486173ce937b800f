"""The tokens of logins, each in a file of its own that only its owner can read, by resource and issuer."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trio_mcp.auth.resource import covers
from trio_mcp.cli.login.discovery import LoginError
from trio_mcp.cli.login.requests import Client, Tokens

__all__ = ["Grant", "TokenStore"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A login: what was granted, by whom, for what, and what it takes to get the next token."""

    resource: str
    issuer: str
    token_endpoint: str
    client_id: str
    auth_method: str
    access_token: str = field(repr=False)
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_at: float | None = None
    """Unix time in seconds; for people, since the server decides."""
    scopes: tuple[str, ...] = ()
    revocation_endpoint: str = ""
    by_credentials: bool = False
    """Whether the next token comes by the client's credentials alone."""
    saved_at: float = 0.0
    """Unix time in seconds."""

    @property
    def client(self) -> Client:
        """Who it was granted to."""
        return Client(self.client_id, self.client_secret, self.auth_method)

    @property
    def renewable(self) -> bool:
        """Whether another token can be had without a person."""
        return self.by_credentials or bool(self.refresh_token)

    def renewed(self, tokens: Tokens, now: float) -> Grant:
        """With the tokens of a later answer; a refresh token that it does not replace stays (RFC 6749 §6)."""
        return replace(
            self,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token or self.refresh_token,
            expires_at=None if tokens.expires_in is None else now + tokens.expires_in,
            scopes=tokens.scopes,
            saved_at=now,
        )


class TokenStore:
    """The files in one folder. Raises LoginError for one that others may read or write, and for such a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> TokenStore:
        """In `$XDG_STATE_HOME/trio-mcp/tokens`; `~/.local/state` unless that is set (XDG Base Directory Specification)."""
        state = environ.get("XDG_STATE_HOME", "")
        # The specification: a relative path is to be ignored.
        root = Path(state) if os.path.isabs(state) else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
        return cls(root / "trio-mcp" / "tokens")

    def path(self, resource: str, issuer: str) -> Path:
        """The file of a resource and an issuer."""
        key = json.dumps([resource, issuer]).encode()
        return self.folder / f"{hashlib.sha256(key).hexdigest()[:32]}.json"

    def find(self, url: str) -> Grant | None:
        """The grant whose tokens are for the server at `url`; of several the one for the longest resource, then the newest."""
        found = [each for each in self._grants() if covers(each.resource, url)]
        return max(found, key=lambda each: (len(each.resource), each.saved_at), default=None)

    def save(self, grant: Grant) -> Path:
        """Write it in place of the one for the same resource and issuer: mode 0600, all of it or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_folder(self.folder)
        path = self.path(grant.resource, grant.issuer)
        # mkstemp makes files of mode 0600.
        descriptor, draft = tempfile.mkstemp(dir=self.folder, prefix=".draft-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(grant), file)
            os.replace(draft, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
        return path

    def forget(self, grant: Grant) -> None:
        """Remove its file."""
        self.path(grant.resource, grant.issuer).unlink(missing_ok=True)

    def read(self, grant: Grant) -> Grant | None:
        """What is stored now for the same resource and issuer."""
        return _read(self.path(grant.resource, grant.issuer))

    def _grants(self) -> Iterator[Grant]:
        if self.folder.is_dir():
            _check_folder(self.folder)
        for path in sorted(self.folder.glob("*.json")):
            grant = _read(path)
            if grant is not None:
                yield grant


def _check_folder(folder: Path) -> None:
    """Others who may write there could put a login of theirs in place of one; those who may read it see who logs in where."""
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise LoginError(f"{folder} belongs to another user: remove it, and log in anew")
    if found.st_mode & 0o077:
        raise LoginError(f"others may look into {folder}: make it yours alone with chmod 700")


def _read(path: Path) -> Grant | None:
    try:
        if path.stat().st_mode & 0o077:
            raise LoginError(
                f"{path} can be read by others: make it yours alone with chmod 600, or remove it and log in anew"
            )
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Grant(**{**fields, "scopes": tuple(fields["scopes"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LoginError(f"{path} cannot be read as a login ({error}): remove it and log in anew") from error
