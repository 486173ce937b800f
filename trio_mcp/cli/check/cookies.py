"""Cookies as MCP clients treat them (RFC 6265): parsed, kept and sent back."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Cookie", "Jar"]


@dataclass(frozen=True, slots=True)
class Cookie:
    """One `Set-Cookie`."""

    name: str
    value: str = field(repr=False)
    attributes: tuple[tuple[str, str], ...]
    """Names and values as they came."""

    @classmethod
    def parse(cls, text: str) -> Cookie:
        """From the value of a `Set-Cookie` header."""
        pair, *rest = text.split(";")
        name, _, value = pair.partition("=")
        attributes = (each.partition("=") for each in rest)
        return cls(name.strip(), value.strip(), tuple((key.strip(), value.strip()) for key, _, value in attributes))

    def attribute(self, name: str) -> str | None:
        """The value of the attribute with this lower-case name, the last one if there are several; None without it."""
        found = [value for key, value in self.attributes if key.lower() == name]
        return found[-1] if found else None

    @property
    def shown(self) -> str:
        """The cookie as it came, with the length of the value in place of the value."""
        rest = "".join(f"; {key}={value}" if value else f"; {key}" for key, value in self.attributes)
        return f"{self.name}=<{len(self.value)} characters>{rest}"

    @property
    def secure(self) -> bool:
        """Whether it is never sent over plain http."""
        return self.attribute("secure") is not None

    @property
    def ended(self) -> bool:
        """Whether it tells the client to forget the cookie."""
        age = self.attribute("max-age") or ""
        return age.startswith("-") or age == "0"

    def path(self, default: str) -> str:
        """The path it is sent for, without which it is the folder of `default`, the path of the request it answered."""
        path = self.attribute("path") or ""
        return path if path.startswith("/") else (default.rpartition("/")[0] or "/")

    def covers(self, path: str, default: str) -> bool:
        """Whether it is sent with requests for `path` (RFC 6265 §5.1.4)."""
        own = self.path(default)
        return path == own or (path.startswith(own) and (own.endswith("/") or path[len(own)] == "/"))


class Jar:
    """The cookies of one client, for one path."""

    def __init__(self, path: str, *, secure: bool) -> None:
        self._path = path
        self._secure = secure
        self._kept: dict[str, Cookie] = {}

    def keep(self, cookie: Cookie) -> None:
        """Keep a cookie in place of the one with its name, or forget that one."""
        self._kept.pop(cookie.name, None)
        if not cookie.ended:
            self._kept[cookie.name] = cookie

    @property
    def header(self) -> str:
        """The value of the `Cookie` header; "" for no header."""
        sent = [each for each in self._kept.values() if each.covers(self._path, self._path)]
        return "; ".join(f"{each.name}={each.value}" for each in sent if self._secure or not each.secure)
