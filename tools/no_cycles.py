"""An import-linter contract: no modules import each other in a circle, imports for type checkers alone included."""

from typing import cast

import grimp
from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["NoCycles", "cycles"]


class NoCycles(Contract):
    """Modules that import each other can only be understood, and changed, together.

    `allowed` lists what may: circles of nothing but these modules and what is below them. Other contracts of ours leave out imports
    under TYPE_CHECKING; this one builds a graph that has them.
    """

    package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Broken by each circle that has a module outside `allowed`."""
        # Without import-linter's cache: it does not tell graphs with these imports from graphs without.
        whole = grimp.build_graph(cast("str", self.package), exclude_type_checking_imports=False, cache_dir=None)
        allowed = tuple(f"{name}." for name in cast("list[str]", self.allowed))
        found = [circle for circle in cycles(whole) if not all(f"{module}.".startswith(allowed) for module in circle)]
        return ContractCheck(kept=not found, metadata={"circles": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each circle."""
        for circle in check.metadata["circles"]:
            output.print_error(f"import each other: {', '.join(circle)}", bold=True)


def cycles(graph: ImportGraph) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan's algorithm), each sorted."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported not in index:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in stack:
                lowest[module] = min(lowest[module], index[imported])
        if lowest[module] == index[module]:
            at = stack.index(module)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(graph.modules):
        if module not in index:
            visit(module)
    return found
