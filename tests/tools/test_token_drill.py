"""What the drill with tokens calls a violation, and where it looks for tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.auth.issuer import token
from tests.rig.leaks import claim_values, found_in, parts
from tests.rig.load import Call, Opening, Stream
from tools.token_drill import Seen, kind, violations

GOOD = Call(0, "0-0", True, "node1", 10.0, 10.3, 200, "node1", "", 0, "", "")
GONE = replace(GOOD, status=0, error="0 Broken: while sending")
OPENED = Opening(0, 1.0, 1.1, 200, "node1", "", False)
STREAM = Stream(0, "node1", False, 1.0, status=200)
AT = [(10.1, 12.0)]


def seen(*calls: Call, **changes: object) -> Seen:
    given: dict[str, object] = {"openings": [OPENED], "streams": [STREAM], "killed": AT, **changes}
    return Seen(calls, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "without"),
    [
        (seen(GOOD), seen(GOOD)),
        (seen(GOOD, GONE), seen(GONE)),
        (seen(GOOD, GONE, GONE), seen(GONE, GOOD)),
        (seen(replace(GONE, started=13.0, ended=13.1)), seen(GONE)),
    ],
    ids=["nothing", "as without", "more often, by chance", "soon after"],
)
def test_what_calls_without_tokens_meet_too_is_none(tokens: Seen, without: Seen) -> None:
    assert violations(tokens, without) == []


@pytest.mark.parametrize(
    ("tokens", "begins"),
    [
        (seen(replace(GONE, started=30.0, ended=30.1)), "failed for no fault"),
        (seen(replace(GONE, status=401, error="401 -32600 The token has expired")), "failed as no call without"),
        (seen(replace(GONE, status=503, error="503", reason="cannot_authenticate")), "failed as no call without"),
        (seen(openings=[OPENED, replace(OPENED, again=True)]), "session opened anew"),
        (seen(openings=[replace(OPENED, error="401")]), "session not opened"),
        (seen(streams=[Stream(0, "node1", True, 1.0, status=401)]), "stream refused"),
        (seen(twice=["0-0"]), "call 0-0 ran twice"),
        (seen(errors=["error in a log"]), "error in a log"),
        (seen(leaks=["Redis has"]), "Redis has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_only_tokens_bring_is_one(tokens: Seen, begins: str) -> None:
    (found,) = violations(tokens, seen(GONE))
    assert found.startswith(begins)


def test_failures_are_alike_whatever_the_text_says_of_the_call() -> None:
    assert kind(replace(GONE, status=404, reason="node_gone", error="404 -32600 x")) == "404 node_gone"
    first, other = (replace(GONE, error=f"502 Bad gateway (ref {ref})") for ref in "ab")
    assert kind(first) == kind(other) == "502 Bad gateway"


def test_a_token_is_found_by_its_payload_or_signature_and_by_its_claims() -> None:
    sent = token(sub="person-1234", email="ann@example.com", scope="mcp:read", jti="short")
    _, payload, signature = sent.split(".")
    secrets = {*parts(sent), *claim_values([sent])}
    assert secrets == {sent, payload, signature, "person-1234", "ann@example.com", "mcp:read"}
    for secret in secrets - {sent}:
        (line,) = found_in({"a log": ["clean", f"before {secret} after"]}, secrets)
        assert line.startswith("a log has ")
    assert found_in({"a log": ["clean"]}, secrets) == []


def test_an_opaque_token_is_looked_for_as_a_whole() -> None:
    assert (parts("opaque"), claim_values(["opaque"])) == (("opaque",), set())
