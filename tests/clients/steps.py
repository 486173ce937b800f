"""What a client could do, as one JSON line: `{step: "ok" or why not}`. Runs in any environment that has anyio."""

import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio

__all__ = ["Steps", "text_of"]

STEP_SECONDS = 90.0
CONVERSATION_SECONDS = 240.0


class Steps:
    """Collects the verdicts; a step that fails or hangs does not keep the next from running."""

    def __init__(self) -> None:
        self.verdicts: dict[str, str] = {}

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """The block's exception, or its being late, becomes the verdict."""
        self.verdicts[name] = f"not done within {STEP_SECONDS:.0f} s"
        with anyio.move_on_after(STEP_SECONDS):  # noqa: ASYNC100 the block awaits
            try:
                yield
            except Exception as error:  # the boundary: whatever a client raises is its verdict
                self.verdicts[name] = f"{type(error).__name__}: {error}"
            else:
                self.verdicts[name] = "ok"

    @asynccontextmanager
    async def conversation(self) -> AsyncIterator[None]:
        """Around opening and closing the client; what they raise fails `connect` or `close`."""
        try:
            with anyio.fail_after(CONVERSATION_SECONDS):  # noqa: ASYNC100 the block awaits
                yield
        except Exception as error:  # the same boundary, between the steps
            self.verdicts["close" if "connect" in self.verdicts else "connect"] = f"{type(error).__name__}: {error}"

    def took(self, what: str, began: float, most: float) -> None:
        """Fail the step unless less than `most` seconds have passed since `began` (monotonic clock); stderr has the time."""
        seconds = time.monotonic() - began
        print(f"{what} {seconds:.2f}", file=sys.stderr)
        assert seconds < most, f"it took {seconds:.2f} s"

    def print(self) -> None:
        print(json.dumps(self.verdicts), flush=True)


def text_of(blocks: Iterable[object]) -> str:
    """The text of a result's content."""
    return "".join(str(getattr(block, "text", "")) for block in blocks)
