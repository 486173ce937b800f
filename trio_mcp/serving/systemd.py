"""Tells systemd how the node is (`Type=notify`, `WatchdogSec=`): sd_notify(3), without a library.

ready ─▶ READY=1 · rolled ─▶ RELOADING=1, READY=1 · stops ─▶ STOPPING=1 · the event loop runs ─▶ WATCHDOG=1, twice in each period
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

import trio

__all__ = ["Notifier", "ready", "reloading", "stopping"]

ready = b"READY=1"
stopping = b"STOPPING=1"

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def reloading() -> bytes:
    """The service is being replaced by itself, and says `ready` when that is over. systemd wants to know since when."""
    return b"RELOADING=1\nMONOTONIC_USEC=%d" % (time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


class Notifier:
    """The socket of the service manager at `address`, as NOTIFY_SOCKET has it; empty where there is none, and then nothing is sent.

    `watchdog` is after how many seconds without a sign of life it ends the service; None for never.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self.address: str = address
        self.watchdog: float | None = watchdog

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """As the environment says; removed there, for it is not meant for processes that this one starts."""
        address, seconds, pid = (environ.pop(name, "") for name in _VARIABLES)
        if not address.startswith(("/", "@")):
            return cls()
        ours = not pid or pid == str(os.getpid())
        return cls(address, int(seconds) / 1_000_000 if ours and seconds.isdigit() and int(seconds) else None)

    def tell(self, state: bytes) -> None:
        """Send `state`, without waiting. A manager that does not take it is not missed."""
        if not self.address:
            return
        # A name that begins with @ is in the abstract namespace.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto(state, address)

    async def keep_alive(self) -> None:
        """Until cancelled, tell the watchdog that the event loop runs."""
        while self.watchdog is not None:
            self.tell(b"WATCHDOG=1")
            await trio.sleep(self.watchdog / 2)
