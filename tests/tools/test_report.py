"""Generated parts of the documentation."""

from pathlib import Path

from tools.report import between, table


def test_a_table_is_markdown_with_padded_columns() -> None:
    assert table(["a", "b"], [["long", "x"]]) == "| a    | b |\n| ---- | - |\n| long | x |\n"


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- figures -->\nold\n<!-- /figures -->\n\nwords\n")
    between(page, "figures", "new")
    assert page.read_text() == "# Title\n\n<!-- figures -->\n\nnew\n\n<!-- /figures -->\n\nwords\n"


def test_a_page_without_markers_gets_them_at_its_end(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    between(page, "figures", "new")
    between(page, "figures", "newer")
    assert page.read_text() == "<!-- figures -->\n\nnewer\n\n<!-- /figures -->\n"
