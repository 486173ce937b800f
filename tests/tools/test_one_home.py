"""The import contract of ours: a library has one home."""

from grimp import ImportGraph

from tools.one_home import OneHome


def kept(*importers: str) -> bool:
    graph = ImportGraph()
    for importer in importers:
        graph.add_import(importer=importer, imported="hypercorn", line_number=1, line_contents="import hypercorn")
    contract = OneHome("one home", session_options={}, contract_options={"libraries": ["hypercorn"]})
    return contract.check(graph, verbose=False).kept


def test_a_library_nobody_imports_is_no_fault() -> None:
    assert kept()


def test_one_module_may_import_a_library() -> None:
    assert kept("trio_mcp.front")


def test_two_modules_may_not_import_the_same_library() -> None:
    assert not kept("trio_mcp.front", "trio_mcp.cli.serve")
