"""The HTTP headers of a request as handlers get them: text, by name in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["Headers"]


class Headers(Mapping[str, str]):
    """A read-only mapping; `headers["User-Agent"]` and `headers["user-agent"]` are the same, and keys come in lower case.

    Raises TypeError for a name that is not `str`: a look-up by bytes would find nothing and look like a missing header.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):
            raise TypeError(f'a header is looked up by text, as in headers["user-agent"], not {name!r:.80}')
        try:
            return self._raw[name.lower().encode("latin-1")].strip(b" \t").decode("latin-1")
        except (KeyError, UnicodeEncodeError):
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        # Without the values: some are credentials, and this text may get into a log.
        return f"Headers({list(self)})"
