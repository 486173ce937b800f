"""The import contract of ours: a library has one home."""

from grimp import ImportGraph

from tools.one_home import OneHome


def kept(*importers: str, **options: object) -> bool:
    graph = ImportGraph()
    for importer in importers:
        graph.add_import(importer=importer, imported="hypercorn", line_number=1, line_contents="import hypercorn")
    contract = OneHome("one home", session_options={}, contract_options={"libraries": ["hypercorn"], **options})
    return contract.check(graph, verbose=False).kept


def test_a_library_nobody_imports_is_no_fault() -> None:
    assert kept()


def test_one_module_may_import_a_library() -> None:
    assert kept("trio_mcp.front")


def test_two_modules_may_not_import_the_same_library() -> None:
    assert not kept("trio_mcp.front", "trio_mcp.cli.serve")


def test_as_many_may_as_the_contract_says() -> None:
    assert kept("trio_mcp.front", "trio_mcp.cli.serve", homes=2)
    assert not kept("trio_mcp.front", "trio_mcp.cli.serve", "trio_mcp.back", homes=2)


def test_the_home_may_have_to_be_in_a_package() -> None:
    assert kept("trio_mcp.front.bytes", within="trio_mcp.front")
    assert not kept("trio_mcp.frontage", within="trio_mcp.front")
