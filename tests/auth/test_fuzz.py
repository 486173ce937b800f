"""Some thousand of the cases of `tests.auth.fuzz`; `python -m tests.auth.fuzz` runs a hundred thousand."""

from __future__ import annotations

import pytest

from tests.auth.fuzz import Fuzz

OUTCOMES = {
    "allowed",
    "algorithm",
    "audience",
    "claims",
    "issuer",
    "malformed_header",
    "malformed_token",
    "repeated_header",
    "signature",
    "token_type",
    "unknown_key",
    "unsupported_token",
    "introspection: active",
    "introspection: inactive",
    "key set",
    "metadata",
    "no introspection",
    "no key set",
    "no metadata",
}
"""All of them must come up: otherwise the cases miss what they are for. Left out is what one case in a thousand is."""


@pytest.mark.parametrize("seed", [1, 2])
async def test_made_up_cases_are_accepted_by_right_or_refused(
    seed: int, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    fuzz = Fuzz(seed)
    await fuzz.cases(3000)
    assert fuzz.counts.total() == 3000
    assert set(fuzz.counts) >= OUTCOMES
    assert not [record for record in caplog.records if record.exc_info]
