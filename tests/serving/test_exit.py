"""The last resort ends the process, whatever else is stuck."""

import subprocess
import sys

import pytest

from tests.rig.waiting import PATIENCE

pytestmark = pytest.mark.processes

STUCK_LOG = """
import logging, time
from trio_mcp.observability.logs import configure
from trio_mcp.serving.exit import no_longer_than

configure()
logging.getLogger().handlers[0].acquire()
with no_longer_than(0.1, 7, list):
    time.sleep(60)
"""


def test_a_log_that_nobody_takes_does_not_hold_up_the_last_resort() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK_LOG], timeout=PATIENCE, check=False)
    assert done.returncode == 7
