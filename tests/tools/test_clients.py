"""A client that reports too little must not pass for one that could do everything."""

from subprocess import CompletedProcess

from tools.clients import ClientUnderTest, complete

CLIENT = ClientUnderTest("a client", "a.py", "legacy", ("connect", "call"))


def test_every_step_must_be_reported() -> None:
    done = CompletedProcess([], 1, stdout='warning\n{"connect": "ok"}\n', stderr="crashed")
    assert complete(CLIENT, done) == {"connect": "ok", "call": "not reached (exit 1) crashed"}


def test_a_client_that_prints_no_verdicts_reached_nothing() -> None:
    done = CompletedProcess([], 0, stdout="hello\n", stderr="")
    assert complete(CLIENT, done) == dict.fromkeys(CLIENT.steps, "not reached (exit 0)")
