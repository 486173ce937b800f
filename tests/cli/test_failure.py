import pytest

from trio_mcp.cli import execute, failure
from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.refusals import AuthorizationRequired, HttpRefused
from trio_mcp.http_client import CannotConnect, HttpClientError, InvalidUrl
from trio_mcp.serving.settings import SettingsError

Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (HttpClientError("cannot reach it"), 1, "trio-mcp: cannot reach it\n"),
        (UsageError("say it again"), 2, "trio-mcp: say it again\n"),
        (SettingsError("port: no"), 2, "trio-mcp: port: no\n"),
        (AuthorizationRequired(401, "no"), 3, "trio-mcp: the server answered 401: no. Get a token with `trio-mcp login URL`, or send one with --bearer @file\n"),
        (AuthorizationRequired(403, "no", ("a", "b")), 3, "trio-mcp: the server answered 403: no. Get a token with `trio-mcp login URL --scope 'a b'`, or send one with --bearer @file\n"),
        (AuthorizationRequired(401, "", login_offered=False), 3, "trio-mcp: the server wants a token. Send a token with --bearer @file\n"),
        (HttpRefused(503, "x", ". Try again in 5 s"), 1, "trio-mcp: the server answered 503: x. Try again in 5 s\n"),
        (InvalidUrl("no URL"), 2, "trio-mcp: no URL\n"),
        (CannotConnect("cannot reach it", ". Does it run?"), 1, "trio-mcp: cannot reach it. Does it run?\n"),
        (ExceptionGroup("g", [ExceptionGroup("h", [HttpClientError("a")]), UsageError("b")]), 2, "trio-mcp: a\ntrio-mcp: b\n"),
        (HttpClientError("it said \x1b[31m\u009b and\nthat"), 1, "trio-mcp: it said \\x1b[31m\\x9b and\nthat\n"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130, ""),
    ],
)  # fmt: skip
def test_an_expected_error_is_its_words_and_a_code(capsys: Printed, error: BaseException, code: int, line: str) -> None:
    assert failure.report(error) == code
    assert capsys.readouterr().err == line


def test_the_login_that_is_offered_is_for_the_url_of_the_request(capsys: Printed) -> None:
    error = AuthorizationRequired(401, "")
    error.url = "http://a/mcp?b&c"
    assert failure.report(error) == 3
    assert "trio-mcp login 'http://a/mcp?b&c'`" in capsys.readouterr().err


def test_an_unexpected_error_is_told_by_its_leaf_first_then_one_traceback(capsys: Printed) -> None:
    assert failure.report(ExceptionGroup("unhandled errors in a nursery", [ValueError("boom")])) == 1
    err = capsys.readouterr().err
    assert err.startswith("trio-mcp: ValueError: boom\n")
    assert err.count("Exception Group") + err.count("Traceback (most recent call last)") <= 1


def test_the_tree_is_shown_when_asked_for(capsys: Printed) -> None:
    assert execute(["list", "no-such-file.py"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert execute(["list", "no-such-file.py", "--traceback"]) == 1
    assert "Traceback" in capsys.readouterr().err
