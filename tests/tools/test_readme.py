"""The README's generated parts say what the pages and the settings say."""

import shutil
from pathlib import Path

from tools.readme import CLIENTS, CONFORMANCE, README, fill, records, results

PAGE = """# Conformance

`make conformance` on 2026-01-02: the suite.

| front     | run | passed | failed | warned | verdict   |
| --------- | --- | ------ | ------ | ------ | --------- |
| own       | one | 3      | 0      | 0      | passes    |
| own       | two | 4      | 1      | 2      | **fails** |
| hypercorn | one | 3      | 0      | 0      | passes    |

One is skipped.
"""


def test_the_readme_is_as_its_sources_have_it(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    shutil.copy(README, copy)
    fill(copy)
    assert copy.read_text() == README.read_text(), "run: make readme"


def test_results_have_a_line_for_each_run_and_hide_no_failure() -> None:
    text = results(PAGE, "# Clients\n\nall of them\n")
    assert text.startswith("`make conformance` on 2026-01-02: the suite.\n\n| run ")
    assert text.endswith("|\n\nOne is skipped.\n\nall of them")
    assert records([line for line in text.splitlines() if line.startswith("|")]) == [
        {"run": "`one`", "our listener": "3 passed", "Hypercorn": "3 passed"},
        {"run": "`two`", "our listener": "**4 passed; 1 failed; 2 warned**", "Hypercorn": "-"},
    ]


def test_records_are_keyed_by_the_table_s_head() -> None:
    assert records(["| a | b |", "| - | - |", "| 1 | two words |"]) == [{"a": "1", "b": "two words"}]


def test_both_pages_are_there_with_their_dates() -> None:
    text = results(CONFORMANCE.read_text(), CLIENTS.read_text())
    assert text.count("`make conformance` on 20") == 1
    assert text.count("`make clients` on 20") == 1
