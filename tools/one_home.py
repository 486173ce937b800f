"""An import-linter contract: each of some libraries is imported by one module at most, whichever it is."""

from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["OneHome"]


class OneHome(Contract):
    """A library with one home can be replaced by changing one file."""

    libraries = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Broken when two modules or more import the same library directly."""
        homes = {library: _importers(graph, library) for library in cast("list[str]", self.libraries)}
        crowded = {library: sorted(modules) for library, modules in homes.items() if len(modules) > 1}
        return ContractCheck(kept=not crowded, metadata={"crowded": crowded})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each library, naming the modules that import it."""
        for library, modules in check.metadata["crowded"].items():
            output.print_error(f"{library} is imported by {', '.join(modules)}; choose one.", bold=True)


def _importers(graph: ImportGraph, library: str) -> set[str]:
    """Only direct imports: going through the one home is what the rule is for."""
    return set(graph.find_modules_that_directly_import(library)) if library in graph.modules else set()
