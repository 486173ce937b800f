"""The settings of one worker: those of the node, with its limits divided, so that all workers together keep them.

A worker that has as many sessions as it may relays an `initialize` to one that has room, so the bound on sessions is exact. Memory and
listen streams are divided, and not lent: a worker may be full while another has room. Sessions of one principal or address are counted by
the supervisor, and not divided.
"""

from __future__ import annotations

from pydantic import SecretStr

from trio_mcp.serving.process_limits import account_of
from trio_mcp.serving.settings import Settings, SettingsError

__all__ = ["check_divisible", "settings_of_worker", "share"]


def share(total: int, workers: int, index: int) -> int:
    """The part of `total` that the worker in place `index` has; all parts together are `total`."""
    return total // workers + (index < total % workers)


MOST_NAME = 50
"""Characters of a node's id; a session id has room for 63, and the names of workers add a number that grows."""


def check_divisible(settings: Settings) -> None:
    """Raises SettingsError when the node cannot have workers, or its limits cannot be divided among them."""
    workers = settings.workers
    faults = []
    if settings.node_id is not None and len(settings.node_id) > MOST_NAME:
        faults.append(f"node_id is longer than {MOST_NAME} characters, and the names of workers are longer still")
    # A worker without any could serve nobody.
    counts = {
        "max_sessions": settings.max_sessions,
        "max_connections": settings.max_connections,
        "max_listen_streams": settings.max_listen_streams,
        "max_websockets": settings.max_websockets,
    }
    faults += [
        f"{name} {count} is less than the number of workers, {workers}"
        for name, count in counts.items()
        if count is not None and count < workers
    ]
    kept = account_of(settings).limit
    if kept // workers < 4 * settings.max_body:
        faults.append(
            f"max_kept_bytes {kept} divided by {workers} workers is less than four times max_body: "
            f"set max_kept_bytes to {4 * settings.max_body * workers} or more, max_body to {kept // workers // 4} or less, or "
            f"workers to {max(1, kept // (4 * settings.max_body))} or less"
        )
    if faults:
        raise SettingsError("\n".join(faults))


def settings_of_worker(settings: Settings, *, name: str, index: int, secret: str, listen_streams: int) -> Settings:
    """The node's settings as the worker `name`, in place `index`, has them.

    `secret` is for a node that has none set; `listen_streams` is the server's own bound, where the settings have none.
    """
    if "max_listen_streams" in settings.model_fields_set:
        listen_streams = settings.max_listen_streams
    workers = settings.workers
    changed: dict[str, object] = {
        "node_id": name,
        "max_sessions": share(settings.max_sessions, workers, index),
        "max_listen_streams": max(1, share(listen_streams, workers, index)),
        "max_websockets": share(settings.max_websockets, workers, index),
        "max_kept_bytes": account_of(settings).limit // workers,
        "admin_bind": None,
    }
    if settings.max_connections is not None:
        changed["max_connections"] = share(settings.max_connections, workers, index)
    if not settings.keys:
        changed["secret"] = SecretStr(secret)
    divided = settings.model_copy(update=changed)
    # `options_of` reads those that were given, and the server's own options for the others.
    divided.__pydantic_fields_set__.add("max_listen_streams")
    return divided
