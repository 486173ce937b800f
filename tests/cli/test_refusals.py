"""What the command line says of an answer that is no result."""

from __future__ import annotations

import pytest

from trio_mcp.cli.refusals import AuthorizationRequired, HttpRefused, Refused, refusal
from trio_mcp.http_client import Head

NGINX = b"""<html>\r
<head><title>502 Bad Gateway</title></head>\r
<body>\r
<center><h1>502 Bad Gateway</h1></center>\r
</body>\r
</html>\r
"""
ERROR = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"full"}}'
WRONG_PATH = ". Is the path right? An MCP endpoint is usually at /mcp"


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "text", "step"),
    [
        (502, {}, NGINX, HttpRefused, "the server answered 502: 502 Bad Gateway", ""),
        (500, {}, b"<p>Some\n <b>text</b></p>", HttpRefused, "the server answered 500: Some text", ""),
        (500, {}, b"several\nlines", HttpRefused, "the server answered 500: several lines", ""),
        (500, {}, b"", HttpRefused, "the server answered 500", ""),
        (200, {}, b"hello", HttpRefused, "the server answered 200 with something that is not MCP: hello", WRONG_PATH),
        (404, {}, b"not found", HttpRefused, "the server answered 404: not found", WRONG_PATH),
        (405, {}, b"", HttpRefused, "the server answered 405", WRONG_PATH),
        (301, {"location": "https://a/mcp"}, b"", HttpRefused, "the server answered 301: it is at https://a/mcp", ". Call it there, if you trust that"),
        (503, {"retry-after": "5"}, b"busy", HttpRefused, "the server answered 503: busy", ". Try again in 5 s"),
        (503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"", HttpRefused, "the server answered 503", ". Try again after Fri, 31 Dec 1999 23:59:59 GMT"),
        (503, {"retry-after": "5"}, ERROR, Refused, "full (-32000)", ". Try again in 5 s"),
        (400, {}, ERROR, Refused, "full (-32000)", ""),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_result_is_told_on_one_line_with_what_to_do(
    status: int, headers: dict[str, str], body: bytes, kind: type[HttpRefused], text: str, step: str
) -> None:
    error = refusal(Head(status, headers), body)
    assert type(error) is kind
    assert (str(error), error.next_step) == (text, step)


def test_the_words_of_a_401_are_on_one_line() -> None:
    error = refusal(Head(401, {}), b"<title>who\nare you</title>")
    assert isinstance(error, AuthorizationRequired)
    assert str(error) == "the server answered 401: who are you"


def test_of_a_long_answer_only_its_beginning_is_quoted() -> None:
    assert len(str(refusal(Head(500, {}), b"x" * 100_000))) < 400
