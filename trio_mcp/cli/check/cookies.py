"""Cookies as the clients people use treat them (RFC 6265): read, kept, sent back, or not."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Cookie", "Jar"]


@dataclass(frozen=True, slots=True)
class Cookie:
    """One `Set-Cookie`."""

    name: str
    value: str = field(repr=False)
    attributes: tuple[tuple[str, str], ...]
    """As they came, with the names' own capitals."""

    @classmethod
    def parse(cls, text: str) -> Cookie:
        """Of a header's value."""
        pair, *rest = text.split(";")
        name, _, value = pair.partition("=")
        attributes = (each.partition("=") for each in rest)
        return cls(name.strip(), value.strip(), tuple((key.strip(), value.strip()) for key, _, value in attributes))

    def attribute(self, name: str) -> str | None:
        """The last one's value; None without it."""
        found = [value for key, value in self.attributes if key.lower() == name]
        return found[-1] if found else None

    @property
    def shown(self) -> str:
        """As it came, but for the value."""
        rest = "".join(f"; {key}={value}" if value else f"; {key}" for key, value in self.attributes)
        return f"{self.name}=<{len(self.value)} characters>{rest}"

    @property
    def secure(self) -> bool:
        """Never sent over plain http."""
        return self.attribute("secure") is not None

    @property
    def ended(self) -> bool:
        """It tells the client to forget it."""
        age = self.attribute("max-age") or ""
        return age.startswith("-") or age == "0"

    def path(self, default: str) -> str:
        """Where it is sent to; `default` is the path of the request that it answered."""
        path = self.attribute("path") or ""
        return path if path.startswith("/") else (default.rpartition("/")[0] or "/")

    def covers(self, path: str, default: str) -> bool:
        """Whether it goes with requests for `path`."""
        own = self.path(default)
        return path == own or (path.startswith(own) and (own.endswith("/") or path[len(own)] == "/"))


class Jar:
    """The cookies of one client, for one path."""

    def __init__(self, path: str, *, secure: bool) -> None:
        self._path = path
        self._secure = secure
        self._kept: dict[str, Cookie] = {}

    def keep(self, cookie: Cookie) -> None:
        """Replace the one of that name."""
        self._kept.pop(cookie.name, None)
        if not cookie.ended:
            self._kept[cookie.name] = cookie

    @property
    def header(self) -> str:
        """What is sent back; empty for nothing."""
        sent = [each for each in self._kept.values() if each.covers(self._path, self._path)]
        return "; ".join(f"{each.name}={each.value}" for each in sent if self._secure or not each.secure)
