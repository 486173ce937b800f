"""Codes, statuses and what the errors say."""

from __future__ import annotations

import pytest

from trio_mcp.protocol import errors
from trio_mcp.protocol.errors import MissingClientCapability, ResourceNotFoundError, http_status

STATUSES = {
    # requirements §0: code → (HTTP status on sessions, on 2026-07-28)
    errors.PARSE_ERROR: (400, 400),
    errors.INVALID_REQUEST: (400, 400),
    errors.METHOD_NOT_FOUND: (200, 404),
    errors.INVALID_PARAMS: (200, 400),
    errors.INTERNAL_ERROR: (200, 200),
    errors.SESSION_NOT_FOUND: (404, 200),
    errors.RESOURCE_NOT_FOUND: (200, 200),
    errors.REQUEST_CANCELLED: (200, 200),
    errors.HEADER_MISMATCH: (200, 400),
    errors.MISSING_CLIENT_CAPABILITY: (200, 400),
    errors.UNSUPPORTED_VERSION: (200, 400),
    -1: (200, 200),
}


@pytest.mark.parametrize(("code", "legacy", "modern"), [(code, *both) for code, both in STATUSES.items()])
def test_a_code_has_its_status_in_each_era(code: int, legacy: int, modern: int) -> None:
    assert (http_status(code, modern=False), http_status(code, modern=True)) == (legacy, modern)


def test_every_code_is_in_the_table() -> None:
    ours = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert ours == STATUSES.keys() - {-1}


def test_a_missing_capability_tells_the_client_what_to_declare() -> None:
    fault = MissingClientCapability({"sampling": {"tools": {}}})
    assert fault.code == -32021
    assert fault.data == {"requiredCapabilities": {"sampling": {"tools": {}}}}
    assert "sampling" in str(fault)


def test_a_missing_resource_carries_its_uri() -> None:
    assert ResourceNotFoundError("file:///x").data == {"uri": "file:///x"}
