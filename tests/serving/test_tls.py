"""TLS: what Hypercorn is for."""

from __future__ import annotations

import datetime
import signal
import ssl
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.rig.waiting import PATIENCE
from trio_mcp import MCPServer
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.launch import launch
from trio_mcp.serving.node import serve
from trio_mcp.serving.settings import load

pytestmark = pytest.mark.sockets


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return tmp_path / "cert.pem", tmp_path / "key.pem"


async def _livez(url: str, trusted: Path) -> bytes:
    port = int(url.rpartition(":")[2].partition("/")[0])
    context = ssl.create_default_context(cafile=str(trusted))
    stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=context, https_compatible=True)
    async with stream:
        await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return bytes(await stream.receive_some())


@pytest.mark.parametrize("apart", [True, False], ids=["two files", "the key in the certificate's file"])
async def test_hypercorn_speaks_tls(apart: bool, files: tuple[Path, Path]) -> None:
    certificate, key = files
    if not apart:
        certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    settings = load(port=0, server="hypercorn", certfile=certificate, keyfile=key if apart else None)
    send, receive = trio.open_memory_channel[list[str]](1)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                assert await serve(MCPServer("x"), settings, announce=lambda urls, _: send.send_nowait(urls)) == 0

            nursery.start_soon(run)
            (url,) = await receive.receive()
            assert url.startswith("https://")
            assert b" 200 " in await _livez(url, certificate)
            signal.raise_signal(signal.SIGTERM)


def test_a_certificate_that_cannot_be_used_is_said_with_the_next_step(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.serving.launch.configure", lambda *_, **__: None)
    certificate, _ = files
    settings = load(port=0, server="hypercorn", certfile=certificate)
    with pytest.raises(McpError, match=r"cannot serve TLS with .*cert\.pem.* Give a PEM certificate chain"):
        launch(MCPServer("x"), "http", settings)
