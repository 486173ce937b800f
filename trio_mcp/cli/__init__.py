"""The `trio-mcp` command: argv in, exit code out.

0 success · 1 failure · 2 wrong flags, arguments or settings · 3 the server requires authorization · 130 Ctrl+C
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["execute", "main"]


def main() -> None:
    """Run the command line and exit."""
    from trio_mcp.serving.standard_streams import open_missing_streams

    open_missing_streams()
    sys.exit(execute(sys.argv[1:]))


def execute(argv: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    from trio_mcp.cli.app import app, import_commands
    from trio_mcp.cli.failure import report

    words = [word for word in argv if word != "--traceback"]
    try:
        if words in ([], ["--help"], ["-h"]):
            import_commands()
        code = int(app(words, result_action="return_value") or 0)
        print(end="", flush=True)
        return code
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            # Rich raises it when the reader of stdout is gone.
            return 0
        return ended.code if isinstance(ended.code, int) else 1
    # The boundary: whatever a command raises becomes a message and an exit code here.
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        return report(error, tree=len(words) < len(argv))
