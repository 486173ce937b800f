"""The folder with the sockets by which the workers of a node reach each other."""

from __future__ import annotations

import socket
import stat
import tempfile
from pathlib import Path

import pytest

from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.workers.launch import MOST_FOLDER, socket_folder

ADDED = f"/{'0' * 16}.moves"


def test_the_folder_is_private_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with socket_folder() as folder:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    assert not Path(folder).exists()


def test_a_folder_whose_name_leaves_no_room_for_sockets_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("d" * MOST_FOLDER)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(McpError, match="set TMPDIR to a shorter folder"), socket_folder():
        pass
    assert not list(long.iterdir()), "nothing is left of it"


def test_where_no_folder_can_be_made_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(McpError, match="Set TMPDIR to one that can be written"), socket_folder():
        pass


@pytest.mark.sockets
def test_the_longest_name_has_room_for_every_socket() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "d" * (MOST_FOLDER - len(short) - 1))
        folder.mkdir()
        path = Path(f"{folder}{ADDED}")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
        assert path.is_socket()
