"""What of an `Authorization` header is a bearer token."""

from __future__ import annotations

import pytest

from trio_mcp.auth.bearer import MAX_TOKEN_BYTES, mask_credentials, read_bearer
from trio_mcp.auth.reasons import Refusal


@pytest.mark.requirement("auth-3")
@pytest.mark.parametrize(
    "value", ["Bearer abc.d-e_f", "bearer abc.d-e_f", "BEARER abc.d-e_f", "Bearer  abc.d-e_f", " Bearer abc.d-e_f\t"]
)
def test_the_scheme_has_any_case_and_any_spaces(value: str) -> None:
    assert read_bearer([value]) == "abc.d-e_f"


@pytest.mark.parametrize("token", ["a", "a==", "A1-._~+/", "x" * MAX_TOKEN_BYTES])
def test_a_token_is_what_rfc_6750_says(token: str) -> None:
    assert read_bearer([f"Bearer {token}"]) == token


@pytest.mark.requirement("auth-1", "auth-2", "auth-4", "auth-5")
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], Refusal.NO_TOKEN),
        ([""], Refusal.NO_TOKEN),
        (["  "], Refusal.NO_TOKEN),
        (["Bearer"], Refusal.NO_TOKEN),
        (["Bearer "], Refusal.NO_TOKEN),
        (["Basic YTpi"], Refusal.OTHER_SCHEME),
        (["DPoP abc"], Refusal.OTHER_SCHEME),
        (["Basic YTpi, Bearer abc"], Refusal.OTHER_SCHEME),
        (["Bearerabc"], Refusal.OTHER_SCHEME),
        (["Bearer a b"], Refusal.MALFORMED_HEADER),
        (["Bearer a,"], Refusal.MALFORMED_HEADER),
        (["Bearer a, Bearer a"], Refusal.MALFORMED_HEADER),
        (["Bearer ${TOKEN}"], Refusal.MALFORMED_HEADER),
        (["Bearer =a"], Refusal.MALFORMED_HEADER),
        (["Bearer a=b"], Refusal.MALFORMED_HEADER),
        (["Bearer t\u00f6ken"], Refusal.MALFORMED_HEADER),
        (["Bearer\tabc"], Refusal.MALFORMED_HEADER),
        (["Bearer a\x00b"], Refusal.MALFORMED_HEADER),
        (["Bearer a\n"], Refusal.MALFORMED_HEADER),
        (["Bearer, abc"], Refusal.MALFORMED_HEADER),
        (["Bearer a", "Bearer b"], Refusal.REPEATED_HEADER),
        (["Bearer a", "Bearer a"], Refusal.REPEATED_HEADER),
        (["Bearer " + "x" * (MAX_TOKEN_BYTES + 1)], Refusal.TOO_LONG),
    ],
)
def test_anything_else_is_refused_with_its_reason(values: list[str], reason: Refusal) -> None:
    assert read_bearer(values) is reason


@pytest.mark.requirement("auth-1", "auth-2", "auth-4", "auth-5", "auth-35")
@pytest.mark.parametrize(
    ("reason", "status", "error"),
    [
        (Refusal.NO_TOKEN, 401, ""),
        (Refusal.OTHER_SCHEME, 401, ""),
        (Refusal.MALFORMED_HEADER, 400, "invalid_request"),
        (Refusal.REPEATED_HEADER, 400, "invalid_request"),
        (Refusal.EXPIRED, 401, "invalid_token"),
        (Refusal.SCOPE, 403, "insufficient_scope"),
        (Refusal.FORBIDDEN, 403, ""),
    ],
)
def test_each_reason_has_its_status_and_error(reason: Refusal, status: int, error: str) -> None:
    assert (reason.status, reason.error) == (status, error)


def test_labels_and_descriptions_are_fit_for_metrics_and_headers() -> None:
    for reason in Refusal:
        assert reason.value.replace("_", "").isalpha()
        assert reason.description.isascii()
        assert not set('"\\') & set(reason.description)


@pytest.mark.parametrize(
    ("value", "masked"),
    [("Bearer abc", "Bearer ***"), ("Basic abc", "Basic ***"), ("abc", "***"), (" Bearer  a b", "Bearer ***")],
)
def test_credentials_are_masked(value: str, masked: str) -> None:
    assert mask_credentials(value) == masked
