"""A client that reports too little must not pass for one that could do everything."""

from subprocess import CompletedProcess

from tools.clients import ClientUnderTest, complete
from tools.task_clients import TASK_CLIENTS, Waited, task_document

CLIENT = ClientUnderTest("a client", "a.py", "legacy", ("connect", "call"))


def test_every_step_must_be_reported() -> None:
    done = CompletedProcess([], 1, stdout='warning\n{"connect": "ok"}\n', stderr="crashed")
    assert complete(CLIENT, done) == {"connect": "ok", "call": "not reached (exit 1) crashed"}


def test_a_client_that_prints_no_verdicts_reached_nothing() -> None:
    done = CompletedProcess([], 0, stdout="hello\n", stderr="")
    assert complete(CLIENT, done) == dict.fromkeys(CLIENT.steps, "not reached (exit 0)")


def test_the_table_of_tasks_says_what_failed_and_how_long_users_wait() -> None:
    first, second = TASK_CLIENTS
    text = task_document(
        {
            first: Waited({**dict.fromkeys(first.steps, "ok"), "failure": "AssertionError"}, {"task": 2.12}),
            second: Waited(dict.fromkeys(second.steps, "ok"), {}),
        }
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == [first.name, "ok", "ok", "ok, 2.1 s", "ok", "**no**", "ok"]
    assert rows[3] == [second.name, "ok", "ok", "ok", "ok", "ok", "-"]
