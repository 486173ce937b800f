"""What a modern request must carry in `_meta`."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp.protocol.envelope import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LEVELS,
    Envelope,
    at_least,
    read_envelope,
    require_served,
)
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.errors import UNSUPPORTED_VERSION, InvalidParams, RemoteProtocolError
from trio_mcp.protocol.versions import LEGACY_VERSIONS, MODERN_VERSIONS, SERVED_VERSIONS


def params(**changes: Any) -> dict[str, Any]:
    meta = {
        PROTOCOL_VERSION_KEY: "2026-07-28",
        CLIENT_CAPABILITIES_KEY: {"roots": {}},
        CLIENT_INFO_KEY: {"name": "c", "version": "1"},
    }
    return {"_meta": {**meta, **{f"io.modelcontextprotocol/{name}": value for name, value in changes.items()}}}


def test_a_complete_envelope_is_read() -> None:
    assert read_envelope(params(logLevel="error")) == Envelope(
        "2026-07-28", {"roots": {}}, {"name": "c", "version": "1"}, "error"
    )


@pytest.mark.parametrize("given", [{}, {"_meta": None}, {"_meta": []}, {"_meta": "text"}])
def test_no_meta_object_is_invalid_params(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams, match="_meta is missing"):
        read_envelope(given)


@pytest.mark.parametrize(
    ("member", "value"),
    [("protocolVersion", None), ("protocolVersion", 1), ("clientCapabilities", None), ("clientCapabilities", [])],
)
def test_a_required_member_of_the_wrong_type_is_named(member: str, value: object) -> None:
    with pytest.raises(InvalidParams, match=member):
        read_envelope(params(**{member: value}))


@pytest.mark.parametrize("key", [PROTOCOL_VERSION_KEY, CLIENT_CAPABILITIES_KEY])
def test_a_missing_required_member_is_named(key: str) -> None:
    given = params()
    del given["_meta"][key]
    with pytest.raises(InvalidParams, match=key):
        read_envelope(given)


@pytest.mark.parametrize("info", [None, "curl", 1, []])
def test_client_info_is_optional_and_never_a_reason_to_refuse(info: object) -> None:
    assert read_envelope(params(clientInfo=info)).client_info == {}


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_a_threshold(level: str) -> None:
    assert read_envelope(params(logLevel=level)).log_level == level


@pytest.mark.parametrize("level", ["", "INFO", "trace", 1, [], {}])
def test_an_unrecognised_log_level_is_invalid_params(level: object) -> None:
    with pytest.raises(InvalidParams, match="logLevel"):
        read_envelope(params(logLevel=level))


def test_no_log_level_means_no_log_messages() -> None:
    assert read_envelope(params()).log_level is None


@pytest.mark.parametrize("version", MODERN_VERSIONS)
def test_a_modern_version_we_serve_passes(version: str) -> None:
    require_served(version)


@pytest.mark.parametrize("version", [*LEGACY_VERSIONS, "2026-07-29", "", "x" * 10_000])
def test_any_other_version_is_refused_with_the_list_of_those_we_serve(version: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        require_served(version)
    assert refused.value.code == UNSUPPORTED_VERSION
    assert refused.value.data == {"supported": list(SERVED_VERSIONS), "requested": version}
    assert len(refused.value.message) < 200


def test_levels_grow_from_debug_to_emergency() -> None:
    ranked = [[at_least(level, threshold) for threshold in LEVELS] for level in LEVELS]
    assert ranked == [[level >= threshold for threshold in range(8)] for level in range(8)]
