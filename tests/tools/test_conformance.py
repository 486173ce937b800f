"""A suite that passes because nothing ran, or because its warnings were not read, must fail here."""

from collections import Counter

import pytest

from tools.conformance import Outcome, Problem, Run, problems

SUITE = Run("--suite all X", ("--suite", "all"), scenarios=2)
REQUIREMENTS = Run("--requirements X", ("--requirements", "X"), scenarios=2)


def outcome(run: Run, *problems: Problem, exit_code: int = 0, scenarios: int = 2) -> Outcome:
    return Outcome(run, exit_code, scenarios, Counter(SUCCESS=1), list(problems))


def test_a_clean_run_passes() -> None:
    assert outcome(SUITE).faults == []


@pytest.mark.parametrize("status", ["FAILURE", "WARNING"])
@pytest.mark.parametrize("run", [SUITE, REQUIREMENTS])
def test_a_failure_or_a_warning_is_a_fault(run: Run, status: str) -> None:
    assert outcome(run, Problem("ping", "ping", status, "no answer")).faults == [f"{status} ping: ping: no answer"]


def test_a_run_that_visits_fewer_scenarios_is_a_fault() -> None:
    assert outcome(SUITE, scenarios=1).faults == ["1 scenarios ran, not 2"]


def test_the_exit_code_of_the_suite_counts() -> None:
    assert outcome(SUITE, exit_code=1).faults == ["the suite exited with 1"]


def test_a_scenario_in_which_nothing_applied_is_a_problem() -> None:
    remarks = [{"id": "content-type", "status": "INFO"}, {"id": "resume", "status": "SKIPPED"}]
    assert list(problems("sse-polling", remarks)) == [
        Problem("sse-polling", "every check", "UNTESTED", "nothing applied")
    ]


def test_what_the_suite_skips_for_every_server_is_none() -> None:
    skipped, failed = {"id": "x", "status": "SKIPPED"}, {"id": "x", "status": "FAILURE", "description": "no"}
    assert list(problems("tasks-status-notifications", [skipped])) == []
    assert [problem.status for problem in problems("tasks-status-notifications", [failed])] == ["FAILURE"]


def test_one_success_is_enough_to_have_tested_a_scenario() -> None:
    assert list(problems("ping", [{"id": "ping", "status": "SUCCESS"}, {"id": "ping", "status": "INFO"}])) == []
