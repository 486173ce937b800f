"""Which era a message belongs to: every combination of body, version header and session id."""

from __future__ import annotations

import pytest

from trio_mcp.protocol.era import (
    PROTOCOL_VERSION_KEY,
    InSession,
    Modern,
    Opening,
    Sessionless,
    names_modern,
    route,
)
from trio_mcp.protocol.jsonrpc import Notification, Reply, Request
from trio_mcp.protocol.versions import LEGACY_VERSIONS, MODERN_VERSIONS, V2024_11_05

MODERN_PARAMS = {"_meta": {PROTOCOL_VERSION_KEY: "2026-07-28"}}
HEADERS = [None, "2025-11-25", "2026-07-28", "2099-01-01", "nonsense", ""]
SESSIONS = [None, "node.id"]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("method", ["tools/call", "initialize", "server/discover"])
def test_a_body_with_a_modern_meta_is_modern_whatever_the_headers_say(
    header: str | None, session: str | None, method: str
) -> None:
    request = Request(1, method, MODERN_PARAMS)
    assert route(request, version_header=header, session_id=session) == Modern(request)


@pytest.mark.parametrize("version", [None, 1, "", "2025-11-25"])
def test_the_version_key_counts_whatever_its_value(version: object) -> None:
    request = Request(1, "tools/call", {"_meta": {PROTOCOL_VERSION_KEY: version}})
    assert isinstance(route(request, version_header=None, session_id=None), Modern)


def test_a_notification_with_a_modern_meta_is_modern() -> None:
    notification = Notification("notifications/cancelled", MODERN_PARAMS)
    assert route(notification, version_header=None, session_id="node.id") == Modern(notification)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("session", SESSIONS)
def test_initialize_asks_for_a_session_even_with_a_stale_id_or_an_odd_header(
    header: str | None, session: str | None
) -> None:
    request = Request(1, "initialize", {})
    assert route(request, version_header=header, session_id=session) == Opening(request)


LEGACY_MESSAGES = [
    Request(1, "tools/list", {}),
    Request(1, "tools/list", {"_meta": "not an object"}),
    Request(1, "tools/list", {"_meta": {"progressToken": 1}}),
    Notification("notifications/initialized", {}),
    Reply(1, {"_meta": {PROTOCOL_VERSION_KEY: "2026-07-28"}}, None),
]


@pytest.mark.parametrize("message", LEGACY_MESSAGES)
@pytest.mark.parametrize("header", HEADERS)
def test_without_a_modern_meta_a_session_id_decides(
    message: Request | Notification | Reply, header: str | None
) -> None:
    assert route(message, version_header=header, session_id="node.id") == InSession("node.id", message)


@pytest.mark.parametrize("message", LEGACY_MESSAGES)
@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (None, Sessionless),
        ("2025-03-26", Sessionless),
        ("2024-11-05", Sessionless),
        ("2026-07-28", Modern),
        ("2026-07-29", Modern),
        ("nonsense", Modern),
        ("", Modern),
    ],
)
def test_without_meta_and_session_the_header_decides(
    message: Request | Notification | Reply, header: str | None, kind: type[Modern | Sessionless]
) -> None:
    assert route(message, version_header=header, session_id=None) == kind(message)


@pytest.mark.parametrize("header", HEADERS)
def test_a_batch_is_legacy_always(header: str | None) -> None:
    batch = [Request(1, "tools/list", MODERN_PARAMS)]
    assert route(batch, version_header=header, session_id="node.id") == InSession("node.id", batch)  # type: ignore[arg-type]
    assert route(batch, version_header=header, session_id=None) == Sessionless(batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [*MODERN_VERSIONS, "2027-01-01", "2026-7-28", "DRAFT", "2026-07-28 "])
def test_modern_is_a_date_from_2026_07_28_on_or_no_date_at_all(version: str) -> None:
    assert names_modern(version)


@pytest.mark.parametrize("version", [*LEGACY_VERSIONS, V2024_11_05, "2026-07-27"])
def test_dates_before_it_are_legacy(version: str) -> None:
    assert not names_modern(version)
