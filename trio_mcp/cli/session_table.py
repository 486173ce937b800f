"""Nodes and sessions as `trio-mcp sessions` shows them: as JSON, and as rows with short ids and ages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trio_mcp.cli.cluster_view import FoundSessions, RecordedSession, SeenNode

__all__ = ["NODE_COLUMNS", "SESSION_COLUMNS", "SessionTable", "duration", "labels", "shortened"]

NODE_COLUMNS = ("node", "state", "seen", "sessions", "up", "boot", "url")
SESSION_COLUMNS = ("session", "node", "state", "age", "version", "client")

SHORT = 8
"""Characters of a session id, as in logs."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

Entry = dict[str, Any]


class SessionTable:
    """What Redis has of nodes and sessions; `now` is the wall clock's time in seconds, for ages."""

    def __init__(self, nodes: Sequence[SeenNode], found: FoundSessions, now: float) -> None:
        cards = {node.name: node.card for node in nodes}
        self.nodes: list[Entry] = [_node(node, now) for node in nodes]
        self.complete: bool = found.complete
        order = sorted(found.sessions, key=lambda line: ("" if line.record is None else line.record.node, line.id))
        self.sessions: list[Entry] = [
            {
                "session": label,
                **_session(line, line.is_with(cards.get(line.record.node)) if line.record else False, now),
            }
            for line, label in zip(order, labels(order), strict=True)
        ]

    def as_json(self) -> Entry:
        """One JSON document."""
        return {"nodes": self.nodes, "sessions": self.sessions, "complete": self.complete}

    def node_rows(self) -> list[tuple[str, ...]]:
        """The cells under `NODE_COLUMNS`."""
        return [_node_row(node) for node in self.nodes]

    def session_rows(self) -> list[tuple[str, ...]]:
        """The cells under `SESSION_COLUMNS`."""
        return [_session_row(session) for session in self.sessions]


def labels(lines: Sequence[RecordedSession], *, with_node: bool = False) -> list[str]:
    """The ids, all cut to the same length: 8 characters, or as many as it takes to tell them apart."""
    length = SHORT
    longest = max((len(line.id) for line in lines), default=0)
    while len(short := [_label(line, length, with_node) for line in lines]) != len(set(short)) and length < longest:
        length += 1
    return short


def shortened(ids: Sequence[str]) -> list[str]:
    """The ids, all cut to the same length: 8 characters, or as many as it takes to tell them apart."""
    longest = max(map(len, ids), default=0)
    length = SHORT
    while len({each[:length] for each in ids}) != len(set(ids)) and length < longest:
        length += 1
    return [each[:length] for each in ids]


def _label(line: RecordedSession, length: int, with_node: bool) -> str:
    node, _, rest = line.id.rpartition(".")
    return f"{node}.{rest[:length]}" if with_node and node else rest[:length]


def _node(line: SeenNode, now: float) -> Entry:
    seen = {"node": line.name, "seen_seconds_ago": round(line.seen_ago), "stale": line.is_stale}
    card = line.card
    if card is None:
        return {**seen, "state": "gone", "sessions": 0, "up_seconds": None, "boot": None, "url": None}
    up = max(0, round(now - card.started / 1000))
    return {
        **seen,
        "state": card.state,
        "sessions": card.sessions,
        "up_seconds": up,
        "boot": card.boot,
        "url": card.url,
    }


def _session(line: RecordedSession, is_with_its_node: bool, now: float) -> Entry:
    record = line.record
    if record is None:
        nothing = {"transport": None, "restorable": False, "restored": 0}
        return {"node": None, "state": "no record", **nothing, **_client(None, "", None)}
    age = max(0, round(now - record.created)) if record.created else None
    return {
        "node": record.node,
        "state": "released" if record.released else "open" if is_with_its_node else "node gone",
        "transport": record.transport or "http",
        "restorable": record.restorable,
        "restored": record.epoch,
        **_client(record.info, record.version, age),
    }


def _client(info: dict[str, Any] | None, version: str, age: int | None) -> Entry:
    info = info or {}
    return {"client": info.get("name"), "client_version": info.get("version"), "version": version, "age_seconds": age}


def _node_row(node: Entry) -> tuple[str, ...]:
    if node["state"] == "gone":
        return (node["node"], "gone", f"{duration(node['seen_seconds_ago'])} ago", "-", "-", "-", "-")
    seen = f"{duration(node['seen_seconds_ago'])} ago" + (", stale" if node["stale"] else "")
    url = node["url"] or "(not reached at its own URL)"
    return (node["node"], node["state"], seen, str(node["sessions"]), duration(node["up_seconds"]), node["boot"], url)


def _session_row(session: Entry) -> tuple[str, ...]:
    client = " ".join(str(part) for part in (session["client"], session["client_version"]) if part)
    notes = ["websocket"] * (session["transport"] == "websocket") + ["restorable"] * session["restorable"]
    state = ", ".join([session["state"], *notes])
    age = duration(session["age_seconds"])
    return (session["session"], session["node"] or "-", state, age, session["version"] or "-", client or "-")


def duration(seconds: int | None) -> str:
    """A duration in its largest unit, such as `3 h`."""
    if seconds is None:
        return "-"
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"
