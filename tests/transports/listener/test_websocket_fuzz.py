"""Some hundred of the cases of `tests.transports.listener.websocket_fuzz`, which runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.transports.listener.websocket_fuzz import fuzz


@pytest.mark.requirement("ws-41")
def test_made_up_frames_end_in_a_close_frame_or_a_reset() -> None:
    fuzz(300)
