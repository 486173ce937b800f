"""The keys of an issuer, fetched by one task: requests never fetch, and most never wait.

request ── find(kid) ──▶ known ─────────────────────────────▶ the key
             └─ unknown ─▶ RefreshPlan.ask ─┬─ pause ───────▶ what the last fetch said
                                            └─ wanted.set() ─▶ run(): discover, fetch, parse ─▶ round.set()
"""

from __future__ import annotations

import logging
from typing import Protocol

import trio

from trio_mcp.auth.discovery import discover
from trio_mcp.auth.errors import AuthConfigurationError, FetchError
from trio_mcp.auth.fetching import Fetch, fetch_within
from trio_mcp.auth.key_refresh import Ask, RefreshPlan, refresh_interval
from trio_mcp.auth.keys import KeyMiss, KeySet, read_key_set
from trio_mcp.auth.principal import CannotTell
from trio_mcp.auth.resource import check_url
from trio_mcp.auth.signatures import KeyUnusable, VerificationKey
from trio_mcp.observability.logs import event

__all__ = ["FixedKeys", "KeySource", "RemoteKeys"]

logger: logging.Logger = logging.getLogger("trio_mcp.auth")

WAIT_SECONDS = 5.0
"""How long a request waits for a fetch that may bring the key of its token."""


class KeySource(Protocol):
    """Where a verifier gets its keys."""

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | KeyMiss:
        """The key for a token. Raises CannotTell when that cannot be known now."""

    def holds(self, key: VerificationKey) -> bool:
        """Whether a key found before is still one of the issuer's. Raises CannotTell when that cannot be known now."""


class FixedKeys:
    """Keys from the configuration. The `kid` of a token is not looked at, for PEM files have none.

    Raises KeyUnusable for two that fit the same algorithm.
    """

    def __init__(self, *keys: VerificationKey) -> None:
        if len({key.family for key in keys}) < len(keys):
            raise KeyUnusable(
                "two keys fit the same algorithm, and tokens do not say which is meant: publish a key set"
            )
        self._keys = KeySet(keys)

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | KeyMiss:
        """The one key that fits the algorithm."""
        found = self._keys.choose(None, algorithm)
        return KeyMiss.ALGORITHM if found is KeyMiss.UNKNOWN else found

    def holds(self, key: VerificationKey) -> bool:
        """Always: these keys do not change."""
        return key in self._keys.keys


class RemoteKeys:
    """The keys of one issuer. `run` must be running for as long as keys are asked for.

    Args:
        fetch: Sends the HTTP requests.
        issuer: Whose metadata says where the keys are, when `jwks_uri` does not.
        jwks_uri: Where the keys are.
    """

    def __init__(self, fetch: Fetch, *, issuer: str, jwks_uri: str | None = None) -> None:
        self._fetch = fetch
        self._issuer = issuer
        self._configured_uri = None if jwks_uri is None else check_url(jwks_uri, "jwks_uri")
        self._found_uri: str | None = None
        self._keys = KeySet(())
        self._wanted = trio.Event()
        self._round = trio.Event()
        self._first_keys = trio.Event()
        self._last_warning = ""
        self.issuer_document: bytes | None = None
        """The metadata of the issuer as it was last fetched; None where the address of the keys is configured."""
        self.plan: RefreshPlan = RefreshPlan()
        """What happened to the fetches so far."""

    @property
    def loaded(self) -> bool:
        """Whether there were keys at any time. An issuer that is away later does not make a node unready."""
        return self._first_keys.is_set()

    async def wait_loaded(self) -> None:
        """Wait until `loaded`."""
        await self._first_keys.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch the keys now and from time to time; `started` after the first attempt, whether it worked or not.

        Raises AuthConfigurationError from the first attempt alone: a node that serves does not end because its issuer
        publishes something wrong.
        """
        await self._refresh(first=True)
        task_status.started()
        while True:
            with trio.move_on_after(self.plan.delay):
                await self._wanted.wait()
            await self._refresh()

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey | KeyMiss:
        """The key for a token; of an unknown one, after one fetch that all requests share.

        Raises CannotTell when there are no keys that can be trusted, or the fetch did not work within 5 s.
        """
        self._check_fresh()
        found = self._keys.choose(kid, algorithm)
        if found is not KeyMiss.UNKNOWN:
            return found
        if await self._outcome_of_asking() is Ask.CANNOT_TELL:
            raise CannotTell(f"the keys of {self._issuer} cannot be fetched")
        return self._keys.choose(kid, algorithm)

    def holds(self, key: VerificationKey) -> bool:
        """Whether the key is in the set that was fetched last. Raises CannotTell when that one is too old."""
        self._check_fresh()
        return key in self._keys.keys

    def _check_fresh(self) -> None:
        if self.plan.is_stale(trio.current_time()):
            raise CannotTell(f"there are no keys of {self._issuer} yet, or they are too old to be trusted")

    async def _outcome_of_asking(self) -> Ask:
        decision = self.plan.ask(trio.current_time())
        if decision is not Ask.WAIT:
            return decision
        self._wanted.set()
        # The request waits for an event and does not fetch: when its client leaves, the fetch for the others goes on.
        with trio.move_on_after(WAIT_SECONDS):
            await self._round.wait()
            return self.plan.outcome
        return Ask.CANNOT_TELL

    async def _refresh(self, *, first: bool = False) -> None:
        self.plan.began()
        interval = None
        try:
            interval = await self._fetch_keys()
        except FetchError as error:
            self._warn_once(f"{error}")
        except AuthConfigurationError as error:
            if first:
                raise
            self._warn_once(f"{error}")
        finally:
            self.plan.ended(trio.current_time(), asked=self._wanted.is_set(), interval=interval)
            self._wanted = trio.Event()
            self._round.set()
            self._round = trio.Event()

    async def _fetch_keys(self) -> float:
        url = self._configured_uri or await self._discovered_uri()
        response = await fetch_within(self._fetch, "GET", url, [("Accept", "application/json")])
        if response.status != 200:
            # The issuer may have moved its keys: its metadata is read again before the next attempt.
            self._found_uri = None
            raise FetchError(f"{url} answered {response.status}")
        self._take(read_key_set(response.body))
        return refresh_interval(response.headers.get("cache-control", ""))

    async def _discovered_uri(self) -> str:
        if self._found_uri is None:
            metadata = await discover(self._fetch, self._issuer)
            self._found_uri, self.issuer_document = metadata.jwks_uri, metadata.document
        return self._found_uri

    def _take(self, keys: KeySet) -> None:
        self._keys = keys
        self._first_keys.set()
        if keys.complaints:
            self._warn_once("; ".join(keys.complaints[:5]), event_name="some keys of the issuer cannot be used")
        elif self._last_warning:
            event(logger, logging.INFO, "the keys of the issuer are good again", issuer=self._issuer)
            self._last_warning = ""

    def _warn_once(self, text: str, *, event_name: str = "the keys of the issuer cannot be fetched") -> None:
        # Every attempt meets the same fault again.
        if text != self._last_warning:
            self._last_warning = text
            event(logger, logging.WARNING, event_name, issuer=self._issuer, why=text[:512])
