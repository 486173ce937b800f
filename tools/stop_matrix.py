"""`python -m tools.stop_matrix`: the stop matrix over WebSockets. Each blocker, each way to stop, on both fronts; exits 1 where a process does
not end as it should, or does not name what blocked it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import trio

from tests.serving.test_stop_matrix import WEBSOCKET_CELLS, failing


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        wrong = trio.run(failing, WEBSOCKET_CELLS, Path(folder))
    print("\n\n".join(wrong))
    print(f"{len(WEBSOCKET_CELLS)} cells, {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
