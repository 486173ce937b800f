"""The units for systemd: as systemd itself reads them, and as the times of a stop need them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trio_mcp.serving.settings import load
from trio_mcp.serving.workers.supervisor import EXTRA_SECONDS
from trio_mcp.sessions.stop_times import StopTimes

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[method-assign,assignment]
    read.read(UNITS / name)
    return read


@pytest.mark.processes
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    for each in UNITS.iterdir():
        text = each.read_text().replace("/opt/trio-mcp/bin/trio-mcp", sys.executable)
        (tmp_path / each.name).write_text(text)
    command = ["systemd-analyze", "verify", *(str(tmp_path / each.name) for each in UNITS.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stop_has_all_the_time_that_its_workers_may_take() -> None:
    service = unit("trio-mcp.service")["Service"]
    settings = load(workers=2)
    whole = StopTimes(settings.drain_delay_seconds, settings.drain_timeout, settings.cleanup_timeout).whole
    assert float(service["TimeoutStopSec"]) >= whole + EXTRA_SECONDS


def test_the_stop_signal_goes_to_the_supervisor_alone() -> None:
    """A worker that is sent one as well drains by itself, and hands its sessions to workers that stop, too."""
    assert unit("trio-mcp.service")["Service"]["KillMode"] == "mixed"


def test_the_service_takes_its_socket_from_the_unit_beside_it() -> None:
    service = unit("trio-mcp.service")
    assert service["Unit"]["Requires"] == "trio-mcp.socket"
    assert "--bind fd://3" in service["Service"]["ExecStart"], (
        "the first descriptor that systemd passes on (SD_LISTEN_FDS_START)"
    )
    assert len(unit("trio-mcp.socket")["Socket"]["ListenStream"].split()) == 1
