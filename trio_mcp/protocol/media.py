"""Images, audio and files that handlers return, made of bytes or a path, and the content blocks they become."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trio_mcp.protocol.types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    TextResourceContents,
)
from trio_mcp.protocol.wire import Made, WireType

__all__ = ["Audio", "File", "Image"]


class _Media(Made):
    _formats: ClassVar[dict[str, str]]
    """File suffix to MIME type."""
    _default: ClassVar[str]

    def __init__(self, path: str | Path | None = None, data: bytes | None = None, format: str | None = None) -> None:
        if (path is None) == (data is None):
            kind = type(self).__name__
            raise TypeError(
                f'{kind} has either a path or data: {kind}(path="it.png") or {kind}(data=b"…", format="png")'
            )
        self.path: Path | None = None if path is None else Path(path)
        self.data: bytes = self.path.read_bytes() if self.path is not None else bytes(data or b"")
        self.mime_type: str = self._mime_type(format)
        self.wire: WireType = self._block()

    def _mime_type(self, format: str | None) -> str:
        name = format if format is not None else self.path.suffix.removeprefix(".") if self.path else ""
        if "/" in name:
            return name
        return self._formats.get(name.lower(), self._unknown(name) if format is not None else self._default)

    def _unknown(self, format: str) -> str:
        return f"{self._default.partition('/')[0]}/{format.lower()}"

    def _block(self) -> ImageContent | AudioContent | EmbeddedResource:
        raise NotImplementedError


class Image(_Media):
    """An image to return from a tool: becomes `ImageContent`.

    `path` is read at once, which blocks: in an async handler read it with `trio.Path` and give `data`. `format` is a suffix such as
    "png" or a MIME type; unless given it is that of the path's suffix, else PNG. Raises TypeError for both or neither of `path`
    and `data`, OSError when the file cannot be read.
    """

    wire_class: type[WireType] = ImageContent
    _formats: ClassVar = {
        "png": "image/png",
        "jpg": "image/jpeg",
        "jpeg": "image/jpeg",
        "gif": "image/gif",
        "webp": "image/webp",
        "svg": "image/svg+xml",
    }
    _default: ClassVar = "image/png"

    def _block(self) -> ImageContent:
        return ImageContent.of(self.data, self.mime_type)

    def to_image_content(self) -> ImageContent:
        """The content block."""
        return self._block()


class Audio(_Media):
    """Audio to return from a tool: becomes `AudioContent`. Arguments and errors as for `Image`; the default format is WAV."""

    wire_class: type[WireType] = AudioContent
    _formats: ClassVar = {
        "wav": "audio/wav",
        "mp3": "audio/mpeg",
        "ogg": "audio/ogg",
        "m4a": "audio/mp4",
        "flac": "audio/flac",
        "aac": "audio/aac",
    }
    _default: ClassVar = "audio/wav"

    def _block(self) -> AudioContent:
        return AudioContent.of(self.data, self.mime_type)

    def to_audio_content(self) -> AudioContent:
        """The content block."""
        return self._block()


class File(_Media):
    """A file to return from a tool: becomes an `EmbeddedResource`, as text where it is text in UTF-8.

    `name` is the last part of its URI, by default the path's. Other arguments and errors as for `Image`; the default format is
    `application/octet-stream`.
    """

    wire_class: type[WireType] = EmbeddedResource
    _formats: ClassVar = {
        "txt": "text/plain",
        "text": "text/plain",
        "plain": "text/plain",
        "md": "text/markdown",
        "csv": "text/csv",
        "html": "text/html",
        "json": "application/json",
        "pdf": "application/pdf",
        "xml": "application/xml",
        "zip": "application/zip",
    }
    _default: ClassVar = "application/octet-stream"

    def __init__(
        self,
        path: str | Path | None = None,
        data: bytes | None = None,
        format: str | None = None,
        name: str | None = None,
    ) -> None:
        self._name = name
        super().__init__(path, data, format)

    def _block(self) -> EmbeddedResource:
        # Imported here: only files have a URI to quote.
        from urllib.parse import quote

        suffix = self.mime_type.rpartition("/")[2]
        uri = f"file:///{quote(self._name or (self.path.name if self.path else f'file.{suffix}'))}"
        if self.mime_type.startswith("text/"):
            try:
                return EmbeddedResource(TextResourceContents(uri, self.data.decode(), self.mime_type))
            except UnicodeDecodeError:
                pass  # Not UTF-8 in spite of its name: it is sent as bytes.
        return EmbeddedResource(BlobResourceContents.of(uri, self.data, self.mime_type))

    def to_resource_content(self) -> EmbeddedResource:
        """The content block."""
        return self._block()
